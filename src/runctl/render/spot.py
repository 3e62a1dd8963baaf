"""Tables about spot capacity."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from runctl.core.money import usd
from runctl.core.text import time_span
from runctl.render.pictures import COLOURS, drawing
from runctl.render.tables import table

if TYPE_CHECKING:
    from runctl.machines.spot_market import PoolAdvice, PoolPrices


def prices_table(pools: Sequence[PoolPrices]) -> str:
    """A pool a line, an hour's prices in USD."""
    return table(
        ("TYPE", "ZONE", "NOW", "LOWEST", "MEAN", "HIGHEST", "CHANGES", "ON DEMAND", "SAVES"),
        [
            (
                each.pool.instance_type,
                each.pool.zone,
                usd(each.usd),
                usd(each.lowest),
                usd(each.mean),
                usd(each.highest),
                str(each.changes),
                usd(each.on_demand_usd) if each.on_demand_usd is not None else None,
                _saved(each.usd, each.on_demand_usd),
            )
            for each in pools
        ],
    )


def draw_prices(pools: Sequence[PoolPrices], path: Path, now: datetime) -> None:
    """Draw each pool's price over time, each type in a colour, and on demand for comparison. Raises `UsageError`."""
    types = sorted({each.pool.instance_type for each in pools})
    colours = {kind: COLOURS[number % len(COLOURS)] for number, kind in enumerate(types)}
    with drawing(path, (9, 4.5)) as figure:
        axes = figure.subplots()
        for each in pools:
            colour = colours[each.pool.instance_type]
            times = [*(point.since for point in each.history), now]
            prices = [*(float(point.usd) for point in each.history), float(each.usd)]
            axes.step(times, prices, where="post", color=colour, linewidth=1)  # type: ignore[arg-type]
            axes.annotate(each.pool.zone, (now, prices[-1]), fontsize="x-small", color=colour)
        for kind in types:
            on_demand = next(each.on_demand_usd for each in pools if each.pool.instance_type == kind)
            axes.plot([], [], color=colours[kind], label=kind)
            if on_demand is not None:
                axes.axhline(float(on_demand), color=colours[kind], linestyle=":", label=f"{kind} on demand")
        axes.set_ylim(bottom=0)
        axes.set_ylabel("USD an hour")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)


def advice_table(pools: Sequence[PoolAdvice], now: datetime) -> str:
    """A pool a line, the best first."""
    return table(
        ("TYPE", "ZONE", "NOW", "SAVES", "SCORE", "RENTED", "REFUSED", "TAKEN BACK", "MEAN LIFE"),
        [
            (
                each.pool.instance_type,
                each.pool.zone,
                usd(each.usd),
                _saved(each.usd, each.on_demand_usd),
                str(each.score) if each.score is not None else None,
                str(each.seen.launches),
                _count(each.seen.refusals, each.seen.last_refused_at, now),
                _count(each.seen.interruptions, each.seen.last_interrupted_at, now),
                time_span(each.seen.mean_lifetime) if each.seen.mean_lifetime is not None else None,
            )
            for each in pools
        ],
    )


def _saved(spot: Decimal, on_demand: Decimal | None) -> str | None:
    return None if not on_demand else f"{round(100 * (1 - spot / on_demand))} %"


def _count(number: int, last: datetime | None, now: datetime) -> str:
    return str(number) if last is None else f"{number}, {time_span(now - last)} ago"
