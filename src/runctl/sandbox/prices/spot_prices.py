"""What spot instances cost in the sandbox: prices that move several times a day, and their history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS
from moto.ec2.responses.spot_instances import SpotInstances

from runctl.sandbox.api.pages import offset_of, token_at
from runctl.sandbox.capacity import Pool, has_room
from runctl.sandbox.prices.price_list import price_rows
from runctl.sandbox.prices.price_rates import digest_of

LINUX = "Linux/UNIX"
_LINUX_NAMES = frozenset({LINUX, "Linux/UNIX (Amazon VPC)"})
HISTORY_DAYS = 90
PERIOD = timedelta(hours=6)
"""How often a price changes."""
ZONE_SPREAD = Decimal("0.08")
PERIOD_SPREAD = Decimal("0.02")
_CENT_OF_A_CENT = Decimal("0.0001")


@dataclass(frozen=True)
class SpotQuery:
    """What a DescribeSpotPriceHistory asks for; empty means all."""

    instance_types: frozenset[str] = frozenset()
    zones: frozenset[str] = frozenset()
    products: frozenset[str] = frozenset()
    prices: frozenset[str] = frozenset()
    start: datetime | None = None
    end: datetime | None = None


def spot_price_on(instance_type: str, region: str, zone: str, change: datetime) -> Decimal | None:
    """USD per hour from that change on: the region's median, some percent off by zone and time; at most on-demand."""
    row = price_rows().get((instance_type, region))
    if row is None or row.spot_median is None:
        return None
    off = ZONE_SPREAD * _swing(instance_type, zone) + PERIOD_SPREAD * _swing(
        instance_type, zone, f"{change:%Y-%m-%d %H}"
    )
    price = (row.spot_median * (1 + off)).quantize(_CENT_OF_A_CENT, ROUND_HALF_UP)
    price = max(price, _CENT_OF_A_CENT)
    return price if row.on_demand is None else min(price, row.on_demand)


def spot_price(instance_type: str, region: str, zone: str, moment: datetime) -> Decimal | None:
    """USD per hour at that moment, as the history has it; ``None`` where there is no spot."""
    change = _change_before(moment, instance_type, zone)
    return spot_price_on(instance_type, region, zone, change)


def spot_history(region: str, query: SpotQuery, now: datetime) -> list[dict[str, Any]]:
    """The API's rows, the newest first: every change in the time asked for, and the price that it began with.

    A price changes four times a day, at minutes of its own.
    """
    if query.products and not query.products & _LINUX_NAMES:
        return []
    end = min(query.end or now, now)
    start = max(query.start or now - timedelta(days=HISTORY_DAYS), now - timedelta(days=HISTORY_DAYS))
    start = min(start, end)
    rows: list[dict[str, Any]] = []
    for offering in INSTANCE_TYPE_OFFERINGS["availability-zone"].get(region, []):
        kind, zone = offering["InstanceType"], offering["Location"]
        if query.instance_types and kind not in query.instance_types:
            continue
        if query.zones and zone not in query.zones:
            continue
        rows += _zone_history(kind, region, zone, start, end)
    if query.prices:
        rows = [row for row in rows if row["SpotPrice"] in query.prices]
    rows.sort(key=lambda row: (row["InstanceType"], row["AvailabilityZone"]))
    rows.sort(key=lambda row: row["Timestamp"], reverse=True)
    return rows


def _zone_history(
    instance_type: str, region: str, zone: str, start: datetime, end: datetime
) -> Iterator[dict[str, Any]]:
    change = _change_before(end, instance_type, zone)
    while True:
        price = spot_price_on(instance_type, region, zone, change)
        if price is None:
            return
        yield {
            "AvailabilityZone": zone,
            "InstanceType": instance_type,
            "ProductDescription": LINUX,
            "SpotPrice": f"{price:.6f}",
            "Timestamp": change,
        }
        if change <= start:
            return
        change -= PERIOD


def _change_before(moment: datetime, instance_type: str, zone: str) -> datetime:
    minutes = int.from_bytes(digest_of(instance_type, zone, "hour")[:4], "big") % (PERIOD.seconds // 60)
    first = moment.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(minutes=minutes)
    return first + (moment - first) // PERIOD * PERIOD


def _swing(*parts: str) -> Decimal:
    """From -1 to 1, always the same for the same words."""
    return Decimal(int.from_bytes(digest_of(*parts)[:4], "big")) / Decimal(2**31) - 1


def describe_spot_price_history(self: Any) -> ActionResult:
    """moto's response to DescribeSpotPriceHistory, with prices, times and pages."""
    filters = self._filters_from_querystring()
    known = {"availability-zone", "instance-type", "product-description", "spot-price", "timestamp"}
    for name in filters:
        if name not in known:
            raise EC2ClientError("InvalidParameterValue", f"The filter '{name}' is invalid")
    zone = self._get_param("AvailabilityZone")
    query = SpotQuery(
        instance_types=_both(self._get_param("InstanceTypes", []), filters.get("instance-type", [])),
        zones=_both([zone] if zone else [], filters.get("availability-zone", [])),
        products=_both(self._get_param("ProductDescriptions", []), filters.get("product-description", [])),
        prices=frozenset(filters.get("spot-price", [])),
        start=_moment(self._get_param("StartTime")),
        end=_moment(self._get_param("EndTime")),
    )
    self.error_on_dryrun()
    rows = spot_history(self.region, query, utcnow().replace(tzinfo=UTC))
    size = min(max(int(self._get_param("MaxResults") or 1000), 1), 1000)
    try:
        start = offset_of(self._get_param("NextToken"))
    except ValueError as error:
        raise EC2ClientError("InvalidNextToken", "The token is invalid or has expired") from error
    # EC2 ends this listing with an empty token, not without one.
    token = token_at(start + size) if start + size < len(rows) else ""
    return ActionResult({"SpotPriceHistory": rows[start : start + size], "NextToken": token})


FEW_TYPES = 3
"""For fewer types EC2's scores are low, whatever there is."""


def get_spot_placement_scores(self: Any) -> ActionResult:
    """GetSpotPlacementScores, which moto has not: high where the sandbox has capacity, low for few types."""
    types = self._get_param("InstanceTypes", [])
    if not types:
        raise EC2ClientError("MissingParameter", "The request must contain the parameter InstanceTypes")
    regions = self._get_param("RegionNames", []) or [self.region]
    single = str(self._get_param("SingleAvailabilityZone")).lower() == "true"
    self.error_on_dryrun()
    backend = self.ec2_backend
    limits = backend.world.faults.capacity
    scores = []
    for zone in backend.describe_availability_zones() if self.region in regions else []:
        pools = [Pool(zone.name, kind, "spot") for kind in types]
        open_ones = [pool for pool in pools if has_room(pool, 1, limits, [])]
        most = 9 if len(types) >= FEW_TYPES else 3
        score = max(1, round(most * len(open_ones) / len(pools)))
        scores.append({"Region": self.region, "AvailabilityZoneId": zone.zone_id, "Score": score})
    if not single and scores:
        scores = [{"Region": self.region, "Score": max(row["Score"] for row in scores)}]
    return ActionResult({"SpotPlacementScores": sorted(scores, key=lambda row: -row["Score"])[:10]})


def install() -> None:
    """moto's EC2 answers with these prices from now on. `PriceListService` has to be put before moto besides."""
    SpotInstances.get_spot_placement_scores = get_spot_placement_scores  # type: ignore[attr-defined]
    SpotInstances.describe_spot_price_history = describe_spot_price_history  # type: ignore[method-assign]


def _both(first: Sequence[str], second: Sequence[str]) -> frozenset[str]:
    """What satisfies a parameter and a filter that mean the same; a name that no row has when nothing does."""
    if first and second:
        return frozenset(first) & frozenset(second) or frozenset({""})
    return frozenset(first or second)


def _moment(value: Any) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value if value is None or value.tzinfo is not None else value.replace(tzinfo=UTC)
    return datetime.fromisoformat(str(value)).astimezone(UTC)
