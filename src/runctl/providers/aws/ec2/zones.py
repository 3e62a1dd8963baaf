"""In which availability zone: a pure decision."""

from __future__ import annotations

from collections.abc import Sequence

from runctl._dataclasses import dataclass
from runctl.core.errors import UsageError, ZoneMismatch
from runctl.core.money import hourly
from runctl.providers.aws.prices.spot_history import SpotQuote


@dataclass(frozen=True)
class ZoneChoice:
    """A zone and why; ``None`` leaves it to EC2."""

    zone: str | None
    reason: str


def choose_zone(
    *,
    volumes: Sequence[tuple[str, str]],
    asked: str | None,
    subnet_zone: str | None,
    configured: str | None,
    region: str,
) -> ZoneChoice:
    """The zone for an instance with these volumes, (id, zone) each.

    Volumes bind, then the subnet, then ``--zone``; the configured zone is a preference. Raises `ZoneMismatch` where
    volumes contradict each other, the subnet or the zone asked for, `UsageError` for a zone of another region.
    """
    for zone, where in ((asked, "--zone"), (configured, "aws.zone")):
        if zone is not None and not zone.startswith(region):
            raise UsageError(
                f"{where} {zone} is not in {region}",
                hint=f"use a zone such as {region}a, or another --region",
            )
    if asked is not None and subnet_zone is not None and asked != subnet_zone:
        raise UsageError(
            f"the subnet is in {subnet_zone}, not in {asked}", hint="leave --zone or --subnet out"
        )
    if volumes:
        return _zone_of_volumes(volumes, asked, subnet_zone, configured)
    if subnet_zone is not None:
        return ZoneChoice(subnet_zone, "the subnet's zone")
    if asked is not None:
        return ZoneChoice(asked, "asked for")
    if configured is not None:
        return ZoneChoice(configured, "configured (aws.zone)")
    return ZoneChoice(None, "EC2 chooses among the zones that have the type")


def _zone_of_volumes(
    volumes: Sequence[tuple[str, str]], asked: str | None, subnet_zone: str | None, configured: str | None
) -> ZoneChoice:
    first, zone = volumes[0]
    for volume, other in volumes[1:]:
        if other != zone:
            raise ZoneMismatch(
                volume,
                other,
                f"{zone} with {first}",
                hint="one machine can only have volumes of one zone: leave one out, or make a snapshot of one and a"
                " volume from it in the other's zone",
            )
    if asked is not None and asked != zone:
        raise ZoneMismatch(first, zone, asked, hint=f"leave --zone out, or use --zone {zone}")
    if subnet_zone is not None and subnet_zone != zone:
        raise ZoneMismatch(first, zone, subnet_zone, hint=f"choose a subnet in {zone}: --subnet subnet-…")
    which = "the volume's zone" if len(volumes) == 1 else "the volumes' zone"
    if configured is not None and configured != zone:
        which += f" (the configured {configured} does not have it)"
    return ZoneChoice(zone, which)


def zone_for_volume(zones: Sequence[str], quotes: Sequence[SpotQuote], instance_type: str) -> ZoneChoice:
    """For a volume that nothing binds yet: where the machine that will use it is cheapest as spot.

    ``zones`` are the region's, at least one; quotes of other zones (Local Zones) do not count.
    """
    usable = [quote for quote in quotes if quote.zone in zones and quote.instance_type == instance_type]
    if not usable:
        return ZoneChoice(sorted(zones)[0], "the region's first zone (no spot prices to choose by)")
    best = min(usable, key=lambda quote: (quote.usd, quote.zone))
    return ZoneChoice(best.zone, f"{instance_type} is cheapest there as spot, {hourly(best.usd)}")
