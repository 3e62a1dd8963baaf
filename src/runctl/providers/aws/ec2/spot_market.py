"""EC2's spot market: DescribeSpotPriceHistory and GetSpotPlacementScores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from runctl.core.errors import NotFound, RunctlError, Unsupported
from runctl.core.names import did_you_mean
from runctl.costs.prices import Price
from runctl.providers.aws.calls.errors import our_errors, raising_our_errors
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.price_data import snapshot_types
from runctl.providers.aws.pricing import LINUX
from runctl.providers.capacity import Pool
from runctl.providers.spot_market import PricePoint, SpotMarket


@raising_our_errors
class Ec2SpotMarket(SpotMarket):
    """See `SpotMarket`."""

    def __init__(self, context: AwsContext) -> None:
        self._context = context

    def price_history(self, instance_types: Sequence[str], since: datetime) -> tuple[PricePoint, ...]:
        """Of Linux machines, at most 90 days back."""
        paginator = self._context.session.ec2.get_paginator("describe_spot_price_history")
        pages = paginator.paginate(
            InstanceTypes=list(instance_types),  # type: ignore[arg-type]  # any string: new types appear weekly
            ProductDescriptions=[LINUX],
            StartTime=since,
            EndTime=self._context.clock.now(),
        )
        found = [
            PricePoint(
                Pool(str(item["InstanceType"]), item["AvailabilityZone"]),
                Decimal(item["SpotPrice"]),
                item["Timestamp"],
            )
            for page in pages
            for item in page["SpotPriceHistory"]
        ]
        known = {point.pool.instance_type for point in found}
        for name in instance_types:
            if name not in known:
                raise NotFound(
                    f"{self._context.session.region} has no spot prices of {name}",
                    hint=did_you_mean(name, snapshot_types())
                    or "https://aws.amazon.com/ec2/instance-types lists the types; --region asks another region",
                )
        return tuple(sorted(found, key=lambda point: (point.pool, point.since)))

    def on_demand_prices(self, instance_types: Sequence[str]) -> Mapping[str, Price | None]:
        """From the price list, where the account may ask it."""
        return {name: self._context.prices.on_demand(name) for name in instance_types}

    def placement_scores(self, instance_types: Sequence[str]) -> Mapping[str, int] | Unsupported:
        """EC2 gives low scores for fewer than three types."""
        session = self._context.session
        try:
            with our_errors(session.endpoint):
                answer: Any = session.ec2.get_spot_placement_scores(
                    InstanceTypes=list(instance_types),
                    TargetCapacity=1,
                    SingleAvailabilityZone=True,
                    RegionNames=[session.region],
                )
                zones = session.ec2.describe_availability_zones()["AvailabilityZones"]
        except RunctlError as error:
            return Unsupported(f"EC2 gives no placement scores: {error.message}", hint=error.hint)
        names = {zone["ZoneId"]: zone["ZoneName"] for zone in zones}
        return {
            names[item["AvailabilityZoneId"]]: int(item["Score"])
            for item in answer["SpotPlacementScores"]
            if item.get("AvailabilityZoneId") in names
        }
