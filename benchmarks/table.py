"""The results as docs/benchmarks.md has them."""

from __future__ import annotations

import datetime as dt
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measure import Result

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN = "<!-- results: written by scripts/bench -->"
END = "<!-- end of results -->"


def number(value: float, unit: str) -> str:
    """Three digits, in a unit that suits."""
    if unit != "s":
        return f"{value:.3g} {unit}"
    return f"{value:.2f} s" if abs(value) >= 1 else f"{value * 1000:.3g} ms"


HEAD = (
    "| what | runctl | compared with | ratio | target | rounds | measured |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)


def row(result: Result, today: dt.date) -> str:
    """One line of the table."""
    peer = f"{result.peer}: {number(result.theirs, result.unit)}" if result.theirs is not None else ""
    ratio = f"{result.ratio:.2f}" if result.ratio is not None else ""
    target = ""
    if result.target is not None:
        bound = f"{result.target:g}" if result.theirs is not None else number(result.target, result.unit)
        target = f"≤ {bound}{'' if result.met else ' (missed)'}"
    ours = number(result.ours, result.unit)
    cells = (result.what, ours, peer, ratio, target, str(result.rounds), today.isoformat())
    return f"| {' | '.join(cells)} |"


def render(
    results: Sequence[Result],
    skipped: Mapping[str, str],
    today: dt.date,
    before: Sequence[str] = (),
) -> str:
    """What stands between the page's two marks.

    ``before`` are rows of earlier runs: each stays where it is until it is measured again.
    """
    rows = {_key(line): line for line in before}
    rows.update((_key(line), line) for line in (row(result, today) for result in results))
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    lines = [
        f"The newest: {system}, {os.cpu_count()} cores, Python {platform.python_version()}.",
        "",
        *HEAD,
        *rows.values(),
    ]
    if skipped:
        lines += ["", *(f"Not measured: {name}, {reason}." for name, reason in skipped.items())]
    return "\n".join(lines)


def rows_of(page: str) -> list[str]:
    """The table's rows that the page has now; raises as `put_into` does."""
    _, between, _ = _parts(page)
    lines = [line for line in between.splitlines() if line.startswith("| ")]
    return [line for line in lines if line not in HEAD]


def put_into(page: str, table: str) -> str:
    """The page with its results replaced; raises `ValueError` where it has no place for them."""
    before, _, after = _parts(page)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def _key(line: str) -> tuple[str, str]:
    """Whom a row compares in what; the numbers are no part of it."""
    cells = [cell.strip() for cell in line.split("|")]
    return cells[1], cells[3].partition(":")[0]


def _parts(page: str) -> tuple[str, str, str]:
    before, begin, rest = page.partition(BEGIN)
    between, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return before, between, after
