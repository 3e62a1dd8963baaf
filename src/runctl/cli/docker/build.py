"""``docker build``, ``push``, ``build-push`` and ``detect``: each is done once, and says so when it was done before."""

from __future__ import annotations

from pathlib import Path

import click

from runctl.cli.context import Cli
from runctl.cli.docker.options import (
    build_on_option,
    build_options,
    dockerfile_options,
    registry_option,
)
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import complete_instances
from runctl.cli.machines.resolve import transport_option
from runctl.containers.building import Built, Pushed
from runctl.containers.client import find_client
from runctl.containers.image_plan import BuildOptions
from runctl.containers.where import INSTANCE, LOCAL
from runctl.core.errors import MachineError, NotFound, Unsupported, UsageError
from runctl.project.docker.dockerfile import DockerfileRequest
from runctl.providers.registry import usual_registry
from runctl.render.images import build_document, build_text, image_plan_document, image_plan_lines, push_text
from runctl.runs.images.build import ImageBuild, image_project

_DRY_RUN = click.option("--dry-run", is_flag=True, help="Show the plan, and stop there.")


def _request(cli: Cli, dockerfile: Path | None, *, search: bool) -> DockerfileRequest:
    return DockerfileRequest(dockerfile, cli.config.docker.dockerfile_path, search)


def _image_build(
    cli: Cli,
    dockerfile: Path | None,
    *,
    search: bool,
    build: BuildOptions,
    registry: str | None,
    without_engine: str = "",
) -> ImageBuild:
    project = image_project(cli.session, Path.cwd(), _request(cli, dockerfile, search=search))
    return ImageBuild(cli.session, project, build, registry, without_engine=without_engine)


@click.command("build", cls=Command)
@dockerfile_options
@build_options
@registry_option
@build_on_option
@click.option(
    "--instance", metavar="INSTANCE", shell_complete=complete_instances, help="The machine to build on."
)
@transport_option(None)
@_DRY_RUN
@click.pass_obj
def build_command(
    cli: Cli,
    *,
    dockerfile: Path | None,
    dockerfile_search: bool,
    build: BuildOptions,
    registry: str | None,
    build_on: str | None,
    instance: str | None,
    transport: str | None,
    dry_run: bool,
) -> int:
    """Build the project's image, unless it is there.

    On this computer if a Docker engine answers, else on --instance, which is sent the project; --build-on overrides
    that.

    The tag is a digest of everything that goes into the image. Afterwards it says which instruction broke the cache,
    and what had changed. A registry's cache is used if one is configured; nothing is pushed.
    """
    if _is_for_instance(cli, build_on, instance):
        request = _request(cli, dockerfile, search=dockerfile_search)
        return _build_on_instance(cli, instance, request, build, transport=transport, dry_run=dry_run)
    image = _image_build(
        cli,
        dockerfile,
        search=dockerfile_search,
        build=build,
        registry=registry or cli.config.docker.registry,
        without_engine="build on a machine: runctl docker build --build-on instance --instance INSTANCE",
    )
    if dry_run:
        _show(cli, image, pushes=False)
        return 0
    cli.say("\n".join(image_plan_lines(image.plan, image.context, image.find(pushes=False), target=None)))
    _emit(cli, image, image.build(), None)
    return 0


def _is_for_instance(cli: Cli, build_on: str | None, instance: str | None) -> bool:
    """The flag, the configuration, else the machine named if no engine answers here."""
    if build_on == LOCAL and instance is not None:
        raise UsageError(
            "--build-on local and --instance contradict each other", hint="leave one of them out"
        )
    asked = build_on or cli.config.docker.build_on
    if asked is not None or instance is None:
        return asked == INSTANCE
    try:
        find_client()
    except (MachineError, Unsupported) as error:
        cli.progress.note(f"building on {instance}: {error.message}")
        return True
    return False


def _build_on_instance(
    cli: Cli,
    reference: str | None,
    request: DockerfileRequest,
    build: BuildOptions,
    *,
    transport: str | None,
    dry_run: bool,
) -> int:
    """The machine's engine has the image. It is a run, which goes on when this computer sleeps; its log has been
    shown, and its exit code is returned."""
    from runctl.cli.machines.resolve import find_instance, provider_of
    from runctl.cli.train.carry_out import carry_out, show_plan
    from runctl.runs.images.settled_image import ImageOptions
    from runctl.runs.train.project_plan import plan_project
    from runctl.runs.train.request import build_request
    from runctl.runs.train.training import Training

    if reference is None:
        raise UsageError(
            "--build-on instance: on which one?",
            hint="name it: --instance INSTANCE",
            code="no-instance",
        )
    training_request = build_request(cli.config, Path.cwd(), request)
    project = plan_project(training_request)
    training = Training(
        cli.session,
        training_request,
        project,
        find_instance(cli, provider_of(cli, reference), reference),
        transport,
        ImageOptions(build, INSTANCE, only=True),
    )
    plan = training.plan()
    if dry_run:
        show_plan(cli, plan)
        return 0
    return carry_out(cli, training, plan, wait=True)


@click.command("push", cls=Command)
@dockerfile_options
@build_options
@registry_option
@_DRY_RUN
@click.pass_obj
def push_command(
    cli: Cli,
    *,
    dockerfile: Path | None,
    dockerfile_search: bool,
    build: BuildOptions,
    registry: str | None,
    dry_run: bool,
) -> None:
    """Push the image of the project as it is now, unless the registry has it.

    Give the options that it was built with. The provider's repository is created if it is missing.
    """
    if build.rebuild:
        raise UsageError("docker push builds nothing", hint="runctl docker build-push --rebuild (or --pull)")
    image = _image_build(
        cli,
        dockerfile,
        search=dockerfile_search,
        build=build,
        registry=registry or cli.config.docker.registry or usual_registry(),
    )
    if not image.client.has_image(image.plan.local):
        raise NotFound(
            f"the engine has no image of {image.project.root} as it is now ({image.plan.local})",
            hint="runctl docker build-push builds it first",
            code="no-image",
        )
    if dry_run:
        _show(cli, image, pushes=True, there="engine")
        return
    _say_plan(cli, image, "engine")
    pushed = image.push()
    _emit(cli, image, Built(image.plan.local, image.plan.tag, False, "engine", 0.0), pushed)


@click.command("build-push", cls=Command)
@dockerfile_options
@build_options
@registry_option
@_DRY_RUN
@click.pass_obj
def build_push_command(
    cli: Cli,
    *,
    dockerfile: Path | None,
    dockerfile_search: bool,
    build: BuildOptions,
    registry: str | None,
    dry_run: bool,
) -> None:
    """Build the project's image and push it, unless the registry has it.

    The provider's repository is created if it is missing. Every stage's cache is pushed too, so that another machine
    builds only what has changed.
    """
    image = _image_build(
        cli,
        dockerfile,
        search=dockerfile_search,
        build=build,
        registry=registry or cli.config.docker.registry or usual_registry(),
    )
    if dry_run:
        _show(cli, image, pushes=True)
        return
    built, pushed = image.build_and_push(lambda: _say_plan(cli, image, None))
    _emit(cli, image, built, pushed)


def _say_plan(cli: Cli, image: ImageBuild, there: str | None) -> None:
    assert image.target is not None  # noqa: S101 - there is a registry
    cli.say("\n".join(image_plan_lines(image.plan, image.context, there, target=image.target.plan)))


def _show(cli: Cli, image: ImageBuild, *, pushes: bool, there: str | None = None) -> None:
    target = image.target.plan if image.target is not None and pushes else None
    found = there or image.find(pushes=pushes)
    cli.emit(
        image_plan_document(image.plan, image.context, found, target=target),
        text=lambda: "\n".join(image_plan_lines(image.plan, image.context, found, target=target)),
        ids=(),
    )


def _emit(cli: Cli, image: ImageBuild, built: Built, pushed: Pushed | None) -> None:
    reference = pushed.reference if pushed is not None else built.reference
    cli.emit(
        build_document(image.plan, built, pushed),
        text=lambda: reference,
        ids=[reference],
    )
    if built.where == "registry" and not built.built and pushed is not None and not pushed.pushed:
        # That there was nothing to do has been said.
        return
    cli.say("\n".join(part for part in (build_text(image.plan, built), push_text(pushed)) if part))


@click.command("detect", cls=Command)
@dockerfile_options
@click.pass_obj
def detect_command(cli: Cli, dockerfile: Path | None, dockerfile_search: bool) -> None:
    """Show which Dockerfile an image would be built from, and why.

    The first one that exists: --dockerfile, [docker] dockerfile_path, a known location, --dockerfile-search.
    """
    from runctl.containers.dockerfile_text import parse_dockerfile
    from runctl.containers.image_inputs import unpinned_bases
    from runctl.project.docker.dockerignore import ignore_file
    from runctl.render.images import detected_document, detected_text

    project = image_project(cli.session, Path.cwd(), _request(cli, dockerfile, search=dockerfile_search))
    parsed = parse_dockerfile((project.root / project.dockerfile.path).read_text(encoding="utf-8-sig"))
    found = detected_document(
        project.root,
        project.dockerfile,
        ignore_file(project.root, project.dockerfile.path),
        parsed,
        unpinned_bases(parsed, None),
    )
    cli.emit(found, text=lambda: detected_text(found), ids=[project.dockerfile.path])
