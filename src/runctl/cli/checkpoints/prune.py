"""``checkpoint prune``: older checkpoints go, after the plan was shown."""

from __future__ import annotations

import sys

import click

from runctl._dataclasses import dataclass
from runctl.cli.checkpoints.common import locations_of, source_argument
from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.values import WholeNumber
from runctl.cli.machines.resolve import transport_option
from runctl.core.clock import SystemClock
from runctl.core.errors import Interrupted
from runctl.core.run_models import Checkpoint
from runctl.core.text import counted, size
from runctl.runs.checkpoints.control import PrunePlan, plan_prune, prune


@dataclass(frozen=True)
class Pruned:
    """One checkpoint, and what became of it."""

    checkpoint: Checkpoint
    keep: bool
    reason: str


@click.command(
    cls=Command,
    name="prune",
    examples=[
        ("runctl checkpoint prune latest --keep-last 2 --dry-run", "what would go"),
        ("runctl checkpoint prune base --keep-last 1 --keep-best 'best*'", "the newest and the best stay"),
    ],
)
@source_argument()
@click.option(
    "--keep-last",
    type=WholeNumber(1),
    default=3,
    show_default=True,
    metavar="N",
    help="How many complete checkpoints to keep in each folder.",
)
@click.option(
    "--keep-best",
    multiple=True,
    metavar="GLOB",
    help="Keep the newest checkpoint of each matching name as well, such as 'best*'; repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and stop.")
@transport_option(None)
@click.pass_obj
def prune_command(
    cli: Cli,
    *,
    source: str,
    keep_last: int,
    keep_best: tuple[str, ...],
    dry_run: bool,
    transport: str | None,
) -> None:
    """Remove older checkpoints.

    SOURCE is a run (its id, its name or latest), a local folder, INSTANCE:PATH, or s3://BUCKET/PREFIX/RUN. The newest
    complete one always stays, and so does the one that a running attempt resumed from. Broken ones are removed if a
    complete one is newer. The plan is shown first.
    """
    from runctl.render.checkpoints import decisions_table
    from runctl.render.tables import screen_of

    locations = locations_of(cli, source, transport, changes=True)
    plans = plan_prune(locations, keep_last=keep_last, keep_best=keep_best, progress=cli.progress)
    rows = [(each.checkpoint, each.keep, each.reason) for plan in plans for each in plan.decisions]
    removed = [checkpoint for checkpoint, keep, _ in rows if not keep]
    now = SystemClock().now()
    if removed and not dry_run:
        cli.say(decisions_table(rows, now, screen_of(sys.stderr)))
        cli.confirm(
            f"Remove {counted(len(removed), 'checkpoint')}"
            f" ({size(sum(each.size_bytes for each in removed))}) from {_where(plans)}?"
        )
        gone = _pruned(cli, plans, len(removed))
        removed = [each for each in removed if (each.where, each.name) in {(g.where, g.name) for g in gone}]
    result = [Pruned(checkpoint, keep, reason) for checkpoint, keep, reason in rows]
    cli.emit(
        result,
        text=lambda: (
            (decisions_table(rows, now, screen_of(sys.stdout)) if dry_run else _sum(removed))
            if removed
            else "nothing to remove"
        ),
        ids=[each.name for each in removed],
    )


def _pruned(cli: Cli, plans: tuple[PrunePlan, ...], planned: int) -> list[Checkpoint]:
    try:
        return [each for plan in plans for each in prune(plan, cli.progress)]
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted: of {counted(planned, 'checkpoint')} to remove some may be gone; what is to stay is there",
            hint="the same command removes the rest",
        ) from None


def _sum(removed: list[Checkpoint]) -> str:
    total = size(sum(each.size_bytes for each in removed))
    return f"removed {counted(len(removed), 'checkpoint')}, {total}"


def _where(plans: tuple[PrunePlan, ...]) -> str:
    return " and ".join(plan.location.label for plan in plans if plan.removed)
