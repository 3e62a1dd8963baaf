"""What the spot price history says. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from runctl._dataclasses import dataclass
from runctl.core.money import usd
from runctl.costs.rates import Per, Rate
from runctl.providers.abilities.prices import PricePoint
from runctl.providers.aws.prices.price_list import decimal_of
from runctl.providers.capacity import Pool


@dataclass(frozen=True)
class SpotQuote:
    """The newest spot price of a type in a zone; USD per hour."""

    instance_type: str
    zone: str
    usd: Decimal
    since: datetime


def newest_spot_quotes(points: Iterable[PricePoint]) -> tuple[SpotQuote, ...]:
    """The newest price per type and zone."""
    newest: dict[Pool, PricePoint] = {}
    for point in points:
        known = newest.get(point.pool)
        if known is None or known.since < point.since:
            newest[point.pool] = point
    found = [SpotQuote(pool.instance_type, pool.zone, each.usd, each.since) for pool, each in newest.items()]
    return tuple(sorted(found, key=lambda quote: (quote.instance_type, quote.usd, quote.zone)))


def spot_price(quotes: Sequence[SpotQuote], zone: str | None, now: datetime) -> Rate | None:
    """What to plan with: the zone's price, or, while the zone is open, the dearest of them, so as not to promise less.

    ``quotes`` are of one instance type.
    """
    source = f"EC2 spot price history, {now:%Y-%m-%d}"
    if zone is not None:
        amounts = [quote.usd for quote in quotes if quote.zone == zone]
        return Rate(amounts[0], Per.HOUR, now, source) if amounts else None
    if not quotes:
        return None
    low, high = min(quote.usd for quote in quotes), max(quote.usd for quote in quotes)
    spread = "" if low == high else f"; {usd(low)} to {usd(high)} depending on the zone"
    return Rate(high, Per.HOUR, now, source + spread)


def price_points(history: Iterable[Mapping[str, Any]]) -> tuple[PricePoint, ...]:
    """Every price of ``DescribeSpotPriceHistory`` items, by pool and time; entries without a price are dropped."""
    found = []
    for item in history:
        amount = decimal_of(item.get("SpotPrice"))
        if amount is not None:
            pool = Pool(str(item["InstanceType"]), item["AvailabilityZone"])
            found.append(PricePoint(pool, amount, item["Timestamp"]))
    return tuple(sorted(found, key=lambda point: (point.pool, point.since)))


def price_at(points: Iterable[PricePoint], moment: datetime) -> Rate | None:
    """What held then: the dearest of the pools, where ``points`` are of several; ``None`` before the first of them."""
    held: dict[Pool, PricePoint] = {}
    for point in points:
        if point.since <= moment and (point.pool not in held or held[point.pool].since < point.since):
            held[point.pool] = point
    if not held:
        return None
    dearest = max(held.values(), key=lambda point: point.usd)
    source = f"EC2 spot price history, since {dearest.since:%Y-%m-%d %H:%M} UTC"
    return Rate(dearest.usd, Per.HOUR, moment, source)
