"""What EC2 machines cost: pure functions over price data of AWS, and the list that is shipped with runctl."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from importlib import resources
from typing import Any

from runctl.core.money import usd
from runctl.costs.prices import Price

SNAPSHOT_SOURCE = "snapshot shipped with runctl (skypilot-catalog 00148f2), may be out of date"
"""How a price from the snapshot is quoted; its day is not known, so no day is given."""


@dataclass(frozen=True)
class SnapshotRow:
    """One instance type in one region, as the snapshot has it; prices in USD per hour."""

    instance_type: str
    region: str
    vcpus: int
    memory_gib: Decimal
    gpu_name: str | None
    gpu_count: int
    arch: str
    on_demand: Decimal | None
    spot_min: Decimal | None
    spot_median: Decimal | None


@dataclass(frozen=True)
class SpotQuote:
    """The newest spot price of a type in a zone; USD per hour."""

    instance_type: str
    zone: str
    usd: Decimal
    since: datetime


@cache
def snapshot() -> Mapping[tuple[str, str], SnapshotRow]:
    """The shipped prices by (instance type, region)."""
    text = (
        resources.files("runctl.providers.aws").joinpath("data", "aws_prices.csv").read_text(encoding="utf-8")
    )
    return {(row.instance_type, row.region): row for row in map(_row, csv.DictReader(text.splitlines()))}


def snapshot_types() -> tuple[str, ...]:
    """Every instance type that the snapshot knows, in any region, sorted."""
    return tuple(sorted({instance_type for instance_type, _ in snapshot()}))


def snapshot_on_demand(instance_type: str, region: str) -> Price | None:
    """The snapshot's on-demand price, marked as not current; ``None`` where it has none."""
    row = snapshot().get((instance_type, region))
    return (
        None if row is None or row.on_demand is None else Price(row.on_demand, SNAPSHOT_SOURCE, current=False)
    )


def snapshot_spot(instance_type: str, region: str) -> Price | None:
    """The snapshot's median spot price, marked as not current; ``None`` where it has none."""
    row = snapshot().get((instance_type, region))
    return (
        None
        if row is None or row.spot_median is None
        else Price(row.spot_median, SNAPSHOT_SOURCE, current=False)
    )


def newest_spot_quotes(history: Iterable[Mapping[str, Any]]) -> tuple[SpotQuote, ...]:
    """The newest entry per type and zone of ``DescribeSpotPriceHistory`` items; entries without a price are dropped."""
    newest: dict[tuple[str, str], SpotQuote] = {}
    for item in history:
        amount = _decimal(item.get("SpotPrice"))
        if amount is None:
            continue
        since = item.get("Timestamp") or datetime.fromtimestamp(0, UTC)
        quote = SpotQuote(item["InstanceType"], item["AvailabilityZone"], amount, since)
        known = newest.get((quote.instance_type, quote.zone))
        if known is None or known.since < quote.since:
            newest[quote.instance_type, quote.zone] = quote
    return tuple(sorted(newest.values(), key=lambda quote: (quote.instance_type, quote.usd, quote.zone)))


def spot_price(quotes: Sequence[SpotQuote], zone: str | None, today: datetime) -> Price | None:
    """What to plan with: the zone's price, or, while the zone is open, the dearest of them, so as not to promise less.

    ``quotes`` are of one instance type.
    """
    source = f"EC2 spot price history, {today:%Y-%m-%d}"
    if zone is not None:
        amounts = [quote.usd for quote in quotes if quote.zone == zone]
        return Price(amounts[0], source, current=True) if amounts else None
    if not quotes:
        return None
    low, high = min(quote.usd for quote in quotes), max(quote.usd for quote in quotes)
    spread = "" if low == high else f"; {usd(low)} to {usd(high)} depending on the zone"
    return Price(high, source + spread, current=True)


def on_demand_from_price_list(documents: Iterable[str], today: datetime) -> Price | None:
    """The hourly price in the price list's JSON documents (``GetProducts``), ``None`` where none is in USD.

    The documents must be of one instance type, region, operating system and tenancy.
    """
    amounts = [amount for amount, unit in _terms(documents) if unit == "Hrs"]
    return Price(min(amounts), f"AWS price list, {today:%Y-%m-%d}", current=True) if amounts else None


def _terms(documents: Iterable[str]) -> Iterable[tuple[Decimal, str]]:
    for document in documents:
        offer = json.loads(document)
        for term in offer.get("terms", {}).get("OnDemand", {}).values():
            for dimension in term.get("priceDimensions", {}).values():
                amount = _decimal(dimension.get("pricePerUnit", {}).get("USD"))
                if amount is not None and amount > 0:
                    yield amount, dimension.get("unit", "")


def _row(row: Mapping[str, str]) -> SnapshotRow:
    return SnapshotRow(
        instance_type=row["instance_type"],
        region=row["region"],
        vcpus=int(float(row["vcpus"])),
        memory_gib=Decimal(row["memory_gib"]),
        gpu_name=row["gpu_name"] or None,
        gpu_count=int(float(row["gpu_count"] or 0)),
        arch=row["arch"],
        on_demand=_decimal(row["on_demand_usd_per_hour"]),
        spot_min=_decimal(row["spot_usd_per_hour_min"]),
        spot_median=_decimal(row["spot_usd_per_hour_median"]),
    )


def _decimal(text: str | None) -> Decimal | None:
    try:
        amount = Decimal(text) if text else None
    except InvalidOperation:
        return None
    return amount if amount is not None and amount.is_finite() else None
