"""Writes the shipped prices anew (src/runctl/providers/aws/data) from AWS's public price list and spot price history.

    python scripts/price_snapshot.py --region all

The list is public, its API wants credentials that may call ``pricing:GetProducts``, ``ec2:DescribeInstanceTypes``,
``ec2:DescribeSpotPriceHistory`` and ``ec2:DescribeRegions``; nothing is created, and nothing costs.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from runctl.core.clock import SystemClock
from runctl.core.progress import Progress
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.ec2.images import InstanceType, instance_type_of
from runctl.providers.aws.prices.book import PriceBook
from runctl.providers.aws.prices.items import Item
from runctl.providers.aws.prices.price_list import Group
from runctl.providers.aws.prices.shipped import USUAL_REGION, SnapshotRow, snapshot, snapshot_types
from runctl.render.progress import progress_for

DATA = Path(__file__).parents[1] / "src" / "runctl" / "providers" / "aws" / "data"
MACHINES = (
    *("instance_type", "region", "vcpus", "memory_gib", "gpu_name", "gpu_count", "arch"),
    *("on_demand_usd_per_hour", "spot_usd_per_hour_min", "spot_usd_per_hour_median", "as_of"),
)
RATES = ("region", "item", "start", "usd", "as_of")


def machine_rows(
    session: AwsSession, book: PriceBook, types: Sequence[str], day: datetime, progress: Progress
) -> list[SnapshotRow]:
    """The types that the region sells, each with its prices of today."""
    pages = session.ec2.get_paginator("describe_instance_types").paginate(
        Filters=[{"Name": "instance-type", "Values": list(types)}]
    )
    known = {kind.name: kind for page in pages for kind in map(instance_type_of, page["InstanceTypes"])}
    spot: dict[str, list[Decimal]] = {}
    for quote in book.spot_quotes(known, progress):
        spot.setdefault(quote.instance_type, []).append(quote.usd)
    rows = []
    for name, kind in sorted(known.items()):
        on_demand = book.on_demand(name, progress)
        current = on_demand.usd if on_demand is not None and on_demand.current else None
        if current is not None or name in spot:
            rows.append(_row(kind, session.region, current, spot.get(name, []), day))
    return rows


def rate_rows(book: PriceBook, day: datetime, progress: Progress) -> list[tuple[str, ...]]:
    """Everything else in the region; what the list has not got stays as it is shipped."""
    found = book.current_rates(*Group, progress=progress)
    rows: list[tuple[str, ...]] = []
    for item in Item:
        rate = found.rates.get(item)
        if rate is None or not (rate.current or book.region == USUAL_REGION):
            continue
        as_of = f"{day if rate.current else rate.as_of:%Y-%m-%d}"
        rows += [
            (book.region, item.value, str(tier.start), f"{tier.usd.normalize():f}", as_of)
            for tier in rate.tiers
        ]
    return rows


def _row(
    kind: InstanceType, region: str, on_demand: Decimal | None, spot: Sequence[Decimal], day: datetime
) -> SnapshotRow:
    return SnapshotRow(
        instance_type=kind.name,
        region=region,
        vcpus=kind.vcpus,
        memory_gib=Decimal(kind.memory_mib) / 1024,
        gpu_name=kind.gpu_name,
        gpu_count=kind.gpu_count,
        arch=kind.architecture,
        on_demand=on_demand,
        spot_min=min(spot, default=None),
        spot_median=statistics.median(spot) if spot else None,
        as_of=day,
    )


def _plain(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount.normalize():f}"


def _write(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as sink:
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow(head)
        writer.writerows([["" if cell is None else cell for cell in row] for row in rows])


def main() -> None:
    """Read everything, then write both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--region", default="all", help="the regions, with commas; all that are enabled")
    parser.add_argument(
        "--types", default="", help="more instance types than the list has already, with commas"
    )
    parser.add_argument("--to", type=Path, default=DATA, help="the folder to write to")
    given = parser.parse_args()
    home = AwsSession(region="us-east-1", profile=None)
    if home.endpoint is not None and given.to == DATA:
        sys.exit("AWS_ENDPOINT_URL leads elsewhere than to AWS: those prices are not shipped")
    regions = given.region.split(",")
    if given.region == "all":
        regions = sorted(str(region["RegionName"]) for region in home.ec2.describe_regions()["Regions"])
    types = sorted({*snapshot_types(), *filter(None, given.types.split(","))})
    clock, progress = SystemClock(), progress_for(sys.stderr, verbose=True)
    day = clock.now().astimezone(UTC)
    book = PriceBook(home, clock)
    machines: list[SnapshotRow] = []
    rates: list[tuple[str, ...]] = []
    for region in regions:
        progress.step(region)
        machines += machine_rows(home.in_region(region), book.in_region(region), types, day, progress)
        rates += rate_rows(book.in_region(region), day, progress)
    if not machines or not rates:
        sys.exit("nothing could be read: the files are as they were")
    order = {name: number for number, name in enumerate(dict.fromkeys(kind for kind, _ in snapshot()))}
    machines.sort(key=lambda row: (order.get(row.instance_type, len(order)), row.instance_type, row.region))
    _write(
        given.to / "aws_prices.csv",
        MACHINES,
        [
            (
                *(row.instance_type, row.region, row.vcpus, f"{row.memory_gib.normalize():f}"),
                *(row.gpu_name, row.gpu_count or None, row.arch),
                *map(_plain, (row.on_demand, row.spot_min, row.spot_median)),
                f"{row.as_of:%Y-%m-%d}",
            )
            for row in machines
        ],
    )
    _write(given.to / "aws_rates.csv", RATES, rates)


if __name__ == "__main__":
    main()
