"""What was spent, as one page for a browser: it has its pictures in it, loads nothing and runs no program."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING

from runctl.core.money import usd
from runctl.render.costs import NO_RUN, remarks
from runctl.render.svg import Bar, horizontal_bars, two_lines, vertical_bars

if TYPE_CHECKING:
    from runctl.costs.report import CostLine, CostReport

MOST_BARS = 15
"""Of a grouping: the rest is summed."""
DAYS = 92
"""A longer time is drawn by the month."""

_STYLE = """
:root{color-scheme:light dark;--text:#1b1f24;--muted:#59636e;--line:#d1d9e0;--back:#fff;--paid:#0072b2;--saved:#009e73;
--list:#d55e00}
@media (prefers-color-scheme:dark){:root{--text:#f0f6fc;--muted:#9198a1;--line:#3d444d;--back:#0d1117;--paid:#56b4e9;
--saved:#2bc79a;--list:#e69f00}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--text);background:var(--back);max-width:60rem;margin:2rem auto;
padding:0 1rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{color:var(--muted);margin:.25rem 0}
dl{display:flex;flex-wrap:wrap;gap:2rem;margin:1.5rem 0}
dt{color:var(--muted);font-size:.9rem}dd{margin:0;font-size:1.6rem}
svg{width:100%;height:auto;display:block}svg text{fill:var(--text);font:12px system-ui,sans-serif}
svg .axis{fill:var(--muted)}svg .grid{stroke:var(--line)}svg .paid{fill:var(--paid)}
svg .saved{fill:var(--saved);opacity:.25}
svg .line-paid{stroke:var(--paid)}svg .line-list{stroke:var(--list)}svg .key-list{fill:var(--list)}
svg polyline{fill:none;stroke-width:2}
table{border-collapse:collapse;width:100%}
th,td{text-align:right;padding:.3rem .5rem;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left;overflow-wrap:anywhere}tfoot td{font-weight:600}
""".strip()


def cost_page(report: CostReport, daily: CostReport, monthly: CostReport) -> str:
    """The page; ``daily`` and ``monthly`` are of the same time as ``report``."""
    by = report.by.value
    over_time = monthly if report.until - report.since > timedelta(days=DAYS) else daily
    period = f"{report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC"
    points = _without_gaps(over_time)
    figures = [("Spent", usd(report.usd))]
    if report.saved_usd:
        on_demand = report.usd + report.saved_usd
        figures.append(
            ("Saved against on-demand", f"{usd(report.saved_usd)} ({report.saved_usd / on_demand:.0%})")
        )
    figures.append(("A day", usd(report.usd / max(_days(report), Decimal(1)))))
    shown = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in figures)
    notes = "".join(f"<p>{escape(note)}</p>" for note in (*report.unsettled, *remarks(report)))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>What was spent, {escape(period)}</title><style>{_STYLE}</style></head><body>
<h1>What was spent</h1><p>{escape(period)}</p>
<dl>{shown}</dl>
<h2>Over time</h2>
{vertical_bars(points, f"USD spent each {over_time.by.value}")}
<h2>By {escape(by)}</h2>
{horizontal_bars(_largest(report), f"USD spent by {by}")}
<h2>Savings</h2>
{_savings(points, report)}
<h2>All of it</h2>
<table><thead><tr><th>{escape(by.capitalize())}</th><th>Cost</th><th>Share</th><th>Saved</th><th>Things</th></tr></thead>
<tbody>{"".join(_row(line, report) for line in report.lines)}</tbody>
<tfoot><tr><td>total</td><td>{usd(report.usd)}</td><td></td><td>{usd(report.saved_usd)}</td><td></td></tr></tfoot></table>
{notes}
</body></html>
"""


def _days(report: CostReport) -> Decimal:
    return Decimal((report.until - report.since) // timedelta(seconds=1)) / 86_400


def _name(line: CostLine, report: CostReport) -> str:
    if line.key != "-":
        return line.key
    return NO_RUN if report.by.value == "run" else f"(no {report.by.value})"


def _row(line: CostLine, report: CostReport) -> str:
    share = f"{line.usd / report.usd:.0%}" if report.usd else ""
    cells = (_name(line, report), usd(line.usd), share, usd(line.saved_usd), str(line.things))
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _largest(report: CostReport) -> list[Bar]:
    bars = [Bar(_name(line, report), line.usd, line.saved_usd) for line in report.lines]
    if len(bars) <= MOST_BARS:
        return bars
    first, rest = bars[: MOST_BARS - 1], bars[MOST_BARS - 1 :]
    return [
        *first,
        Bar(
            f"{len(rest):,} more",
            sum((bar.value for bar in rest), Decimal(0)),
            sum((bar.saved for bar in rest), Decimal(0)),
        ),
    ]


def _without_gaps(report: CostReport) -> list[Bar]:
    """A bar for each day or month of the time, also where nothing was spent."""
    lines = {line.key: line for line in report.lines}
    form = "%Y-%m" if report.by.value == "month" else "%Y-%m-%d"
    keys: list[str] = []
    moment, last = report.since, report.until - timedelta(microseconds=1)
    while moment <= last:
        keys.append(f"{moment:{form}}")
        moment += timedelta(days=1)
    keys += [f"{last:{form}}"]
    found = []
    for key in dict.fromkeys(keys):
        line = lines.get(key)
        found.append(Bar(key, line.usd if line else Decimal(0), line.saved_usd if line else Decimal(0)))
    return found


def _savings(points: Sequence[Bar], report: CostReport) -> str:
    if not report.saved_usd:
        return "<p>Nothing was bought for less than its on-demand price.</p>"
    paid, listed = Decimal(0), Decimal(0)
    lines: list[tuple[str, Decimal, Decimal]] = []
    for point in points:
        paid += point.value
        listed += point.value + point.saved
        lines.append((point.label, paid, listed))
    return two_lines(
        lines, ("paid", "on demand"), "USD spent so far, and what the same would have cost on demand"
    )
