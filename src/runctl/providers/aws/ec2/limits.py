"""What ends an EC2 machine by itself, and how a budget is counted there."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from runctl.core import tags as tag
from runctl.core.clock import parse_duration, parse_rfc3339, rfc3339
from runctl.core.errors import RunctlError
from runctl.core.machine_models import Instance, Market
from runctl.costs.rates import Rate
from runctl.providers.abilities.limits import OFF, Limiting, MachineLimits, cost_per_hour, settled_limits
from runctl.providers.abilities.volume_plans import DiskShape
from runctl.providers.aws.calls.errors import raising_our_errors
from runctl.providers.aws.calls.filters import describe as describe_exactly
from runctl.providers.aws.calls.parse import tag_list, tags_of
from runctl.providers.aws.context import AwsContext
from runctl.providers.capacity import Offer, Pool
from runctl.providers.instance_plans import InstanceRequest

LOOKED_BACK = timedelta(days=7)
"""A budget counts on the highest spot price of so many days: a price that moves while the machine runs is paid."""


@raising_our_errors
class Ec2Limits(Limiting):
    """See `Limiting`. The guard on the machine keeps the limits; tags say what they are."""

    def __init__(self, context: AwsContext) -> None:
        self._context = context

    def cost_per_hour(self, instance: Instance) -> Decimal | None:
        """By the present price, of spot machines by the highest of the last days."""
        hourly = instance.price_per_hour
        if hourly is not None and instance.market is Market.SPOT and instance.zone is not None:
            pool = Pool(instance.instance_type, instance.zone)
            hourly = max(hourly, _highest_lately(self._context, [pool]))
        own: dict[str, list[str]] = {
            "attachment.instance-id": [instance.id],
            "attachment.delete-on-termination": ["true"],
        }
        rates = [
            self._context.prices.rates.volume(
                DiskShape(item["VolumeType"], item["Size"], item.get("Iops"), item.get("Throughput"))
            )
            for item in describe_exactly(self._context.session.ec2, "describe_volumes", own)
        ]
        return cost_per_hour(hourly, [rate.usd for rate in rates if rate is not None])

    def record(
        self,
        instance: Instance,
        *,
        expires_at: datetime | None,
        idle_timeout: timedelta | None,
        budget: Decimal | None,
    ) -> Instance:
        """In the instance's tags."""
        tags = {
            tag.EXPIRES_AT: None if expires_at is None else rfc3339(expires_at),
            tag.IDLE_TIMEOUT: None if idle_timeout is None else str(int(idle_timeout.total_seconds())),
            tag.BUDGET: None if budget is None else str(budget),
        }
        ec2: Any = self._context.session.ec2
        kept = {key: value for key, value in tags.items() if value is not None}
        gone = [{"Key": key} for key, value in tags.items() if value is None and key in instance.tags]
        if kept:
            ec2.create_tags(Resources=[instance.id], Tags=tag_list(kept))
        if gone:
            ec2.delete_tags(Resources=[instance.id], Tags=gone)
        left = {key: value for key, value in instance.tags.items() if key not in tags}
        return replace(instance, tags={**left, **kept})


def plan_limits(
    context: AwsContext,
    request: InstanceRequest,
    offers: Sequence[Offer],
    price: Rate | None,
    disks_per_month: Iterable[Decimal],
) -> MachineLimits:
    """As the request says, else the configuration. ``price`` is that of the dearest offer. Raises `UsageError`."""
    aws = context.settings
    for_a_run = any((request.helper_for, request.attempt, request.unused_for))
    idle_timeout = request.idle_timeout
    if idle_timeout is None and aws.idle_timeout is not None and not for_a_run:
        idle_timeout = OFF if aws.idle_timeout == "off" else parse_duration(aws.idle_timeout)
    per_hour = None if price is None else price.usd
    if request.budget is not None and per_hour is not None and request.market is Market.SPOT:
        per_hour = max(per_hour, _highest_lately(context, {offer.pool for offer in offers}))
    return settled_limits(
        ttl=request.ttl if request.ttl is not None else (parse_duration(aws.ttl) if aws.ttl else None),
        budget=request.budget,
        idle_timeout=idle_timeout,
        for_a_run=for_a_run,
        per_hour=cost_per_hour(per_hour, disks_per_month),
    )


def expiry_after_stop(described: Mapping[str, Any], now: datetime) -> datetime | None:
    """When an instance that is started ``now`` ends itself at the latest: the time for which it was stopped does not
    count. ``None``: nothing ends it, or EC2 does not say when it was stopped. Pure."""
    expires = tags_of(described.get("Tags")).get(tag.EXPIRES_AT)
    stopped = _STOPPED_AT.search(str(described.get("StateTransitionReason") or ""))
    if not expires or stopped is None:
        return None
    stopped_at = datetime.strptime(stopped[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    return parse_rfc3339(expires) + max(now - stopped_at, timedelta(0))


_STOPPED_AT = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")
"""As StateTransitionReason has it: ``User initiated (2026-05-01 12:00:00 GMT)``."""


def _highest_lately(context: AwsContext, pools: Collection[Pool]) -> Decimal:
    types = sorted({pool.instance_type for pool in pools})
    since = context.clock.now() - LOOKED_BACK
    try:
        points = context.prices.spot_history(types, since, context.clock.now())
    except RunctlError:
        # The plan's own price, which may be that of the shipped list, is all that is known.
        return Decimal(0)
    return max((point.usd for point in points if point.pool in pools), default=Decimal(0))
