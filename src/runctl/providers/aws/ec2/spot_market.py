"""EC2's spot market: GetSpotPlacementScores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runctl.core.errors import RunctlError, Unsupported
from runctl.providers.aws.calls.errors import our_errors, raising_our_errors
from runctl.providers.aws.context import AwsContext
from runctl.providers.capacity import SpotMarket


@raising_our_errors
class Ec2SpotMarket(SpotMarket):
    """See `SpotMarket`."""

    def __init__(self, context: AwsContext) -> None:
        self._context = context

    def placement_scores(
        self, instance_types: Sequence[str], count: int = 1
    ) -> Mapping[str, int] | Unsupported:
        """EC2 gives low scores for fewer than three types."""
        session = self._context.session
        try:
            with our_errors(session.endpoint):
                answer: Any = session.ec2.get_spot_placement_scores(
                    InstanceTypes=list(instance_types),
                    TargetCapacity=count,
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
