"""What was spent, as tables and as CSV."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import TYPE_CHECKING

from runctl.core.money import plain, usd
from runctl.core.text import counted
from runctl.render.tables import PLAIN, Column, Screen, fit

if TYPE_CHECKING:
    from runctl.costs.reconciliation import Reconciliation
    from runctl.costs.report import CostReport
    from runctl.runs.costs import RunCost

NO_RUN = "(no run)"


def report_text(report: CostReport, screen: Screen = PLAIN) -> str:
    """A line for each group, the total, and what is not in it."""
    period = f"{report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC"
    if not report.lines:
        return f"nothing was spent from {period}"
    total = Decimal(sum(line.usd for line in report.lines))
    keys = [NO_RUN if line.key == "-" and report.by.value == "run" else line.key for line in report.lines]
    table = fit(
        [
            Column(report.by.value.upper(), [*keys, "total"], cut=True),
            Column("COST", [usd(line.usd) for line in report.lines] + [usd(report.usd)], right=True),
            Column(
                "SHARE",
                [f"{line.usd / total:.0%}" if total else None for line in report.lines] + [None],
                right=True,
                rank=2,
            ),
            Column(
                "SAVED",
                [usd(line.saved_usd) if line.saved_usd else None for line in report.lines]
                + [usd(report.saved_usd) if report.saved_usd else None],
                right=True,
                rank=1,
            ),
            Column("THINGS", [str(line.things) for line in report.lines] + [None], right=True, rank=3),
        ],
        screen,
    )
    return "\n".join((table, "", f"From {period}.", *remarks(report)))


def remarks(report: CostReport) -> list[str]:
    """What is not in the figures, and what is not exact, a line each."""
    found = [
        "Requests and traffic are not in the ledger; storage is as large as it was when it was looked at."
    ]
    if report.saved_usd:
        found.append("Saved is what the same machines would have cost more on demand.")
    if report.unpriced:
        things = counted(len(report.unpriced), "thing")
        found.append(f"No price is known of {things}: {_some(report.unpriced)}.")
    if report.estimated:
        things = counted(len(report.estimated), "thing")
        found.append(f"When {things} ended is an estimate: {_some(report.estimated)}.")
    return found


def _some(names: tuple[str, ...], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def report_csv(report: CostReport) -> str:
    """A header and a line for each group; amounts in full."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([report.by.value, "usd", "saved_usd", "things"])
    writer.writerows([line.key, plain(line.usd), plain(line.saved_usd), line.things] for line in report.lines)
    return stream.getvalue()


def run_cost_text(cost: RunCost, screen: Screen = PLAIN) -> str:
    """A line for each attempt, and the sum."""
    if not cost.attempts:
        return f"nothing that was rented for {cost.run_id} is in the ledger"
    attempts = cost.attempts
    table = fit(
        [
            Column("ATTEMPT", [*(str(each.attempt) for each in attempts), "total"]),
            Column("INSTANCE", [*(each.instance_id for each in attempts), ""]),
            Column("TYPE", [*(each.instance_type for each in attempts), ""], rank=2),
            Column("MARKET", [*(each.market for each in attempts), ""], rank=1),
            Column("FROM", [*(f"{each.started_at:%Y-%m-%d %H:%M:%S}" for each in attempts), ""], rank=3),
            Column(
                "TO",
                [
                    *(
                        f"{each.ended_at:%Y-%m-%d %H:%M:%S}" if each.ended_at else "goes on"
                        for each in attempts
                    ),
                    "",
                ],
                rank=4,
            ),
            Column(
                "COST", [*(usd(each.usd) for each in attempts), usd(cost.usd - cost.storage_usd)], right=True
            ),
            Column(
                "SAVED",
                [*(usd(each.saved_usd) for each in attempts), usd(cost.saved_usd)],
                right=True,
                rank=1,
            ),
        ],
        screen,
    )
    exact = "" if cost.exact else " Some prices or ends are estimates."
    stored = (
        f"\nIn an object store: {usd(cost.storage_usd)}; {usd(cost.usd)} in all." if cost.storage_usd else ""
    )
    return f"{table}{stored}\n\nWith disks and addresses of these machines; times in UTC.{exact}"


def reconciliation_text(found: Reconciliation, screen: Screen = PLAIN) -> str:
    """A line for each kind, the sums, and what explains the differences."""
    period = (
        f"From {found.since:%Y-%m-%d} to {found.until:%Y-%m-%d} (UTC, without that day), {found.provider}."
    )
    if not found.lines:
        return "\n".join((f"nothing was spent and nothing billed. {period}", *found.left_out))
    lines = found.lines
    table = fit(
        [
            Column("KIND", [*(line.kind for line in lines), "total"]),
            Column("LEDGER", [*(usd(line.ledger_usd) for line in lines), usd(found.ledger_usd)], right=True),
            Column("BILLED", [*(usd(line.billed_usd) for line in lines), usd(found.billed_usd)], right=True),
            Column(
                "DIFFERENCE",
                [
                    *(_signed(line.difference_usd) for line in lines),
                    _signed(found.billed_usd - found.ledger_usd),
                ],
                right=True,
            ),
        ],
        screen,
    )
    told = [f"{line.kind}: {line.explanation}" for line in lines if line.explanation]
    if found.preliminary:
        told.append("The provider may still add to this bill.")
    told += found.left_out
    return "\n".join((table, "", period, *told))


def _signed(amount: Decimal) -> str:
    return f"-{usd(-amount)}" if amount < 0 else f"+{usd(amount)}" if amount else usd(amount)
