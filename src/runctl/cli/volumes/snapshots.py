"""Snapshots of volumes: take, list, delete, restore."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import complete_snapshots, complete_volumes
from runctl.cli.framework.completion_memory import SNAPSHOTS, Seen, remember
from runctl.cli.framework.values import GIB, SNAPSHOT, VOLUME, parse_tags, wide_option
from runctl.cli.machines.resolve import transport_option
from runctl.cli.volumes.ebs import (
    create_volume,
    delete_all,
    dry_run_option,
    include_protected_option,
    no_freeze_option,
    persistent_option,
    rate_option,
    shown,
    tag_option,
    type_options,
    zone_option,
)
from runctl.core.clock import SystemClock
from runctl.core.machine_models import Snapshot, SnapshotState
from runctl.machines.volumes import like_original, new_snapshot, snapshot_deletion
from runctl.providers.abilities.volume_plans import SnapshotRequest, VolumeRequest
from runctl.providers.interface import require
from runctl.providers.registry import volume_command
from runctl.render.plans.volume_plans import (
    snapshot_details,
    snapshot_plan_text,
    snapshots_sum,
    snapshots_table,
)
from runctl.render.tables import screen_of


def snapshot_command(provider: str) -> click.Command:
    """``ebs snapshot`` of a provider."""

    @click.command(cls=Command)
    @click.argument("volume_name", metavar="VOLUME", type=VOLUME, shell_complete=complete_volumes)
    @click.option("--name", metavar="NAME", help="A name to call it by; unique among yours.")
    @click.option("--description", default="", metavar="TEXT", help="What the console shows.")
    @persistent_option
    @tag_option
    @no_freeze_option
    @click.option("--no-wait", is_flag=True, help="Return once it has begun; it completes in the background.")
    @transport_option(provider)
    @dry_run_option
    @click.pass_obj
    def command(
        cli: Cli,
        *,
        volume_name: str,
        name: str | None,
        description: str,
        persistent: bool,
        tags: tuple[str, ...],
        no_freeze: bool,
        no_wait: bool,
        transport: str | None,
        dry_run: bool,
    ) -> None:
        """Take a snapshot of a volume.

        If a machine has it mounted, its file system is flushed and frozen while the snapshot begins. The snapshot
        gets the volume's project, protection and tags.
        """
        own = parse_tags(tags, names=name is None)
        request = SnapshotRequest(volume_name, name, description, persistent or None, own)
        with new_snapshot(
            cli.session, provider, request, freeze=not no_freeze, wait=not no_wait, transport=transport
        ) as prepared:
            plan = prepared.plan
            if shown(cli, plan, snapshot_plan_text(plan, SystemClock().now()), dry_run=dry_run):
                return
            snapshot = prepared.carry_out()
        cli.emit(snapshot, text=lambda: snapshot_details(snapshot, SystemClock().now()), ids=[snapshot.id])

    return command


def list_command(provider: str) -> click.Command:
    """``ebs snapshots`` of a provider."""

    @click.command(cls=Command)
    @click.argument(
        "volume_name", metavar="[VOLUME]", required=False, type=VOLUME, shell_complete=complete_volumes
    )
    @click.option(
        "--everyone", is_flag=True, help="Include snapshots of this account that runctl did not take."
    )
    @wide_option
    @click.pass_obj
    def command(cli: Cli, volume_name: str | None, everyone: bool, wide: bool) -> None:
        """List snapshots.

        Of one volume or of all, with size, age and price. A snapshot is billed only for what it does not share with
        the one before it, so the price shown is the most it can cost.
        """
        cloud = cli.provider(provider)
        volume_id = None if volume_name is None else require(cloud.volumes).find(volume_name).id
        found = require(cloud.snapshots).list(everyone=everyone, volume_id=volume_id)
        _emit(
            cli,
            provider,
            found,
            f"no snapshots; {volume_command(provider, 'snapshot VOLUME')} takes one",
            wide=wide,
            everything=volume_id is None,
        )
        if found:
            cli.progress.note(snapshots_sum(found))

    return command


def delete_command(provider: str) -> click.Command:
    """``ebs snapshot-delete`` of a provider."""

    @click.command(cls=Command)
    @click.argument(
        "snapshot_names",
        type=SNAPSHOT,
        shell_complete=complete_snapshots,
        metavar="SNAPSHOT...",
        nargs=-1,
        required=True,
    )
    @include_protected_option
    @click.option("--dry-run", is_flag=True, help="Show what would be deleted, and stop there.")
    @click.pass_obj
    def command(cli: Cli, *, snapshot_names: tuple[str, ...], include_protected: bool, dry_run: bool) -> None:
        """Delete snapshots.

        Only those that runctl took. Asks first, unless --yes is given. Persistent ones are refused. Other snapshots
        of the same volume stay complete.
        """
        delete_all(
            cli,
            snapshot_deletion(cli.session, provider, snapshot_names, include_protected=include_protected),
            lambda gone: _emit(cli, provider, gone),
            lambda described: f"Delete {described} for good?",
            dry_run=dry_run,
        )

    return command


def restore_command(provider: str) -> click.Command:
    """``ebs restore`` of a provider."""

    @click.command(cls=Command)
    @click.argument("snapshot_name", type=SNAPSHOT, shell_complete=complete_snapshots, metavar="SNAPSHOT")
    @click.option("--name", metavar="NAME", help="A name to call it by; unique among yours.")
    @click.option("--size", type=GIB, metavar="GIB", help="Make it larger than the volume was.")
    @type_options(provider, "as the volume was")
    @zone_option
    @rate_option
    @persistent_option
    @click.option("--project", metavar="NAME", help="The project to tag it with (default: the snapshot's).")
    @tag_option
    @dry_run_option
    @click.pass_obj
    def command(
        cli: Cli,
        *,
        snapshot_name: str,
        name: str | None,
        size: int | None,
        kind: str | None,
        iops: int | None,
        throughput: int | None,
        zone: str | None,
        rate: int | None,
        persistent: bool,
        project: str | None,
        tags: tuple[str, ...],
        dry_run: bool,
    ) -> None:
        """Create a volume from a snapshot.

        With the original's type and speed, and the snapshot's project, protection and tags. The snapshot stays.
        """
        request = VolumeRequest(
            size_gib=size,
            name=name,
            iops=iops,
            throughput=throughput,
            zone=zone,
            persistent=persistent,
            project=project,
            snapshot_id=snapshot_name,
            initialization_rate=rate,
            tags=parse_tags(tags, names=name is None),
        )
        request = like_original(cli.session, cli.provider(provider), request, chosen=kind)
        create_volume(cli, provider, request, dry_run=dry_run)

    return command


def _emit(
    cli: Cli,
    provider: str,
    snapshots: Sequence[Snapshot],
    none: str = "",
    *,
    wide: bool = False,
    everything: bool = False,
) -> None:
    remember(
        SNAPSHOTS,
        [
            Seen(
                snapshot.id,
                snapshot.name,
                f"{snapshot.volume_size_gib} GiB",
                snapshot.state is SnapshotState.DELETED,
            )
            for snapshot in snapshots
        ],
        provider=provider,
        region=cli.defaults(provider).region,
        everything=everything,
    )
    if not snapshots and none:
        cli.progress.note(none)
    now = SystemClock().now()
    cli.emit(
        snapshots,
        text=lambda: snapshots_table(snapshots, now, screen=screen_of(sys.stdout, wide=wide)),
        ids=[snapshot.id for snapshot in snapshots],
    )
