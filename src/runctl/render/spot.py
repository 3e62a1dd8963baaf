"""Tables about spot capacity."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from runctl.core.money import usd
from runctl.render.tables import table
from runctl.render.things import duration

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
                duration(each.seen.mean_lifetime) if each.seen.mean_lifetime is not None else None,
            )
            for each in pools
        ],
    )


def _saved(spot: Decimal, on_demand: Decimal | None) -> str | None:
    return None if not on_demand else f"{round(100 * (1 - spot / on_demand))} %"


def _count(number: int, last: datetime | None, now: datetime) -> str:
    return str(number) if last is None else f"{number}, {duration(now - last)} ago"
