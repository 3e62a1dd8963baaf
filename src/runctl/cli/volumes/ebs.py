"""What the commands about volumes share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from runctl.cli.context import Cli
from runctl.cli.framework.completion_memory import VOLUMES, Seen, remember
from runctl.cli.framework.each import for_each
from runctl.cli.framework.values import COUNT, MIB_PER_SECOND
from runctl.core.machine_models import Instance, Snapshot, Volume, VolumeState
from runctl.core.tags import GROW
from runctl.machines.deletion import Deleting, Resource
from runctl.machines.volumes import new_volume
from runctl.providers.abilities.volume_plans import VolumeRequest
from runctl.providers.registry import volume_group
from runctl.render.plans.machine_plans import plan_document
from runctl.render.plans.volume_plans import volume_plan_text
from runctl.render.tables import screen_of
from runctl.render.volumes import volume_details, volumes_table

F = TypeVar("F", bound=Callable[..., Any])


def create_volume(cli: Cli, provider: str, request: VolumeRequest, *, dry_run: bool) -> None:
    """Plan it, show the plan, make it once; the volume is the command's result."""
    with new_volume(cli.session, provider, request) as prepared:
        if shown(cli, prepared.plan, volume_plan_text(prepared.plan), dry_run=dry_run):
            return
        volume = prepared.carry_out()
    note_growth(cli, volume)
    emit_volume(cli, provider, volume)


def delete_all(
    cli: Cli,
    deleting: Deleting[Resource],
    emit: Callable[[Sequence[Resource]], None],
    question: Callable[[str], str],
    *,
    dry_run: bool,
) -> None:
    """Show what would be deleted, or ask and delete it; what is deleted is the command's result."""
    if dry_run:
        cli.progress.note("would be deleted:")
        emit(deleting.found)
        return
    if deleting.found:
        cli.confirm(question(", ".join(map(_described, deleting.found))))
    for_each(cli, deleting.found, deleting.delete, emit)


def _described(resource: Instance | Volume | Snapshot) -> str:
    parts: tuple[str | None, ...] = ()
    if isinstance(resource, Volume):
        parts = (resource.name, f"{resource.size_gib} GiB", "persistent" if resource.persistent else None)
    elif isinstance(resource, Snapshot):
        parts = (resource.name,)
    known = ", ".join(part for part in parts if part)
    return f"{resource.id} ({known})" if known else resource.id


def emit_volume(cli: Cli, provider: str, volume: Volume) -> None:
    """One volume as the command's result."""
    remember_volumes(cli, provider, [volume])
    cli.emit(volume, text=lambda: volume_details(volume), ids=[volume.id])


def remember_volumes(cli: Cli, provider: str, volumes: Sequence[Volume], *, everything: bool = False) -> None:
    """The shell can offer them from now on; not those that end with their instance, which nobody names."""
    if cli.is_preview:
        return
    gone = {VolumeState.DELETED, VolumeState.DELETING}
    remember(
        VOLUMES,
        [
            Seen(v.id, v.name, f"{v.size_gib} GiB, {v.state.value}", v.state in gone or v.ends_with_instance)
            for v in volumes
        ],
        provider=provider,
        region=cli.defaults(provider).region,
        everything=everything,
    )


def note_growth(cli: Cli, volume: Volume) -> None:
    """Say of a copy that is larger than its original when its file system grows."""
    if GROW in volume.tags:
        cli.progress.note(
            f"its file system has the original's size until {volume.name or volume.id} is mounted for the first time:"
            " runctl lets it grow then"
        )


def emit_volumes(
    cli: Cli, provider: str, volumes: Sequence[Volume], none: str = "", *, wide: bool = False
) -> None:
    """Several; ``none`` is said where there is none."""
    remember_volumes(cli, provider, volumes)
    if not volumes and none:
        cli.progress.note(none)
    cli.emit(
        volumes,
        text=lambda: volumes_table(volumes, screen=screen_of(sys.stdout, wide=wide)),
        ids=[volume.id for volume in volumes],
    )


def shown(cli: Cli, plan: object, text: str, *, dry_run: bool) -> bool:
    """The plan is shown: as the result with ``--dry-run`` (then it returns ``True``), else to the person only."""
    if dry_run:
        cli.emit(plan_document(plan), text=lambda: text)
        return True
    cli.say(text)
    return False


def type_options(provider: str, default: str | None = None) -> Callable[[F], F]:
    """``--volume-type``, ``--iops`` and ``--throughput``; ``kind`` is ``None`` where nothing was said.

    ``default`` says what the type is then, where it is not the provider's usual one.
    """

    def decorate(function: F) -> F:
        for option in (
            click.option("--throughput", type=MIB_PER_SECOND, metavar="MIB", help="Throughput in MiB/s."),
            click.option("--iops", type=COUNT, metavar="N", help="I/O operations per second."),
            type_option(provider, default),
        ):
            function = option(function)
        return function

    return decorate


def type_option(provider: str, default: str | None = None) -> Callable[[F], F]:
    """``--volume-type`` alone, as in `type_options`."""
    types = volume_group(provider).types
    return click.option(
        "--volume-type",
        "--type",
        "kind",
        type=click.Choice(types),
        help=f"The volume type; default: {default or types[0]}.",
    )


zone_option = click.option(
    "--availability-zone",
    "--zone",
    "zone",
    metavar="ZONE",
    help="The availability zone; a volume cannot leave it.",
)
rate_option = click.option(
    "--initialization-rate",
    "rate",
    type=MIB_PER_SECOND,
    metavar="MIB",
    help="Load the snapshot's data at 100 to 300 MiB/s, for a price.",
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Show the plan with its price, and stop there.")
persistent_option = click.option(
    "--persistent", is_flag=True, help="Protect it: delete and cleanup refuse it."
)
tag_option = click.option("--tag", "tags", metavar="KEY=VALUE", multiple=True, help="A tag; repeatable.")
include_protected_option = click.option(
    "--include-protected", is_flag=True, help="Also delete what is marked persistent; it must be named here."
)
no_freeze_option = click.option(
    "--no-freeze", is_flag=True, help="Do not freeze the file system first: the copy is as after a power cut."
)
