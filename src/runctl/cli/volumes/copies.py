"""Copies of volumes: clone in the same zone, move to another, replicate in several."""

from __future__ import annotations

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import complete_volumes
from runctl.cli.framework.values import GIB, MIB_PER_SECOND, VOLUME, parse_tags
from runctl.cli.machines.resolve import transport_option
from runctl.cli.volumes.ebs import (
    dry_run_option,
    emit_volume,
    emit_volumes,
    include_protected_option,
    no_freeze_option,
    note_growth,
    persistent_option,
    shown,
    tag_option,
    type_options,
)
from runctl.core.errors import RunctlError, UsageError
from runctl.machines.moving import MoveRequest, abandon, moving
from runctl.machines.replicas import plan_replicas, replicate
from runctl.machines.volumes import new_clone
from runctl.providers.abilities.volume_plans import CloneRequest
from runctl.providers.interface import Provider, require
from runctl.providers.registry import volume_command
from runctl.render.plans.volume_plans import (
    abandon_text,
    clone_plan_text,
    move_plan_text,
    replicas_plan_text,
)
from runctl.runs.stored.recipe import Recipes
from runctl.storage.moving import plan_abandon


def clone_command(provider: str) -> click.Command:
    """``ebs clone`` of a provider."""

    @click.command(cls=Command)
    @click.argument("volume_name", metavar="VOLUME", type=VOLUME, shell_complete=complete_volumes)
    @click.option("--name", metavar="NAME", help="A name to call the copy by; unique among yours.")
    @click.option("--size", type=GIB, metavar="GIB", help="Make the copy larger than the original.")
    @type_options(provider, "as the original is")
    @persistent_option
    @tag_option
    @no_freeze_option
    @transport_option(provider)
    @dry_run_option
    @click.pass_obj
    def command(
        cli: Cli,
        *,
        volume_name: str,
        name: str | None,
        size: int | None,
        kind: str | None,
        iops: int | None,
        throughput: int | None,
        persistent: bool,
        tags: tuple[str, ...],
        no_freeze: bool,
        transport: str | None,
        dry_run: bool,
    ) -> None:
        """Copy a volume within its zone.

        Immediately, even while it is in use. If a machine has it mounted, its file system is flushed and frozen for a
        moment. The copy has the original's type, project, protection and tags.
        """
        own = parse_tags(tags, names=name is None)
        request = CloneRequest(volume_name, name, size, kind, iops, throughput, persistent or None, own)
        with new_clone(cli.session, provider, request, freeze=not no_freeze, transport=transport) as prepared:
            if shown(cli, prepared.plan, clone_plan_text(prepared.plan), dry_run=dry_run):
                return
            copy = prepared.carry_out()
        note_growth(cli, copy)
        emit_volume(cli, provider, copy)

    return command


def move_command(provider: str) -> click.Command:
    """``ebs move`` of a provider."""

    @click.command(
        cls=Command,
        exclusive=[
            ("--initialization-rate", "--no-initialization-rate"),
            ("--abandon", "--availability-zone"),
            ("--abandon", "--initialization-rate"),
            ("--abandon", "--delete-source"),
        ],
        needs=[("--include-protected", "--delete-source")],
    )
    @click.argument("volume_name", metavar="VOLUME", type=VOLUME, shell_complete=complete_volumes)
    @click.option(
        "--availability-zone", "--zone", "zone", metavar="ZONE", help="The availability zone to move it to."
    )
    @click.option(
        "--abandon",
        "giving_up",
        is_flag=True,
        help="Abandon a move that has begun: the volume stays as it was.",
    )
    @click.option(
        "--initialization-rate",
        "rate",
        type=MIB_PER_SECOND,
        metavar="MIB",
        help="MiB/s at which the data is loaded onto the new volume, for a price (default: the highest).",
    )
    @click.option(
        "--no-initialization-rate",
        "no_rate",
        is_flag=True,
        help="Do not pay for a rate: the data is loaded at the provider's own pace, and first reads are slow.",
    )
    @click.option("--delete-source", is_flag=True, help="Delete the old volume once the new one is checked.")
    @include_protected_option
    @dry_run_option
    @click.pass_obj
    def command(
        cli: Cli,
        *,
        volume_name: str,
        zone: str | None,
        giving_up: bool,
        rate: int,
        no_rate: bool,
        delete_source: bool,
        include_protected: bool,
        dry_run: bool,
    ) -> None:
        """Move a volume's data to another zone.

        Through a temporary snapshot. The new volume has the same name, type, speed, project, protection and tags, and
        is checked before it takes the name; the old one is kept under another name. If interrupted, the same command
        finishes the job.
        """
        cloud = cli.provider(provider)
        if giving_up:
            _abandon(cli, cloud, volume_name, dry_run=dry_run)
            return
        if zone is None:
            raise UsageError("where to?", hint="--availability-zone ZONE, or --abandon a move that was begun")
        request = MoveRequest(volume_name, zone)
        with moving(
            cli.intents,
            cloud,
            request,
            rate=None if no_rate else rate or require(cloud.snapshots).fastest_rate,
            delete_source=delete_source,
            include_protected=include_protected,
            progress=cli.progress,
        ) as move:
            plan = move.plan
            if plan.done and plan.finished is not None:
                cli.progress.note(f"{volume_name} is in {zone} already")
                emit_volume(cli, provider, plan.finished)
                return
            if shown(cli, plan, move_plan_text(plan), dry_run=dry_run):
                return
            if plan.delete_source and plan.source is not None:
                cli.confirm(f"Delete {plan.source.id} in {plan.source.zone} when its data is in {zone}?")
            try:
                moved = move.carry_out()
            except RunctlError as error:
                error.add_hint("run the same command again to continue")
                raise
        if moved.source is not None:
            kept = moved.source.name or moved.source.id
            cli.progress.note(
                f"the old volume is kept as {kept}, and paid for: {volume_command(provider, 'delete', kept)}"
            )
        emit_volume(cli, provider, moved.volume)

    return command


def replicate_command(provider: str) -> click.Command:
    """``ebs replicate`` of a provider."""

    @click.command(cls=Command)
    @click.argument("volume_name", metavar="VOLUME", type=VOLUME, shell_complete=complete_volumes)
    @click.option(
        "--availability-zone",
        "--zone",
        "zones",
        metavar="ZONE",
        multiple=True,
        required=True,
        help="Where its data is to be ready as well. Can be given several times.",
    )
    @dry_run_option
    @click.pass_obj
    def command(cli: Cli, *, volume_name: str, zones: tuple[str, ...], dry_run: bool) -> None:
        """Keep a volume's data ready in other zones.

        A replica is a volume that is created from a temporary snapshot. A run that only reads the volume continues with
        it at once when there is no machine in the volume's zone. It is valid until one of the two is mounted for
        writing; the same command then asks, deletes it and creates a new one. A replica that was itself mounted for
        writing, is persistent, or is in use by a run is not deleted. If interrupted, the same command finishes the job.
        """
        runs = Recipes(cli.session.database).by_volume()
        plan = plan_replicas(cli.session, provider, volume_name, zones, runs=runs)
        if plan.is_done and not dry_run:
            cli.progress.note(f"the replicas of {volume_name} are there already")
        elif shown(cli, plan, replicas_plan_text(plan), dry_run=dry_run):
            return
        if plan.outdated:
            gone = ", ".join(str(each.id) for each in plan.outdated)
            cli.confirm(f"Delete {gone}, and make it anew?")
        emit_volumes(cli, provider, replicate(cli.session, provider, plan))

    return command


def _abandon(cli: Cli, cloud: Provider, volume_name: str, *, dry_run: bool) -> None:
    plan = plan_abandon(cloud, volume_name)
    if shown(cli, plan, abandon_text(plan), dry_run=dry_run):
        return
    cli.confirm(f"Give up moving {plan.source.name or plan.source.id}?")
    emit_volume(cli, cloud.name, abandon(cli.intents, cloud, plan, cli.progress))
