"""Use cases about spot capacity before anything is rented: what it has cost, and where it is likely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.core.clock import SystemClock
from runctl.core.errors import NotFound, Unsupported
from runctl.core.machine_models import Market
from runctl.core.names import did_you_mean
from runctl.costs.rates import Per, Rate
from runctl.machines.pool_record import PoolSummary, ranked, summaries
from runctl.machines.session import Session
from runctl.providers.abilities.prices import PricePoint
from runctl.providers.capacity import Offer, Pool
from runctl.providers.interface import require
from runctl.providers.registry import plugin

NOW = timedelta(hours=1)


@dataclass(frozen=True)
class PoolPrices:
    """What one pool costs as spot, and has cost since a moment; USD an hour."""

    pool: Pool
    usd: Decimal
    """Now."""
    lowest: Decimal
    mean: Decimal
    """Weighted by how long each price held."""
    highest: Decimal
    changes: int
    on_demand_usd: Decimal | None
    history: tuple[PricePoint, ...]
    """By time; the first is the price that held at the beginning."""


@dataclass(frozen=True)
class PoolAdvice:
    """One pool, as far as it is known how likely it has a machine."""

    pool: Pool
    usd: Decimal
    """As spot now, an hour."""
    on_demand_usd: Decimal | None
    score: int | None
    """The provider's, from 1 to 10, for one machine of any of the types in the zone; ``None``: not known."""
    seen: PoolSummary
    """By this computer."""


@dataclass(frozen=True)
class SpotAdvice:
    """The pools, the best first."""

    pools: tuple[PoolAdvice, ...]
    no_scores: str
    """Why there are no scores; empty where there are."""


def spot_prices(
    session: Session, provider: str, types: Sequence[str], days: timedelta, now: datetime | None = None
) -> tuple[PoolPrices, ...]:
    """The prices of each pool of these types, the cheapest now first. Raises `NotFound`, `Unsupported`."""
    found = session.provider(provider)
    prices = require(found.prices)
    now = now or SystemClock().now()
    points = prices.spot_history(types, found.region, now - days)
    known = {point.pool.instance_type for point in points}
    for name in types:
        if name not in known:
            raise NotFound(
                f"{found.region or provider} has no spot prices of {name}",
                hint=did_you_mean(name, tuple(plugin(provider).instance_types()))
                or "look the type up at the provider; --region asks another region",
            )
    on_demand = {name: prices.instance(name, found.region, Market.ON_DEMAND) for name in types}
    return pool_prices(points, on_demand, now - days, now)


def pool_prices(
    points: Sequence[PricePoint], on_demand: Mapping[str, Rate | None], start: datetime, end: datetime
) -> tuple[PoolPrices, ...]:
    """The history of each pool between two moments, and what it comes to. Pure."""
    found = []
    for pool in sorted({point.pool for point in points}):
        own = sorted((point for point in points if point.pool == pool), key=lambda point: point.since)
        # What was in force at the start began before it.
        before = [point for point in own if point.since <= start]
        held = [*before[-1:], *(point for point in own if point.since > start)]
        ends = [*(point.since for point in held[1:]), end]
        spans = [
            Decimal((until - max(point.since, start)).total_seconds())
            for point, until in zip(held, ends, strict=True)
        ]
        total = sum(spans, Decimal(0))
        mean = (
            sum((point.usd * span for point, span in zip(held, spans, strict=True)), Decimal(0)) / total
            if total
            else held[-1].usd
        )
        price = on_demand.get(pool.instance_type)
        found.append(
            PoolPrices(
                pool,
                held[-1].usd,
                min(point.usd for point in held),
                mean,
                max(point.usd for point in held),
                len(held) - 1,
                price.usd if price else None,
                tuple(held),
            )
        )
    return tuple(sorted(found, key=lambda each: (each.usd, each.pool)))


def spot_advice(session: Session, provider: str, types: Sequence[str]) -> SpotAdvice:
    """Prices now, placement scores where the account may ask for them, and what was seen here; the best pool first.

    The order is that in which the pools would be asked. Raises `NotFound`, `Unsupported`.
    """
    now = SystemClock().now()
    prices = {each.pool: each for each in spot_prices(session, provider, types, NOW, now)}
    scores = require(session.provider(provider).spot_market).placement_scores(types)
    seen = summaries(session.pool_record(provider).events(now), Market.SPOT)
    offers = [
        Offer(pool, Rate(each.usd, Per.HOUR, now, "spot price history")) for pool, each in prices.items()
    ]
    return SpotAdvice(
        tuple(
            PoolAdvice(
                offer.pool,
                prices[offer.pool].usd,
                prices[offer.pool].on_demand_usd,
                None if isinstance(scores, Unsupported) else scores.get(offer.pool.zone),
                seen.get(offer.pool, PoolSummary()),
            )
            for offer in ranked(offers, seen, now)
        ),
        scores.message if isinstance(scores, Unsupported) else "",
    )
