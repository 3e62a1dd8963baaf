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
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"


def row(result: Result) -> str:
    """One line of the table."""
    peer = f"{result.peer}: {number(result.theirs, result.unit)}" if result.theirs is not None else ""
    ratio = f"{result.ratio:.2f}" if result.ratio is not None else ""
    target = ""
    if result.target is not None:
        bound = f"{result.target:g}" if result.theirs is not None else number(result.target, result.unit)
        target = f"≤ {bound}{'' if result.met else ' (missed)'}"
    return f"| {result.what} | {number(result.ours, result.unit)} | {peer} | {ratio} | {target} | {result.rounds} |"


def render(results: Sequence[Result], skipped: Mapping[str, str], today: dt.date) -> str:
    """What stands between the page's two marks."""
    lines = [
        (
            f"Measured on {today.isoformat()}: {platform.system()} {platform.release().split('-')[0]},"
            f" {os.cpu_count()} cores, Python {platform.python_version()}."
        ),
        "",
        "| what | runctl | compared with | ratio | target | rounds |",
        "| --- | --- | --- | --- | --- | --- |",
        *(row(result) for result in results),
    ]
    if skipped:
        lines += ["", *(f"Not measured: {name}, {reason}." for name, reason in skipped.items())]
    return "\n".join(lines)


def put_into(page: str, table: str) -> str:
    """The page with its results replaced; raises `ValueError` where it has no place for them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"
