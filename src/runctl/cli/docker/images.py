"""``docker list`` and ``prune``: the images of a project, here and in the registry."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from runctl.cli.context import Cli
from runctl.cli.docker.options import registry_option
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import complete_instances
from runctl.cli.framework.values import WholeNumber, wide_option
from runctl.cli.machines.resolve import provider_of, running_instance, transport_option, transport_to
from runctl.containers.stored_images import (
    RunDocker,
    StoredImage,
    Where,
    engine_images,
    prunable,
)
from runctl.core.errors import MachineError, ProjectError
from runctl.core.text import counted
from runctl.project.label import project_label
from runctl.render.images import images_table, pruned_document, pruned_lines
from runctl.render.tables import screen_of
from runctl.runs.images.stored import needed_images, remove_images, stored_images

_INSTANCE = click.option(
    "--instance",
    metavar="ID|NAME",
    shell_complete=complete_instances,
    help="Images in this machine's engine instead.",
)
_ALL = click.option("--all-projects", is_flag=True, help="Images of every project, not only of this one.")


@click.command("list", cls=Command, exclusive=[("--instance", "--registry")])
@_ALL
@registry_option
@_INSTANCE
@transport_option(None)
@wide_option
@click.pass_obj
def list_command(
    cli: Cli,
    *,
    all_projects: bool,
    registry: str | None,
    instance: str | None,
    transport: str | None,
    wide: bool,
) -> None:
    """List the project's images.

    Those in this computer's engine, and in the provider's own registry if that is configured; or those of one machine.
    """
    project = None if all_projects else _project(cli)
    if instance is not None:
        with _docker_on(cli, instance, transport) as docker:
            images = engine_images(docker, project, Where.INSTANCE)
    else:
        images = stored_images(cli.session, project, registry or cli.config.docker.registry)
    if not images:
        cli.progress.note("no images; runctl docker build makes one")
    cli.emit(
        images,
        text=lambda: images_table(images, screen=screen_of(sys.stdout, wide=wide)),
        ids=[image.reference for image in images],
    )


@click.command("prune", cls=Command, exclusive=[("--instance", "--registry")])
@_ALL
@registry_option
@click.option(
    "--keep",
    type=WholeNumber(0),
    metavar="N",
    help="Keep this many images (default: [docker] keep_images).",
)
@_INSTANCE
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and stop there.")
@transport_option(None)
@click.pass_obj
def prune_command(
    cli: Cli,
    *,
    all_projects: bool,
    registry: str | None,
    keep: int | None,
    instance: str | None,
    dry_run: bool,
    transport: str | None,
) -> None:
    """Remove all but the newest images of the project.

    Here, and in the provider's own registry if that is configured; or on one machine. Only images that runctl built,
    and repositories that it created. Caches stay, and images of unfinished runs. Asks first, unless --yes is given.
    """
    project = None if all_projects else _project(cli)
    if instance is not None:
        with _docker_on(cli, instance, transport) as docker:
            found = engine_images(docker, project, Where.INSTANCE)
            _prune(cli, found, keep, docker, dry_run=dry_run)
        return
    registry = registry or cli.config.docker.registry
    _prune(cli, stored_images(cli.session, project, registry), keep, None, registry=registry, dry_run=dry_run)


@contextmanager
def _docker_on(cli: Cli, instance: str, transport: str | None) -> Iterator[RunDocker]:
    """The docker of a machine, as its root."""
    machine = running_instance(cli, provider_of(cli, instance), instance)
    way = transport_to(cli, machine, transport)

    def docker(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        done = way.run(["docker", *arguments], as_root=True)
        return subprocess.CompletedProcess(done.argv, done.exit_code, done.stdout, done.stderr)

    try:
        yield docker
    finally:
        way.close()


def _prune(
    cli: Cli,
    images: Sequence[StoredImage],
    keep: int | None,
    docker: RunDocker | None,
    *,
    registry: str | None = None,
    dry_run: bool,
) -> None:
    """``docker`` is the machine's, ``None`` this computer's."""
    stay = cli.config.docker.keep_images if keep is None else keep
    older = prunable(images, stay, needed_images(cli.session))
    going = older.going
    if older.needed:
        cli.progress.note(f"unfinished runs need {counted(len(older.needed), 'older image')}: kept")
    if dry_run or not going:
        if not going and not older.needed:
            cli.progress.note(f"nothing to remove: there are no more than {stay} of a project")
        cli.emit(
            pruned_document(going, (), dry_run=True),
            text=lambda: "\n".join(pruned_lines(going)),
            ids=[image.reference for image in going],
        )
        return
    cli.say("\n".join(pruned_lines(going)))
    cli.confirm(f"Remove {counted(len(going), 'image')} for good?")
    gone, failed = remove_images(cli.session, going, docker, registry=registry)
    cli.emit(
        pruned_document(gone, failed, dry_run=False),
        text=lambda: "\n".join(image.reference for image in gone),
        ids=[image.reference for image in gone],
    )
    if failed:
        raise MachineError(
            f"{counted(len(failed), 'image')} could not be removed: {failed[0][0].reference}: {failed[0][1]}",
            hint="a container may use it: docker ps --all",
            code="image-in-use",
        )


def _project(cli: Cli) -> str:
    name = project_label(None, cli.config, Path.cwd())
    if name is None:
        raise ProjectError(
            f"{Path.cwd()} is not in a project",
            hint="run it in the project's folder, or see all of them: --all-projects",
            code="no-project",
        )
    return name
