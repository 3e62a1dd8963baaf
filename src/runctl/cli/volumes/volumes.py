"""Block volumes: create, list, show, delete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import complete_snapshots, complete_volumes
from runctl.cli.framework.each import for_each
from runctl.cli.framework.values import GIB, SNAPSHOT, VOLUME, parse_tags, wide_option
from runctl.cli.volumes.ebs import (
    check_name,
    create_volume,
    dry_run_option,
    emit_volumes,
    include_protected_option,
    persistent_option,
    rate_option,
    remember_volumes,
    tag_option,
    type_options,
    zone_option,
)
from runctl.core.clock import SystemClock
from runctl.core.errors import UsageError
from runctl.core.models import Snapshot, Volume, VolumeState
from runctl.core.tags import PURPOSE
from runctl.costs.purposes import PURPOSES
from runctl.machines.intents import Kind
from runctl.project.label import project_label
from runctl.providers.interface import Provider, require
from runctl.providers.registry import volume_command
from runctl.providers.volume_plans import InitializationStatus, Modification, VolumeRequest
from runctl.render.json import to_builtins
from runctl.render.things import volume_details
from runctl.render.volume_plans import snapshots_table

DEFAULT_TYPE = "gp3"


def create_command(provider: str) -> click.Command:
    """``ebs create`` of a provider."""

    @click.command(cls=Command)
    @click.option("--size", type=GIB, metavar="GIB", help="Its size.")
    @click.option("--name", metavar="NAME", help="A name to call it by; unique among yours.")
    @type_options(DEFAULT_TYPE)
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
        help="Begin with a snapshot's data.",
    )
    @rate_option
    @click.option(
        "--multi-attach", is_flag=True, help="Let several machines have it at once, read-only (io2, io1)."
    )
    @persistent_option
    @click.option(
        "--project",
        metavar="NAME",
        help="Tag it as this project's; else the configuration's, or the folder's name.",
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
        check_name(name)
        if size is None and snapshot is None:
            raise UsageError("a new volume needs a size", hint="--size GIB, or --from-snapshot")
        request = VolumeRequest(
            size_gib=size,
            name=name,
            type=kind or DEFAULT_TYPE,
            iops=iops,
            throughput=throughput,
            zone=zone,
            persistent=persistent,
            project=project_label(project, cli.config, Path.cwd()),
            snapshot_id=snapshot,
            initialization_rate=rate,
            multi_attach=multi_attach,
            tags=parse_tags(tags),
        )
        cloud = cli.provider(provider)
        if purpose is not None:
            taken = size or require(cloud.snapshots).find(snapshot or "").volume_size_gib
            request = for_purpose(cloud, request, purpose, taken, chosen=kind)
        create_volume(cli, cloud, request, dry_run=dry_run)

    return command


def for_purpose(
    cloud: Provider, request: VolumeRequest, purpose: str, size_gib: int, *, chosen: str | None
) -> VolumeRequest:
    """The request with what suits the purpose; numbers that were given stay. Raises `UsageError`."""
    if chosen is not None:
        raise UsageError(
            f"--for {purpose} chooses the type, and --volume-type {chosen} does too",
            hint="leave one of them out",
        )
    found = require(cloud.volumes).suggest(purpose, size_gib)
    if found is None:
        raise UsageError(f"{cloud.name} has no advice for {purpose}", hint="choose with --volume-type")
    return replace(
        request,
        type=found.type,
        iops=request.iops or found.iops,
        throughput=request.throughput or found.throughput,
        type_reason=f"for {purpose}: {found.reason}",
        tags={**request.tags, PURPOSE: purpose},
    )


def list_command(provider: str) -> click.Command:
    """``ebs list`` of a provider."""

    @click.command(cls=Command)
    @click.option("--everyone", is_flag=True, help="Those that runctl did not create too.")
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
            f"no volumes; {volume_command(provider, 'create --size GIB')} makes one",
            wide=wide,
        )

    return command


def show_command(provider: str) -> click.Command:
    """``ebs show`` of a provider."""

    @click.command(cls=Command)
    @click.argument("volume_word", metavar="VOLUME", type=VOLUME, shell_complete=complete_volumes)
    @click.pass_obj
    def command(cli: Cli, volume_word: str) -> None:
        """Show one volume and its snapshots.

        What it is, what is being changed, and how far it has the data that it was made from.
        """
        cloud = cli.provider(provider)
        volumes = require(cloud.volumes)
        volume = volumes.find(volume_word)
        modification = require(cloud.resizing).latest(volume.id)
        filling = None if volume.snapshot_id is None else volumes.initialization(volume.id)
        snapshots = require(cloud.snapshots).list(everyone=True, volume_id=volume.id)
        document: Mapping[str, Any] = {
            **to_builtins(volume),
            "modification": to_builtins(modification),
            "initialization": to_builtins(filling),
            "snapshots": to_builtins(snapshots),
        }
        cli.emit(
            document, text=lambda: _everything(volume, modification, filling, snapshots), ids=[volume.id]
        )

    return command


def _everything(
    volume: Volume,
    modification: Modification | None,
    filling: InitializationStatus | None,
    snapshots: tuple[Snapshot, ...],
) -> str:
    lines = [volume_details(volume)]
    if modification is not None:
        far = "" if modification.progress is None else f", {modification.progress} %"
        lines.append(
            f"last change: {modification.state}{far}, begun {modification.started_at:%Y-%m-%d %H:%M} UTC"
        )
    if filling is not None and not filling.complete:
        far = "" if filling.progress is None else f", {filling.progress} % so far"
        lines.append(f"its data is still being put onto it{far}")
    if snapshots:
        lines.append(snapshots_table(snapshots, SystemClock().now()))
    return "\n\n".join(lines)


def delete_command(provider: str) -> click.Command:
    """``ebs delete`` of a provider."""

    @click.command(cls=Command)
    @click.argument(
        "volume_words",
        metavar="VOLUME...",
        nargs=-1,
        required=True,
        type=VOLUME,
        shell_complete=complete_volumes,
    )
    @include_protected_option
    @click.option("--dry-run", is_flag=True, help="Show what would be deleted, and stop there.")
    @click.pass_obj
    def command(cli: Cli, *, volume_words: tuple[str, ...], include_protected: bool, dry_run: bool) -> None:
        """Delete volumes and the data on them.

        Asks first, unless --yes is given. Attached and persistent volumes are refused.
        """
        cloud = cli.provider(provider)
        volumes = require(cloud.volumes)
        deletions = cli.deletions(cloud, Kind.VOLUME_DELETION)
        found = deletions.find(volume_words, volumes.find)
        if dry_run:
            cli.progress.note("would be deleted:")
            emit_volumes(cli, provider, found)
            return
        if found:
            cli.confirm(f"Delete {', '.join(map(_described, found))} and the data there for good?")

        def delete(volume: Volume) -> Volume:
            with deletions.deleting(volume):
                volumes.delete(volume.id, cli.progress, include_protected=include_protected)
            return replace(volume, state=VolumeState.DELETED)

        for_each(cli, found, delete, lambda gone: emit_volumes(cli, provider, gone))

    return command


def _described(volume: Volume) -> str:
    parts = (volume.name, f"{volume.size_gib} GiB", "persistent" if volume.persistent else None)
    return f"{volume.id} ({', '.join(part for part in parts if part)})"
