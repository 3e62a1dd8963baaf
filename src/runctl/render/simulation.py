"""A comparison of policies as a table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from runctl.agent.deadline import Policy
from runctl.render.pictures import drawing
from runctl.render.tables import Column, Screen, fit
from runctl.simulation.comparison import Comparison, PolicyResult

_COLOURS = {
    # Okabe and Ito's, which people who see colours differently can tell apart.
    Policy.ON_DEMAND: "#999999",
    Policy.SPOT: "#E69F00",
    Policy.SPOT_THEN_ON_DEMAND: "#56B4E9",
    Policy.UNIFORM_PROGRESS: "#CC79A7",
    Policy.DEADLINE: "#009E73",
}


_BAR_CELLS = 40
_LEVELS = "▁▂▃▄▅▆▇█"


def simulation_text(comparison: Comparison, screen: Screen, *, chart: bool = False) -> str:
    """The share of time with capacity first, then a line for each policy; with ``chart``, a picture below."""
    shares = ", ".join(f"{pool.name} {pool.available:.1%}" for pool in comparison.pools)
    results = comparison.policies
    table = fit(
        [
            Column("POLICY", [result.policy.value for result in results]),
            Column("SAVED", [f"{result.saved:.1%}" for result in results], right=True),
            Column("COST", [f"{result.cost:.2f}" for result in results], right=True),
            Column("LATE", [str(result.late) for result in results], right=True),
            Column("MEAN FINISH", [_hours(result.finish_hours) for result in results], rank=2, right=True),
            Column("LAST FINISH", [_hours(r.latest_finish_hours) for r in results], rank=1, right=True),
            Column("ON-DEMAND", [_hours(r.on_demand_hours) for r in results], rank=1, right=True),
            Column("ATTEMPTS", [f"{r.attempts:.1f}" for r in results], rank=3, right=True),
            Column("INTERRUPTIONS", [f"{r.interruptions:.1f}" for r in results], rank=4, right=True),
        ],
        screen,
    )
    return "\n".join(
        (
            f"Time with capacity: {shares}; in any pool {comparison.any_available:.1%}.",
            f"{_what(comparison)}.",
            f"Prices per hour: {comparison.spot_price} on spot, {comparison.on_demand_price} on demand.",
            "",
            table,
            *(["", *_chart(results)] if chart else []),
        )
    )


def _chart(results: Sequence[PolicyResult]) -> list[str]:
    """What `draw` draws, in characters: a bar for the mean, and the savings by the moment of the start."""
    width = max(len(result.policy.value) for result in results)
    lines = ["SAVED, mean (the bar's whole length is 100%), and by the start of the run:"]
    for result in results:
        filled = round(_BAR_CELLS * max(0.0, result.saved))
        bar = "█" * filled + "·" * (_BAR_CELLS - filled)
        lines.append(f"{result.policy.value.ljust(width)}  {bar}  {_label(result)}")
        lines.append(f"{' ' * width}  {_curve([saved for _, saved in result.saved_by_start])}")
    return lines


def _curve(values: Sequence[float]) -> str:
    """Shares as one line of characters: the lowest block is nothing or a loss, the highest all."""
    cells = min(_BAR_CELLS, len(values))
    groups = [
        values[len(values) * cell // cells : len(values) * (cell + 1) // cells] for cell in range(cells)
    ]
    top = len(_LEVELS) - 1
    return "".join(_LEVELS[round(top * min(1.0, max(0.0, fmean(group))))] for group in groups)


def draw(comparison: Comparison, path: Path) -> None:
    """Draw what each policy saved: on average, and by the moment of the start. Raises `UsageError`."""
    with drawing(path, (10, 4.2)) as figure:
        bars, lines = figure.subplots(1, 2, width_ratios=(2, 3))
        names = [result.policy.value for result in comparison.policies]
        colours = [_COLOURS[result.policy] for result in comparison.policies]
        drawn = bars.barh(names, [100 * result.saved for result in comparison.policies], color=colours)
        bars.bar_label(drawn, labels=[_label(result) for result in comparison.policies], padding=3)
        bars.invert_yaxis()
        bars.set_xlim(0, 100)
        bars.set_xlabel("saved against on-demand alone, mean (%)")
        for result, colour in zip(comparison.policies, colours, strict=True):
            days, saved = zip(*result.saved_by_start, strict=True)
            lines.plot(days, [100 * each for each in saved], color=colour, label=result.policy.value)
        lines.set_xlabel("start of the run in the traces (days)")
        lines.set_ylabel("saved (%)")
        lines.grid(alpha=0.3)
        lines.legend(loc="center right", fontsize="small")
        for axes in (bars, lines):
            axes.spines[["top", "right"]].set_visible(False)
        figure.suptitle(_what(comparison))


def _what(comparison: Comparison) -> str:
    pools = "1 pool" if len(comparison.pools) == 1 else f"{len(comparison.pools)} pools"
    runs = "1 run" if comparison.runs == 1 else f"{comparison.runs} runs"
    return (
        f"{runs} of {comparison.job_hours:g} h in {comparison.deadline_hours:g} h over {pools} "
        f"and {comparison.days:.1f} days, {comparison.restart_minutes:g} min for a restart"
    )


def _label(result: PolicyResult) -> str:
    late = f", {result.late} late" if result.late else ""
    return f"{100 * result.saved:.1f}%{late}"


def _hours(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f} h"
