"""``cost report`` and ``cost run``: what was spent."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runctl.cli.context import Cli
from runctl.cli.costs.common import MOMENT, cached_option, warn_unsettled
from runctl.cli.framework.commands import Command
from runctl.cli.framework.completion import complete_runs
from runctl.cli.framework.values import RUN, check_format, format_option, wide_option
from runctl.core.errors import UsageError
from runctl.costs.entries import By
from runctl.providers.registry import DEFAULT

if TYPE_CHECKING:
    from runctl.costs.report import CostReport


@click.command(
    cls=Command,
    name="report",
    examples=[
        ("runctl cost report --since 2026-11-01 --by day", "what each day of a month cost"),
        ("runctl cost report --by project --format csv", "for a spreadsheet"),
        ("runctl cost report --since 90d --html report.html", "a page with pictures, for a browser"),
    ],
)
@click.option(
    "--by",
    type=click.Choice([by.value for by in By]),
    default=By.RUN.value,
    show_default=True,
    help="What to sum by.",
)
@click.option(
    "--since",
    type=MOMENT,
    metavar="TIME",
    help="From then on: a date (its first second, UTC), or 7d for seven days ago (default: this month).",
)
@click.option("--until", type=MOMENT, metavar="TIME", help="Until then (default: now).")
@format_option("The format on stdout.")
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page with pictures into this file as well.",
)
@cached_option
@wide_option
@click.pass_obj
def report_command(
    cli: Cli,
    *,
    by: str,
    since: datetime | None,
    until: datetime | None,
    form: str,
    page: Path | None,
    cached: bool,
    wide: bool,
) -> None:
    """Show what was spent, from the ledger of this computer.

    The ledger has every machine, volume, snapshot and public address from its first to its last second. The cloud is
    asked first what became of those that still exist.
    """
    from runctl.render.costs import report_csv, report_text
    from runctl.render.json import document
    from runctl.render.tables import screen_of
    from runctl.runs.costs import cost_reports

    check_format(form, as_json=cli.settings.json)
    pictures = page is not None or form == "html"
    groupings = [By(by), *([By.DAY, By.MONTH] if pictures else [])]
    found, *over_time = cost_reports(groupings, since=since, until=until, cached=cached, session=cli.session)
    warn_unsettled(cli, found.unsettled)
    if page is not None:
        _write_page(page, found, *over_time)
        cli.progress.note(f"with pictures, for a browser: {page}")
    if form == "html":
        from runctl.render.cost_page import cost_page

        cli.write(cost_page(found, *over_time))
        return
    if form in {"json", "csv"}:
        cli.write(document(found) if form == "json" else report_csv(found))
        return
    cli.emit(
        found,
        text=lambda: report_text(found, screen_of(sys.stdout, wide=wide)),
        ids=[line.key for line in found.lines],
    )


def _write_page(file: Path, report: CostReport, daily: CostReport, monthly: CostReport) -> None:
    from runctl.core.files import write_atomically
    from runctl.render.cost_page import cost_page

    try:
        write_atomically(file, cost_page(report, daily, monthly))
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from error


@click.command(cls=Command, name="run")
@click.argument("run_id", metavar="RUN", type=RUN, shell_complete=complete_runs)
@cached_option
@click.pass_obj
def run_command(cli: Cli, run_id: str, cached: bool) -> None:
    """Show what a run cost: each attempt, and what the same would have cost on demand."""
    from runctl.render.costs import run_cost_text
    from runctl.render.tables import screen_of
    from runctl.runs.costs import cost_of_run

    found = cost_of_run(run_id, cached=cached, session=cli.session)
    cli.emit(found, text=lambda: run_cost_text(found, screen_of(sys.stdout)), ids=[found.run_id])


@click.command(
    cls=Command,
    name="reconcile",
    examples=[("runctl cost reconcile --since 2026-10-01 --until 2026-11-01", "the month that is over")],
)
@click.option("--since", type=MOMENT, metavar="TIME", help="From that day on (default: this month).")
@click.option(
    "--until", type=MOMENT, metavar="TIME", help="Until that day's first second, UTC (default: today's)."
)
@click.option("--provider", metavar="NAME", default=DEFAULT, show_default=True, help="Whose bill.")
@click.pass_obj
def reconcile_command(cli: Cli, *, since: datetime | None, until: datetime | None, provider: str) -> None:
    """Compare the ledger with the bill for what runctl has made, and explain the differences.

    Day by day, in UTC; a day's bill is complete about 24 hours later. AWS's Cost Explorer charges 0.01 USD per
    question, and knows what has the tag runctl:managed once that is activated as a cost allocation tag.
    """
    from runctl.render.costs import reconciliation_text
    from runctl.render.tables import screen_of
    from runctl.runs.costs import reconcile_costs

    found = reconcile_costs(provider, since=since, until=until, session=cli.session)
    cli.emit(
        found,
        text=lambda: reconciliation_text(found, screen_of(sys.stdout)),
        ids=[line.kind for line in found.lines],
    )
    if found.hint:
        cli.progress.warn(found.hint)
