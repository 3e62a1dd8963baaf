"""``ebs prewarm``: the data is on the volume before anybody waits for it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import complete_volumes, types_of
from runctl.cli.framework.options import over_budget_option
from runctl.cli.framework.values import DURATION, MOUNT_POINT, VOLUME
from runctl.cli.machines.renting import confirm_renting
from runctl.cli.machines.resolve import transport_option
from runctl.core.errors import UsageError

if TYPE_CHECKING:
    from runctl.agent.object_store import Source
    from runctl.runs.filling.fill import Prewarm
    from runctl.runs.filling.plan import PrewarmPlan, PrewarmRequest
    from runctl.storage.pace import Pace


def prewarm_command(provider: str) -> click.Command:
    """``ebs prewarm`` of a provider."""

    @click.command(
        cls=Command,
        exclusive=[("--no-helper", option) for option in ("--instance-type", "--spot", "--ttl")],
    )
    @click.argument("volume_name", metavar="VOLUME", type=VOLUME, shell_complete=complete_volumes)
    @click.option(
        "--from", "source", metavar="s3://BUCKET/FOLDER", help="Fill it from S3; else from its snapshot."
    )
    @click.option("--to", metavar="FOLDER", help="A folder on the volume to fill; by default all of it.")
    @click.option(
        "--delete", is_flag=True, help="Remove files that were filled from there and are not in S3 any more."
    )
    @click.option(
        "--helper/--no-helper",
        default=None,
        help="Rent a machine for it, and give it back; by default if the volume is not attached.",
    )
    @click.option(
        "--instance-type",
        metavar="TYPE",
        shell_complete=types_of(provider),
        help="The helper machine's type (default: the cheapest that is fast enough).",
    )
    @click.option("--spot", is_flag=True, help="Rent the helper machine as spot.")
    @over_budget_option
    @click.option(
        "--ttl", type=DURATION, help="The helper machine ends itself after this long at the latest."
    )
    @click.option(
        "--mount-point",
        type=MOUNT_POINT,
        help="Where to mount it (default: where it was last, else /mnt/NAME).",
    )
    @click.option(
        "--format",
        "may_format",
        is_flag=True,
        help="Create a file system if it is blank, even if runctl did not create the volume.",
    )
    @click.option("--detach", is_flag=True, help="Detach it at the end, even from a machine that has it now.")
    @click.option("--dry-run", is_flag=True, help="Show the plan with time and price, and stop there.")
    @transport_option(provider)
    @click.pass_obj
    def command(
        cli: Cli,
        *,
        volume_name: str,
        source: str | None,
        to: str | None,
        delete: bool,
        helper: bool | None,
        instance_type: str | None,
        spot: bool,
        ttl: timedelta | None,
        mount_point: str | None,
        may_format: bool,
        detach: bool,
        dry_run: bool,
        transport: str | None,
    ) -> None:
        """Fill a volume from S3, or from the snapshot that it was made from.

        On the machine that has it, or on a small one that is rented for it and given back. Every file is verified by
        its checksum. The same command continues where an earlier one stopped, and fetches what has changed since.
        """
        from runctl.core.machine_models import Market
        from runctl.providers.interface import require
        from runctl.runs.filling.plan import PrewarmRequest

        request = PrewarmRequest(
            volume=require(cli.provider(provider).volumes).find(volume_name),
            source=None if source is None else _source(source),
            to=to.rstrip("/") if to else None,
            delete=delete,
            helper=helper,
            instance_type=instance_type,
            market=Market.SPOT if spot else Market.ON_DEMAND,
            ttl=ttl,
            mount_point=mount_point,
            may_format=may_format,
            detach=detach,
            project=cli.config.project.name,
        )
        _carry_out(cli, provider, request, transport, dry_run=dry_run)

    return command


def _carry_out(
    cli: Cli, provider: str, request: PrewarmRequest, transport: str | None, *, dry_run: bool
) -> None:
    from runctl.render.prewarm import (
        prewarm_document,
        prewarm_plan_document,
        prewarm_plan_text,
        prewarm_text,
    )

    prewarm = _prewarm(cli, provider, transport)
    plan: PrewarmPlan = prewarm.plan(request)
    for warning in plan.warnings:
        cli.progress.warn(warning)
    if dry_run:
        cli.emit(prewarm_plan_document(plan), text=lambda: prewarm_plan_text(plan))
        return
    cli.say(prewarm_plan_text(plan))
    if plan.machine is not None:
        helper = f"the helper machine, {plan.machine.instance_type},"
        confirm_renting(cli, provider, helper, plan.machine.price)
    result = prewarm.carry_out(plan)
    cli.emit(prewarm_document(result), text=lambda: prewarm_text(result), ids=[result.volume.id])


def _prewarm(cli: Cli, provider: str, transport: str | None) -> Prewarm:
    from runctl.core.clock import SystemClock
    from runctl.providers.interface import require
    from runctl.render.prewarm import pace_text
    from runctl.runs.filling.fill import Prewarm

    cloud = cli.provider(provider)
    require(cloud.filling)

    def show(pace: Pace) -> None:
        cli.progress.update(pace_text(pace))

    return Prewarm(
        cloud,
        cli.store,
        cli.intents,
        SystemClock(),
        transport=transport or cli.defaults(provider).transport,
        region=cloud.region,
        progress=cli.progress,
        on_pace=show,
        rental_listeners=cli.session.rental_listeners,
    )


def _source(text: str) -> Source:
    from runctl.agent.object_store import parse_source

    try:
        return parse_source(text)
    except ValueError as error:
        raise UsageError(f"--from {error}", hint="write s3://bucket or s3://bucket/folder") from None
