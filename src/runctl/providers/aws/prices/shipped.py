"""The prices that are shipped with runctl: what is left where AWS cannot be asked, each with its day.

``data/README.md`` says where they are from; ``scripts/price_snapshot.py`` makes them anew.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib import resources

from runctl._dataclasses import dataclass
from runctl.costs.rates import Per, Rate, Tier, TieredRate
from runctl.providers.aws.prices.items import Item
from runctl.providers.aws.prices.region_rates import PER, RegionRates

USUAL_REGION = "us-east-1"
"""Whose prices stand in for a region that the list has not got."""


@dataclass(frozen=True)
class SnapshotRow:
    """One instance type in one region; prices in USD per hour."""

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
    as_of: datetime


@cache
def snapshot() -> Mapping[tuple[str, str], SnapshotRow]:
    """The shipped prices of machines by (instance type, region)."""
    return {(row.instance_type, row.region): row for row in map(_row, _lines("aws_prices.csv"))}


def snapshot_types() -> tuple[str, ...]:
    """Every instance type that the snapshot knows, in any region, sorted."""
    return tuple(sorted({instance_type for instance_type, _ in snapshot()}))


def snapshot_on_demand(instance_type: str, region: str) -> Rate | None:
    """The snapshot's on-demand price, marked as not current; ``None`` where it has none."""
    row = snapshot().get((instance_type, region))
    return None if row is None or row.on_demand is None else _shipped(row.on_demand, Per.HOUR, row.as_of)


def snapshot_spot(instance_type: str, region: str) -> Rate | None:
    """The snapshot's median spot price, marked as not current; ``None`` where it has none."""
    row = snapshot().get((instance_type, region))
    return None if row is None or row.spot_median is None else _shipped(row.spot_median, Per.HOUR, row.as_of)


@cache
def shipped_rates(region: str) -> RegionRates:
    """Everything else; of a region that the list has not got `USUAL_REGION`'s, which is said."""
    known = _rates()
    if region in known:
        return RegionRates(region, known[region])
    other = {
        item: replace(
            rate, source=f"{USUAL_REGION}'s {rate.source}; {region} may differ by a quarter and more"
        )
        for item, rate in known[USUAL_REGION].items()
    }
    return RegionRates(region, other)


@cache
def _rates() -> Mapping[str, Mapping[Item, TieredRate]]:
    tiers: dict[str, dict[Item, list[Tier]]] = defaultdict(lambda: defaultdict(list))
    days: dict[tuple[str, Item], datetime] = {}
    for row in _lines("aws_rates.csv"):
        item = Item(row["item"])
        tiers[row["region"]][item].append(Tier(Decimal(row["start"]), Decimal(row["usd"])))
        days[row["region"], item] = _day(row["as_of"])
    return {
        region: {
            item: TieredRate(
                tuple(found),
                PER[item],
                days[region, item],
                _source(days[region, item]),
                current=False,
            )
            for item, found in items.items()
        }
        for region, items in tiers.items()
    }


def _row(row: Mapping[str, str]) -> SnapshotRow:
    return SnapshotRow(
        instance_type=row["instance_type"],
        region=row["region"],
        vcpus=int(row["vcpus"]),
        memory_gib=Decimal(row["memory_gib"]),
        gpu_name=row["gpu_name"] or None,
        gpu_count=int(row["gpu_count"] or 0),
        arch=row["arch"],
        on_demand=_usd(row["on_demand_usd_per_hour"]),
        spot_min=_usd(row["spot_usd_per_hour_min"]),
        spot_median=_usd(row["spot_usd_per_hour_median"]),
        as_of=_day(row["as_of"]),
    )


def _shipped(amount: Decimal, per: Per, day: datetime) -> Rate:
    return Rate(amount, per, day, _source(day), current=False)


def _source(day: datetime) -> str:
    return f"price list shipped with runctl, {day:%Y-%m-%d}, may be out of date"


def _lines(name: str) -> csv.DictReader[str]:
    text = resources.files("runctl.providers.aws").joinpath("data", name).read_text(encoding="utf-8")
    return csv.DictReader(text.splitlines())


def _day(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)


def _usd(text: str) -> Decimal | None:
    return Decimal(text) if text else None
