"""Aligned text: tables with a line a thing, and details with a line a field. Nothing is wrapped or cut."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

EMPTY = "-"


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[str | None]],
    *,
    right: Iterable[str] = (),
    bold: bool = False,
) -> str:
    """Columns two spaces apart; missing values are a dash, ``right`` names the columns of numbers."""
    cells = [[cell or EMPTY for cell in row] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(headers, *cells, strict=True)]
    to_the_right = {index for index, header in enumerate(headers) if header in set(right)}

    def aligned(row: Sequence[str]) -> str:
        return "  ".join(
            text.rjust(width) if index in to_the_right else text.ljust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()

    head = aligned(list(headers))
    return "\n".join([f"\x1b[1m{head}\x1b[0m" if bold else head, *(aligned(row) for row in cells)])


def details(fields: Mapping[str, str | None]) -> str:
    """One field a line; those without a value are left out."""
    shown = {name: text for name, text in fields.items() if text}
    width = max((len(name) for name in shown), default=0)
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in shown.items())


def wants_style(stream: TextIO) -> bool:
    """Whether escape sequences are welcome: on a terminal, unless NO_COLOR (no-color.org) or TERM=dumb says no."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
