"""What runs and costs now, for a person."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from runctl.core.money import hourly, monthly, usd, usd_if_known
from runctl.core.text import time_span
from runctl.render.tables import PLAIN, Column, Screen, fit

if TYPE_CHECKING:
    from runctl.costs.budget import BudgetUse
    from runctl.runs.status import KeptThing, RunningMachine, Status


def status_text(status: Status, screen: Screen = PLAIN) -> str:
    """Machines, what stays, the sums, and the budget."""
    blocks = [fit(machine_columns(status), screen) if status.machines else "no machine runs"]
    if alarms := [each for each in status.machines if each.alarm]:
        blocks.append("\n".join(f"{each.run_id}: the newest checkpoint {each.alarm}" for each in alarms))
    loose = [thing for thing in status.kept if not thing.machine_runs]
    if loose:
        blocks.append(f"Stays, and costs whether or not a machine runs:\n{_kept(loose, screen)}")
    blocks.append("\n".join(sums(status)))
    return "\n\n".join(blocks)


def machine_columns(status: Status) -> list[Column]:
    """A line for each machine that runs."""

    def column(header: str, cells: list[str | None], rank: int = 0, *, right: bool = False) -> Column:
        return Column(header, cells, rank, right=right)

    machines: tuple[RunningMachine, ...] = status.machines
    return [
        column("INSTANCE", [each.name or each.id for each in machines]),
        column("RUN", [each.run_id for each in machines], 1),
        column("TYPE", [each.instance_type for each in machines], 2),
        column("MARKET", [each.market for each in machines], 4),
        column("ZONE", [each.zone or each.region for each in machines], 3),
        column("RUNS FOR", [time_span(status.as_of - each.since) for each in machines]),
        column("AN HOUR", [usd_if_known(each.usd_per_hour) for each in machines], right=True),
        column("SO FAR", [usd(each.usd) for each in machines], right=True),
        column("PROJECT", [each.project for each in machines], 5),
    ]


def _kept(things: list[KeptThing], screen: Screen) -> str:
    return fit(
        [
            Column("ID", [each.id for each in things]),
            Column("NAME", [each.name for each in things], 1, cut=True),
            Column("KIND", [each.kind for each in things], 2),
            Column("SIZE", [each.shape for each in things], 3),
            Column("OF", [each.machine for each in things], 4),
            Column("A MONTH", [usd_if_known(each.usd_per_month) for each in things], right=True),
            Column("SO FAR", [usd(each.usd) for each in things], 5, right=True),
        ],
        screen,
    )


def sums(status: Status) -> list[str]:
    """What all of it comes to, a line each, and the budget."""
    own = [thing for thing in status.kept if thing.machine_runs]
    disks = f", disks of these machines included ({monthly(_total(own))})" if own else ""
    lines = [
        f"{hourly(status.usd_per_hour)} now{disks}",
        f"{usd(status.usd_today)} today, {usd(status.usd_this_month)} this month (UTC)",
    ]
    if status.usd_per_month_stopped:
        lines.append(f"{monthly(status.usd_per_month_stopped)} stay when nothing runs")
    lines += [_budget(each) for each in status.budget]
    return lines


def _total(things: list[KeptThing]) -> Decimal:
    return sum((each.usd_per_month or Decimal(0) for each in things), Decimal(0))


def _budget(used: BudgetUse) -> str:
    return f"{usd(used.spent)} of {usd(used.limit.usd)} ({used.share:.0%}) of the budget {used.limit.of}"
