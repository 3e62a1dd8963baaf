"""Snapshots of volumes: take, list, delete, restore."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import complete_snapshots, complete_volumes
from runctl.cli.framework.completion_memory import SNAPSHOTS, Seen, remember
from runctl.cli.framework.each import for_each
from runctl.cli.framework.values import GIB, SNAPSHOT, VOLUME, parse_tags, wide_option
from runctl.cli.machines.resolve import transport_option
from runctl.cli.volumes.ebs import (
    agents,
    check_name,
    create_volume,
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
from runctl.core import tags as tag
from runctl.core.clock import SystemClock
from runctl.core.models import Snapshot, SnapshotState
from runctl.machines.intents import Kind
from runctl.project.label import project_label
from runctl.providers.interface import require
from runctl.providers.registry import volume_command
from runctl.providers.volume_plans import SnapshotRequest, VolumeRequest
from runctl.render.tables import screen_of
from runctl.render.volume_plans import (
    snapshot_details,
    snapshot_plan_text,
    snapshots_sum,
    snapshots_table,
)
from runctl.storage.consistency import holding_still, let_go


def snapshot_command(provider: str) -> click.Command:
    """``ebs snapshot`` of a provider."""

    @click.command(cls=Command)
    @click.argument("volume_word", metavar="VOLUME", type=VOLUME, shell_complete=complete_volumes)
    @click.option("--name", metavar="NAME", help="A name to call it by; unique among yours.")
    @click.option("--description", default="", metavar="TEXT", help="What the console shows.")
    @persistent_option
    @tag_option
    @no_freeze_option
    @click.option("--no-wait", is_flag=True, help="Return when it has begun; it goes on by itself.")
    @transport_option(provider)
    @dry_run_option
    @click.pass_obj
    def command(
        cli: Cli,
        *,
        volume_word: str,
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

        Where a machine has it mounted, its file system is flushed and held still for the moment in which the snapshot
        begins. Project, protection and tags are the volume's.
        """
        check_name(name)
        cloud = cli.provider(provider)
        snapshots = require(cloud.snapshots)
        request = SnapshotRequest(volume_word, name, description, persistent or None, parse_tags(tags))
        with cli.creating(cloud, Kind.SNAPSHOT, request) as creation:
            plan = snapshots.plan(replace(request, token=creation.token))
            if shown(cli, plan, snapshot_plan_text(plan, SystemClock().now()), dry_run=dry_run):
                return
            agent_on = agents(cli, transport)
            if creation.existing is not None:
                creation.begin()
                if not no_freeze:
                    let_go(cloud, agent_on, plan.volume, creation.token, cli.progress)
                snapshot = snapshots.create(plan, cli.progress)
            else:
                # Written down before: after a kill the same command finds what it froze by the same token.
                creation.begin()
                with holding_still(
                    cloud,
                    agent_on,
                    plan.volume,
                    creation.token,
                    freeze=not no_freeze,
                    progress=cli.progress,
                ) as still:
                    snapshot = snapshots.create(plan, cli.progress)
                cli.progress.note(still.description)
            creation.made(snapshot.id)
            if not no_wait:
                snapshot = snapshots.wait(snapshot.id, cli.progress)
        cli.emit(snapshot, text=lambda: snapshot_details(snapshot, SystemClock().now()), ids=[snapshot.id])

    return command


def list_command(provider: str) -> click.Command:
    """``ebs snapshots`` of a provider."""

    @click.command(cls=Command)
    @click.argument(
        "volume_word", metavar="[VOLUME]", required=False, type=VOLUME, shell_complete=complete_volumes
    )
    @click.option("--everyone", is_flag=True, help="Those of this account that runctl did not take too.")
    @wide_option
    @click.pass_obj
    def command(cli: Cli, volume_word: str | None, everyone: bool, wide: bool) -> None:
        """List snapshots.

        Of one volume or of all, with size, age and price. A snapshot is billed for what it does not
        share with the one before it, so that the price is the most that it
        can cost.
        """
        cloud = cli.provider(provider)
        volume_id = None if volume_word is None else require(cloud.volumes).find(volume_word).id
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
        "snapshot_words",
        type=SNAPSHOT,
        shell_complete=complete_snapshots,
        metavar="SNAPSHOT...",
        nargs=-1,
        required=True,
    )
    @include_protected_option
    @click.option("--dry-run", is_flag=True, help="Show what would be deleted, and stop there.")
    @click.pass_obj
    def command(cli: Cli, *, snapshot_words: tuple[str, ...], include_protected: bool, dry_run: bool) -> None:
        """Delete snapshots.

        Those that runctl took. Asks first, unless --yes is given. Persistent ones are refused. Others
        of the same volume stay whole.
        """
        cloud = cli.provider(provider)
        snapshots = require(cloud.snapshots)
        deletions = cli.deletions(cloud, Kind.SNAPSHOT_DELETION)
        found = deletions.find(snapshot_words, snapshots.find)
        if dry_run:
            cli.progress.note("would be deleted:")
            _emit(cli, provider, found)
            return
        if found:
            described = ", ".join(f"{s.id} ({s.name})" if s.name else s.id for s in found)
            cli.confirm(f"Delete {described} for good?")

        def delete(snapshot: Snapshot) -> Snapshot:
            with deletions.deleting(snapshot):
                snapshots.delete(snapshot.id, cli.progress, include_protected=include_protected)
            return replace(snapshot, state=SnapshotState.DELETED)

        for_each(cli, found, delete, lambda gone: _emit(cli, provider, gone))

    return command


def restore_command(provider: str) -> click.Command:
    """``ebs restore`` of a provider."""

    @click.command(cls=Command)
    @click.argument("snapshot_word", type=SNAPSHOT, shell_complete=complete_snapshots, metavar="SNAPSHOT")
    @click.option("--name", metavar="NAME", help="A name to call it by; unique among yours.")
    @click.option("--size", type=GIB, metavar="GIB", help="Larger than the volume was.")
    @type_options("as the volume was")
    @zone_option
    @rate_option
    @persistent_option
    @click.option("--project", metavar="NAME", help="Tag it as this project's; else as the snapshot is.")
    @tag_option
    @dry_run_option
    @click.pass_obj
    def command(
        cli: Cli,
        *,
        snapshot_word: str,
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
        """Make a volume from a snapshot.

        Of the type and speed that the original had. Project, protection and tags are the snapshot's.
        The snapshot stays.
        """
        check_name(name)
        cloud = cli.provider(provider)
        snapshots = require(cloud.snapshots)
        snapshot = snapshots.find(snapshot_word)
        was = snapshots.original_shape(snapshot, size or snapshot.volume_size_gib)
        same = was is not None and kind in {None, was.type}
        request = VolumeRequest(
            size_gib=size,
            name=name,
            type=kind or (was.type if was is not None else "gp3"),
            iops=iops or (was.iops if was is not None and same else None),
            throughput=throughput or (was.throughput if was is not None and same else None),
            zone=zone,
            persistent=persistent,
            project=project or snapshot.tags.get(tag.PROJECT) or project_label(None, cli.config, Path.cwd()),
            snapshot_id=snapshot.id,
            initialization_rate=rate,
            tags=parse_tags(tags),
            type_reason="as the volume was" if same and kind is None else "",
        )
        create_volume(cli, cloud, request, dry_run=dry_run)

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
            Seen(one.id, one.name, f"{one.volume_size_gib} GiB", one.state is SnapshotState.DELETED)
            for one in snapshots
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
