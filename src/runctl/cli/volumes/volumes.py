"""Block volumes: create, list, show, delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import complete_snapshots, complete_volumes
from runctl.cli.framework.values import GIB, SNAPSHOT, VOLUME, parse_tags, wide_option
from runctl.cli.volumes.ebs import (
    create_volume,
    delete_all,
    dry_run_option,
    emit_volumes,
    include_protected_option,
    persistent_option,
    rate_option,
    remember_volumes,
    tag_option,
    type_option,
    type_options,
    zone_option,
)
from runctl.core.clock import SystemClock
from runctl.machines.volumes import (
    VolumeDetails,
    details,
    for_purpose,
    volume_deletion,
    with_project,
)
from runctl.providers.abilities.volume_plans import PURPOSES, VolumeRequest
from runctl.providers.interface import require
from runctl.providers.registry import volume_creation, volume_group
from runctl.render.json import to_builtins
from runctl.render.plans.volume_plans import snapshots_table
from runctl.render.volumes import volume_details


def create_command(provider: str) -> click.Command:
    """``volumes create`` of a provider."""
    return (_create_plain if volume_group(provider).chosen_at_creation else _create)(provider)


def _create_plain(provider: str) -> click.Command:
    """Where a size, a type and a zone are all that can be chosen."""

    @click.command(cls=Command)
    @click.option("--size", type=GIB, metavar="GB", required=True, help="The volume's size.")
    @click.option("--name", metavar="NAME", help="A name to call it by; unique among yours.")
    @type_option(provider)
    @zone_option
    @click.option(
        "--project",
        metavar="NAME",
        help="The project to note for it (default: the configuration's, or the folder's name).",
    )
    @dry_run_option
    @click.pass_obj
    def command(
        cli: Cli,
        *,
        size: int,
        name: str | None,
        kind: str | None,
        zone: str | None,
        project: str | None,
        dry_run: bool,
    ) -> None:
        """Create a volume.

        Machines can then be created with it.
        """
        request = VolumeRequest(size_gib=size, name=name, type=kind, zone=zone, project=project)
        create_volume(cli, provider, with_project(cli.session, request), dry_run=dry_run)

    return command


def _create(provider: str) -> click.Command:
    """Where everything can be chosen."""
    shareable = ", ".join(volume_group(provider).shareable)

    @click.command(cls=Command)
    @click.option("--size", type=GIB, metavar="GIB", help="The volume's size.")
    @click.option("--name", metavar="NAME", help="A name to call it by; unique among yours.")
    @type_options(provider)
    @click.option(
        "--for", "purpose", type=click.Choice(PURPOSES), help="Choose type and performance by what it is for."
    )
    @zone_option
    @click.option(
        "--from-snapshot",
        "--snapshot",
        "snapshot",
        type=SNAPSHOT,
        shell_complete=complete_snapshots,
        metavar="SNAPSHOT",
        help="Create it with a snapshot's data.",
    )
    @rate_option
    @click.option(
        "--multi-attach",
        is_flag=True,
        help=f"Let several machines attach it at once, read-only ({shareable}).",
    )
    @persistent_option
    @click.option(
        "--project",
        metavar="NAME",
        help="The project to tag it with (default: the configuration's, or the folder's name).",
    )
    @tag_option
    @dry_run_option
    @click.pass_obj
    def command(
        cli: Cli,
        *,
        size: int | None,
        name: str | None,
        kind: str | None,
        iops: int | None,
        throughput: int | None,
        purpose: str | None,
        zone: str | None,
        snapshot: str | None,
        rate: int | None,
        multi_attach: bool,
        persistent: bool,
        project: str | None,
        tags: tuple[str, ...],
        dry_run: bool,
    ) -> None:
        """Create a volume.

        It is encrypted, and holds no file system until it is mounted for the first time.
        """
        request = VolumeRequest(
            size_gib=size,
            name=name,
            type=kind,
            iops=iops,
            throughput=throughput,
            zone=zone,
            persistent=persistent,
            project=project,
            snapshot_id=snapshot,
            initialization_rate=rate,
            multi_attach=multi_attach,
            tags=parse_tags(tags, names=name is None),
        )
        request = with_project(cli.session, request)
        if purpose is not None:
            request = for_purpose(cli.provider(provider), request, purpose, chosen=kind)
        create_volume(cli, provider, request, dry_run=dry_run)

    return command


def list_command(provider: str) -> click.Command:
    """``ebs list`` of a provider."""

    @click.command(cls=Command)
    @click.option("--everyone", is_flag=True, help="Include those that runctl did not create.")
    @wide_option
    @click.pass_obj
    def command(cli: Cli, everyone: bool, wide: bool) -> None:
        """List volumes."""
        found = require(cli.provider(provider).volumes).list(everyone=everyone)
        remember_volumes(cli, provider, found, everything=True)
        emit_volumes(
            cli,
            provider,
            found,
            f"no volumes; {volume_creation(provider)} makes one",
            wide=wide,
        )

    return command


def show_command(provider: str) -> click.Command:
    """``ebs show`` of a provider."""

    @click.command(cls=Command)
    @click.argument("volume_name", metavar="VOLUME", type=VOLUME, shell_complete=complete_volumes)
    @click.pass_obj
    def command(cli: Cli, volume_name: str) -> None:
        """Show one volume and its snapshots.

        Its properties, changes in progress, and how much of its source's data it has.
        """
        found = details(cli.provider(provider), volume_name)
        document: Mapping[str, Any] = {
            **to_builtins(found.volume),
            "modification": to_builtins(found.modification),
            "initialization": to_builtins(found.initialization),
            "snapshots": to_builtins(found.snapshots),
        }
        cli.emit(document, text=lambda: _everything(found), ids=[found.volume.id])

    return command


def _everything(found: VolumeDetails) -> str:
    lines = [volume_details(found.volume)]
    modification, filling = found.modification, found.initialization
    if modification is not None:
        far = "" if modification.progress is None else f", {modification.progress} %"
        lines.append(
            f"last change: {modification.state}{far}, begun {modification.started_at:%Y-%m-%d %H:%M} UTC"
        )
    if filling is not None and not filling.complete:
        far = "" if filling.progress is None else f", {filling.progress} % so far"
        lines.append(f"its data is still being put onto it{far}")
    if found.snapshots:
        lines.append(snapshots_table(found.snapshots, SystemClock().now()))
    return "\n\n".join(lines)


def delete_command(provider: str) -> click.Command:
    """``ebs delete`` of a provider."""

    @click.command(cls=Command)
    @click.argument(
        "volume_names",
        metavar="VOLUME...",
        nargs=-1,
        required=True,
        type=VOLUME,
        shell_complete=complete_volumes,
    )
    @include_protected_option
    @click.option("--dry-run", is_flag=True, help="Show what would be deleted, and stop there.")
    @click.pass_obj
    def command(cli: Cli, *, volume_names: tuple[str, ...], include_protected: bool, dry_run: bool) -> None:
        """Delete volumes and the data on them.

        Asks first, unless --yes is given. Attached and persistent volumes are refused.
        """
        delete_all(
            cli,
            volume_deletion(cli.session, provider, volume_names, include_protected=include_protected),
            lambda gone: emit_volumes(cli, provider, gone),
            lambda described: f"Delete {described} and the data there for good?",
            dry_run=dry_run,
        )

    return command
