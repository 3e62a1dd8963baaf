"""``docker build``, ``push`` and ``build-push``: each is done once, and says so when it was done before."""

from __future__ import annotations

from pathlib import Path

import click

from runctl.cli.context import Cli
from runctl.cli.docker.options import (
    BuildOptions,
    build_on_option,
    build_options,
    dockerfile_options,
    registry_option,
)
from runctl.cli.docker.project import docker_project
from runctl.cli.docker.work import ECR, DockerWork
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import complete_instances
from runctl.cli.machines.resolve import transport_option
from runctl.containers.building import Built, Pushed
from runctl.containers.client import find_client
from runctl.containers.where import INSTANCE, LOCAL
from runctl.core.errors import MachineError, NotFound, Unsupported, UsageError
from runctl.project.dockerfile import DockerfileWish
from runctl.render.images import build_document, build_text, image_plan_document, image_plan_lines, push_text

_DRY_RUN = click.option("--dry-run", is_flag=True, help="Show the plan, and stop there.")


def _work(
    cli: Cli,
    dockerfile: Path | None,
    *,
    search: bool,
    build: BuildOptions,
    registry: str | None,
    without_engine: str = "",
) -> DockerWork:
    project = docker_project(cli, dockerfile, search=search)
    return DockerWork(cli, project, build, registry, without_engine=without_engine)


@click.command("build", cls=Command)
@dockerfile_options
@build_options
@registry_option
@build_on_option
@click.option(
    "--instance", metavar="INSTANCE", shell_complete=complete_instances, help="The machine to build on."
)
@transport_option
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

    Here if a Docker engine answers, else on --instance, from what is sent there; --build-on decides otherwise.

    The tag is a digest of everything that goes into the image. Afterwards it says which instruction broke the cache,
    and what had changed. With a registry its cache is used; nothing is pushed.
    """
    if _is_for_instance(cli, build_on, instance):
        from runctl.cli.docker.instance import build_on_instance

        wish = DockerfileWish(dockerfile, cli.config.docker.dockerfile_path, dockerfile_search)
        return build_on_instance(cli, instance, wish, build, transport=transport, dry_run=dry_run)
    work = _work(
        cli,
        dockerfile,
        search=dockerfile_search,
        build=build,
        registry=registry or cli.config.docker.registry,
        without_engine="build on a machine: runctl docker build --build-on instance --instance INSTANCE",
    )
    there = "engine" if work.client.has_image(work.plan.local) and not build.again else None
    if dry_run:
        _show(cli, work, there, pushes=False)
        return 0
    cli.say("\n".join(image_plan_lines(work.plan, work.context, there, target=None)))
    if there:
        built = work.builder().build(work.plan, work.secrets)
    else:
        with work.logged_in() as builder:
            built = builder.build(work.plan, work.secrets, again=build.again, now=work.now)
    _emit(cli, work, built, None)
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

    The options are those that it was built with. An ECR repository is created if it is missing.
    """
    if build.again:
        raise UsageError("docker push builds nothing", hint="runctl docker build-push --rebuild (or --pull)")
    work = _work(
        cli,
        dockerfile,
        search=dockerfile_search,
        build=build,
        registry=registry or cli.config.docker.registry or ECR,
    )
    if not work.client.has_image(work.plan.local):
        raise NotFound(
            f"the engine has no image of {work.project.root} as it is now ({work.plan.local})",
            hint="runctl docker build-push builds it first",
            code="no-image",
        )
    if dry_run:
        _show(cli, work, "engine", pushes=True)
        return
    assert work.target is not None  # noqa: S101 - there is a registry
    cli.say("\n".join(image_plan_lines(work.plan, work.context, "engine", target=work.target.plan)))
    work.ensure_repository()
    with work.logged_in() as builder:
        pushed = builder.push(work.plan, work.secrets)
    _emit(cli, work, Built(work.plan.local, work.plan.tag, False, "engine", 0.0), pushed)


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

    An ECR repository is created if it is missing. Every stage's cache is pushed too, so that another machine builds
    only what has changed.
    """
    work = _work(
        cli,
        dockerfile,
        search=dockerfile_search,
        build=build,
        registry=registry or cli.config.docker.registry or ECR,
    )
    if dry_run:
        _show(cli, work, None, pushes=True)
        return
    built, pushed = build_and_push(work)
    _emit(cli, work, built, pushed)


def build_and_push(work: DockerWork) -> tuple[Built, Pushed]:
    """The registry has the image; what is there already is neither built nor pushed."""
    assert work.target is not None  # noqa: S101 - there is a registry
    cli, plan, target = work.cli, work.plan, work.target
    reference, again = str(plan.remote), work.options.again
    with work.logged_in() as builder:
        new = target.plan is not None and not target.plan.exists
        if not again and not new and builder.in_registry(reference):
            cli.progress.note(f"{reference} is in the registry already: nothing to build, nothing to push")
            work.records.remember(plan.root, plan.inputs)
            work.ensure_repository()
            there = Built(reference, plan.tag, False, "registry", 0.0)
            return there, Pushed(reference, False, None, 0, 0, 0.0)
        cli.say("\n".join(image_plan_lines(plan, work.context, None, target=target.plan)))
        work.ensure_repository()
        built = builder.build(plan, work.secrets, again=again, push=True, now=work.now)
        if built.where == "registry":
            return built, Pushed(reference, True, None, 0, 0, 0.0)
        return built, builder.push(plan, work.secrets, again=bool(again), report=built.report)


def _show(cli: Cli, work: DockerWork, there: str | None, *, pushes: bool) -> None:
    target = work.target.plan if work.target is not None and pushes else None
    if there is None and pushes and work.target is not None:
        new = work.target.plan is not None and not work.target.plan.exists
        with work.logged_in() as builder:
            if not new and not work.options.again and builder.in_registry(str(work.plan.remote)):
                there = "registry"
    if there is None and not work.options.again and work.client.has_image(work.plan.local):
        there = "engine"
    cli.emit(
        image_plan_document(work.plan, work.context, there, target=target),
        text=lambda: "\n".join(image_plan_lines(work.plan, work.context, there, target=target)),
        ids=(),
    )


def _emit(cli: Cli, work: DockerWork, built: Built, pushed: Pushed | None) -> None:
    reference = pushed.reference if pushed is not None else built.reference
    cli.emit(
        build_document(work.plan, built, pushed),
        text=lambda: reference,
        ids=[reference],
    )
    if built.where == "registry" and not built.built and pushed is not None and not pushed.pushed:
        # That there was nothing to do has been said.
        return
    cli.say("\n".join(part for part in (build_text(work.plan, built), push_text(pushed)) if part))
