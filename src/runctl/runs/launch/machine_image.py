"""The image of a machine that is a container itself: the one that is named, or the project's own, built here and pushed
to a registry that the provider can read."""

from __future__ import annotations

from dataclasses import replace

from runctl._dataclasses import dataclass
from runctl.agent.spec import ContainerSpec
from runctl.containers.where import INSTANCE
from runctl.core.errors import Unsupported, UsageError
from runctl.machines.session import Session
from runctl.project.docker.dockerfile import DockerfileRequest
from runctl.providers.instance_plans import CreatePlan, InstanceRequest
from runctl.providers.interface import Provider
from runctl.runs.images.build import ImageBuild
from runctl.runs.images.registry_logins import keep_pull_login
from runctl.runs.images.settled_image import ImageOptions
from runctl.runs.train.machine_image import image_build
from runctl.runs.train.project_plan import ProjectPlan, TrainRequest, plan_project


@dataclass(frozen=True)
class MachineImage:
    """What the machine is to be a container of."""

    provider: str
    reference: str
    reason: str
    build: ImageBuild | None = None
    """``None``: it is there already."""

    def publish(self, session: Session) -> None:
        """The registry has it, and the provider can pull it. Raises what building and pushing raise."""
        if self.build is not None:
            self.build.build_and_push()
        keep_pull_login(session, session.provider(self.provider), self.reference)


@dataclass(frozen=True)
class WithMachineImage:
    """A launch, its image settled."""

    train: TrainRequest
    machine: InstanceRequest
    project: ProjectPlan
    image: MachineImage | None = None
    """``None``: machines are no containers of the provider's, or this one is as the provider has it."""

    def explained(self, plan: CreatePlan) -> CreatePlan:
        """The machine's plan, with where its image comes from."""
        return plan if self.image is None else replace(plan, image_reason=self.image.reason)


def settle_machine_image(
    session: Session, provider: Provider, train: TrainRequest, machine: InstanceRequest, options: ImageOptions
) -> WithMachineImage:
    """The run's image as the machine's, where machines are containers. Nothing is built.

    Raises what `plan_project` raises, `UsageError` where nothing says to which registry the project's image goes, and
    `Unsupported` for a build on the machine.
    """
    project = plan_project(train)
    images, container = provider.machine_images, project.container
    if isinstance(images, Unsupported) or container is None or container.compose is not None:
        return WithMachineImage(train, machine, project)
    if machine.image is not None:
        raise UsageError(
            f"the machine is to be a container of {machine.image}, and the run has an image of its own",
            hint="leave one of them out; --no-docker runs the script in the machine's",
        )
    if container.image is not None:
        image = MachineImage(provider.name, container.image, "as you asked")
    else:
        image = _own(session, provider, project, container, options)
    train = replace(train, machine_image=image.reference, dockerfile=DockerfileRequest())
    return WithMachineImage(train, replace(machine, image=image.reference), plan_project(train), image)


def _own(
    session: Session,
    provider: Provider,
    project: ProjectPlan,
    container: ContainerSpec,
    options: ImageOptions,
) -> MachineImage:
    config = session.config.docker
    if (options.build_on or config.build_on) == INSTANCE:
        raise Unsupported(
            f"a machine of {provider.name} is made of an image, and builds none",
            hint="--build-on local builds it here",
        )
    dockerfile = str(container.dockerfile)
    if config.registry is None:
        raise UsageError(
            f"a machine of {provider.name} is a container of an image that {provider.name} pulls, and nothing says from"
            f" where it can pull that of {dockerfile}",
            hint="name a registry: runctl config set docker.registry HOST/PATH; --no-docker sets the project up in"
            " the machine's usual image",
            code="no-registry",
        )
    build = image_build(session, provider.name, project, dockerfile, options)
    return MachineImage(provider.name, str(build.plan.remote), f"{dockerfile}, built here and pushed", build)
