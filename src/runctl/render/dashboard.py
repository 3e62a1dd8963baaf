"""What the dashboard shows: tables with a key for each line, sums and problems. It draws nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from runctl._dataclasses import dataclass
from runctl.core.money import usd
from runctl.core.text import printable, size, time_span
from runctl.render.deadlines import done_text, left_text
from runctl.render.run_table import command_line, state_text
from runctl.render.status import machine_columns, sums
from runctl.render.tables import EMPTY, Column

if TYPE_CHECKING:
    from runctl.runs.observing import Observation, WatchedRun


@dataclass(frozen=True)
class Table:
    """Headers, and cells by the key of their line; headers of numbers are in ``right``."""

    headers: tuple[str, ...]
    right: frozenset[str]
    lines: dict[str, tuple[str, ...]]


def machine_table(found: Observation) -> Table:
    """The machines that run, by their ids."""
    return _table(machine_columns(found.status), [each.id for each in found.status.machines])


def run_table(found: Observation) -> Table:
    """The runs, by their ids."""
    runs, now = found.runs, found.status.as_of
    columns = [
        Column("RUN", [each.run.name or each.run.id for each in runs]),
        Column("STATE", [state_text(each.run) for each in runs]),
        Column("DONE", [done_text(each.run.progress) for each in runs], right=True),
        Column(
            "LEFT", [left_text(each.run.progress) if _goes_on(each) else None for each in runs], right=True
        ),
        Column(
            "CPU", [_percent(each.usage.cpu_percent if each.usage else None) for each in runs], right=True
        ),
        Column(
            "GPU", [_percent(each.usage.gpu_percent if each.usage else None) for each in runs], right=True
        ),
        Column("MEMORY", [_memory(each) for each in runs], right=True),
        Column("INTERRUPTED", [_interrupted(each, now) for each in runs]),
        Column("COST", [None if each.run.cost is None else usd(each.run.cost) for each in runs], right=True),
        Column("TIME", [_time(each) for each in runs], right=True),
        Column("MACHINE", [each.run.instance_name or each.run.instance_id or None for each in runs]),
        Column("SCRIPT", [command_line(each.run) for each in runs]),
    ]
    return _table(columns, [each.run.id for each in runs])


def summary(found: Observation) -> str:
    """What all of it costs, and of when that is."""
    seen = found.status.seen_at
    as_of = [] if seen is None else [f"as the cloud said at {seen:%H:%M:%S} UTC"]
    return "\n".join([*sums(found.status), *as_of])


def _table(columns: Sequence[Column], keys: Sequence[str]) -> Table:
    texts = [[printable(cell or EMPTY, lines=False) for cell in column.cells] for column in columns]
    return Table(
        tuple(column.header for column in columns),
        frozenset(column.header for column in columns if column.right),
        {key: tuple(cells[number] for cells in texts) for number, key in enumerate(keys)},
    )


def _goes_on(watched: WatchedRun) -> bool:
    return watched.run.end_reason is None


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f}%"


def _memory(watched: WatchedRun) -> str | None:
    usage = watched.usage
    return None if usage is None or usage.rss_bytes is None else size(usage.rss_bytes)


def _interrupted(watched: WatchedRun, now: datetime) -> str | None:
    """How often, and what is about to happen."""
    parts = [f"{watched.interruptions}×"] if watched.interruptions else []
    if watched.machine_ends_at is not None:
        parts.append(f"in {time_span(watched.machine_ends_at - now)}")
    elif watched.move_advised_at is not None:
        parts.append("at risk")
    return ", ".join(parts) or None


def _time(watched: WatchedRun) -> str | None:
    seconds = watched.run.elapsed_seconds
    return None if seconds is None else time_span(timedelta(seconds=seconds))
