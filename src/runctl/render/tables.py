"""Aligned text: tables with a line a thing, and details with a line a field.

A table fits the terminal: columns that matter less are left out before a line would wrap, and a line below the table
names them. Where there is no terminal, nothing is cut, and which columns there are does not depend on what is in them.
Our own, as rich's tables wrap or cut cells instead.
"""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TextIO

from runctl._dataclasses import dataclass
from runctl.core.text import printable

EMPTY = "-"
WIDE = 9
"""The rank of columns that are shown where there is room for everything only."""
_GAP = 2
_LEAST_CUT = 16
"""Characters that are left of a cell at least."""

_STATES: Mapping[str, str] = {
    **dict.fromkeys(("running", "available", "in-use", "completed", "ok"), "32"),
    **dict.fromkeys(("pending", "setting-up", "starting", "stopping", "shutting-down", "creating"), "33"),
    **dict.fromkeys(("unknown", "deleting", "recovering", "interrupted", "time_limit", "warning"), "33"),
    **dict.fromkeys(("error", "failed", "lost", "out_of_memory", "setup_failed", "image_failed"), "31"),
    **dict.fromkeys(("data_failed", "disk_full", "no_capacity", "not_started", "budget"), "31"),
    **dict.fromkeys(("terminated", "stopped", "deleted", "ended", "idle", "skipped"), "2"),
}
"""Select Graphic Rendition (ECMA-48) by the first word of a state, in lower case."""


@dataclass(frozen=True)
class Screen:
    """Where a table is shown."""

    width: int | None = None
    """Columns of the terminal; ``None``: it is none."""
    style: bool = False
    """Colours and bold are welcome."""
    wide: bool = False
    """Every column is asked for, whatever the width."""
    remedy: str = "a wider terminal shows them"
    """What shows the columns that are left out."""


PLAIN = Screen()


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    header: str
    cells: Sequence[str | None]
    rank: int = 0
    """0 is always shown; of the others the highest is left out first."""
    right: bool = False
    cut: bool = False
    """Its cells may be cut, to an ellipsis, before another column is left out for it."""
    is_state: bool = False
    """Its cells are coloured by what they say."""
    least: int = _LEAST_CUT
    """Characters that are left of a cell at least where it is cut."""


def screen_of(stream: TextIO, *, wide: bool | None = None) -> Screen:
    """The terminal that a stream is, or `PLAIN`. ``wide`` is the option ``--wide``; ``None``: there is none."""
    if not stream.isatty():
        return Screen(wide=bool(wide))
    screen = Screen(shutil.get_terminal_size().columns, wants_style(stream), bool(wide))
    return screen if wide is None else replace(screen, remedy="--wide shows them")


def fit(columns: Sequence[Column], screen: Screen = PLAIN) -> str:
    """The table, as wide as the screen at most; only columns of rank 0 may make it wider. Empty without any row.

    Below it stands which columns are left out for the width, but those of rank `WIDE`.
    """
    if not columns or not columns[0].cells:
        return ""
    columns = [
        replace(column, cells=[printable(cell or "", lines=False) for cell in column.cells])
        for column in columns
    ]
    texts = {id(column): [cell or EMPTY for cell in column.cells] for column in columns}
    shown = _shown(columns, screen)
    widths = _widths(shown, screen)

    def aligned(cells: Sequence[str], *, row: bool) -> str:
        parts = []
        for column, width, text in zip(shown, widths, cells, strict=True):
            short = text if len(text) <= width else text[: width - 1] + "…"
            padded = short.rjust(width) if column.right else short.ljust(width)
            parts.append(_coloured(padded, text) if row and column.is_state and screen.style else padded)
        return (" " * _GAP).join(parts).rstrip()

    head = aligned([column.header for column in shown], row=False)
    lines = [f"\x1b[1m{head}\x1b[0m" if screen.style else head]
    lines += [
        aligned(cells, row=True) for cells in zip(*(texts[id(column)] for column in shown), strict=True)
    ]
    missing = [column.header for column in _filled(columns) if column.rank < WIDE and column not in shown]
    if screen.width is not None and missing:
        lines += textwrap.wrap(f"left out: {', '.join(missing)} ({screen.remedy})", max(screen.width, 1))
    return "\n".join(lines)


def _filled(columns: Sequence[Column]) -> list[Column]:
    return [column for column in columns if column.rank == 0 or any(column.cells)]


def _shown(columns: Sequence[Column], screen: Screen) -> list[Column]:
    if screen.wide:
        return list(columns)
    if screen.width is None:
        return [column for column in columns if column.rank < WIDE]
    shown = _filled(columns)
    while sum(map(_least, shown)) + _GAP * (len(shown) - 1) > screen.width:
        droppable = [column for column in shown if column.rank > 0]
        if not droppable:
            break
        shown.remove(max(droppable, key=lambda column: column.rank))
    return shown


def _widths(shown: Sequence[Column], screen: Screen) -> list[int]:
    """What each column takes; those that may be cut share what the others leave."""
    widths = [_full(column) for column in shown]
    if screen.width is None or screen.wide:
        return widths
    for index, column in enumerate(shown):
        over = sum(widths) + _GAP * (len(widths) - 1) - screen.width
        if column.cut and over > 0:
            widths[index] = max(_least(column), widths[index] - over)
    return widths


def _full(column: Column) -> int:
    return max(len(column.header), *(len(cell or EMPTY) for cell in column.cells))


def _least(column: Column) -> int:
    return min(_full(column), max(column.least, len(column.header))) if column.cut else _full(column)


def _coloured(padded: str, text: str) -> str:
    code = _STATES.get(text.split(" ", maxsplit=1)[0].lower())
    return f"\x1b[{code}m{padded}\x1b[0m" if code else padded


def table(headers: Sequence[str], rows: Iterable[Sequence[str | None]]) -> str:
    """A small table, shown whole."""
    cells = list(zip(*rows, strict=True))
    return (
        fit([Column(header, column) for header, column in zip(headers, cells, strict=True)]) if cells else ""
    )


def details(fields: Mapping[str, str | None]) -> str:
    """One field a line; those without a value are left out."""
    shown = {name: text for name, text in fields.items() if text}
    width = max((len(name) for name in shown), default=0)
    return "\n".join(f"{name.ljust(width)}  {printable(text)}" for name, text in shown.items())


def wants_style(stream: TextIO) -> bool:
    """Whether escape sequences are welcome: on a terminal, unless NO_COLOR (no-color.org) or TERM=dumb says no."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
