"""What the commands about spending share: moments, and what is said when the ledger may not know all of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import click

from runctl.cli.context import Cli
from runctl.core.clock import SystemClock, parse_duration
from runctl.costs.billing import day_start

cached_option = click.option(
    "--cached", is_flag=True, help="Show what this computer knows, without asking the cloud."
)


class Moment(click.ParamType[datetime]):
    """``2026-11-01``, ``2026-11-01T12:00``, ``today``, or a time ago: ``7d``. UTC unless it says otherwise."""

    name = "moment"

    def convert(
        self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """The moment, aware, in UTC."""
        if isinstance(value, datetime):
            return value
        now = SystemClock().now()
        days = {"yesterday": -1, "today": 0, "tomorrow": 1}.get(value.strip().lower())
        if days is not None:
            return day_start(now) + timedelta(days=days)
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return self._ago(value, now, param, ctx)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

    def _ago(
        self, value: str, now: datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            ago: timedelta = parse_duration(value)
        except ValueError:
            self.fail(
                f"{value!r} is not a date or a time; write 2026-11-01, 2026-11-01T12:00, today, or 7d for seven"
                f" days ago",
                param,
                ctx,
            )
        return now - ago


MOMENT = Moment()


def warn_unsettled(cli: Cli, problems: Sequence[str]) -> None:
    """It is said what the figures may lack."""
    for problem in problems:
        cli.progress.warn(problem)
