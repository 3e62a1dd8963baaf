"""A run on a machine that is a container itself: there is no engine in it, so that the run has what the machine's image
has."""

from __future__ import annotations

from dataclasses import replace

from runctl.core.errors import Conflict, Unsupported
from runctl.core.machine_models import Instance
from runctl.machines.session import Session
from runctl.project.docker.dockerfile import DockerfileChoice, DockerfileRequest
from runctl.project.label import fit_for_a_tag
from runctl.providers.registry import command
from runctl.runs.images.build import ImageBuild, ImageProject
from runctl.runs.images.settled_image import BY_CONFIGURATION, ImageOptions
from runctl.runs.train.project_plan import ProjectPlan, TrainRequest, plan_project


def in_machines_image(
    session: Session,
    train: TrainRequest,
    project: ProjectPlan,
    instance: Instance,
    options: ImageOptions = BY_CONFIGURATION,
) -> tuple[TrainRequest, ProjectPlan]:
    """The request with the image that the machine has, where that is the one that the run is to be in, and its project.

    What the image has is what the run has; the project is as it is here. Raises what `plan_project` raises, and
    `Conflict` (code ``other-image``) for a machine of another image.
    """
    provider, container = session.provider(instance.provider), project.container
    images = provider.machine_images
    if isinstance(images, Unsupported) or container is None or container.compose is not None:
        return train, project
    has = images.image_of(instance.id)
    if container.image is not None:
        if container.image != has:
            raise _other(instance, has, f"the image {container.image}")
    else:
        build = image_build(
            session, provider.name, project, str(container.dockerfile), options, instance.instance_type
        )
        wanted = build.plan.remote if build.target is not None else None
        if wanted is None or build.target is None or has.rpartition(":")[0] != build.target.repository:
            raise _other(instance, has, f"the image of {container.dockerfile}")
        if has != str(wanted):
            session.progress.warn(
                f"{instance.id} is a container of {has}, and {container.dockerfile} makes another one now: what the run"
                " finds installed is as it was then"
            )
    train = replace(train, machine_image=has, dockerfile=DockerfileRequest())
    return train, plan_project(train)


def image_build(
    session: Session,
    provider: str,
    project: ProjectPlan,
    dockerfile: str,
    options: ImageOptions,
    instance_type: str | None = None,
) -> ImageBuild:
    """The project's image for a machine of the provider's, by the configured registry. Nothing is built."""
    root = project.root.path
    name = session.config.project.name or fit_for_a_tag(root.name)
    return ImageBuild(
        session,
        ImageProject(root, name, DockerfileChoice(dockerfile, "")),
        options.build,
        session.config.docker.registry,
        provider,
        instance_type,
    )


def _other(instance: Instance, has: str, wanted: str) -> Conflict:
    return Conflict(
        f"{instance.id} is a container of {has}, with no Docker inside: it cannot run {wanted}",
        hint=f"--no-docker sets the project up in it; --image {has} runs the script with what that has;"
        f" {command(instance.provider, 'launch')} makes a machine of the project's image",
        code="other-image",
    )
