"""What ends an EC2 machine by itself, and how a budget is counted there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from runctl.core import tags as tag
from runctl.core.clock import parse_duration, parse_rfc3339
from runctl.core.errors import RunctlError
from runctl.core.models import Market
from runctl.costs.rates import Rate
from runctl.providers.aws.calls.parse import tags_of
from runctl.providers.aws.context import AwsContext
from runctl.providers.capacity import Offer
from runctl.providers.interface import InstanceRequest
from runctl.providers.limits import OFF, MachineLimits, cost_per_hour, settled_limits

LOOKED_BACK = timedelta(days=7)
"""A budget counts on the highest spot price of so many days: a price that moves while the machine runs is paid."""


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
        per_hour = max(per_hour, _highest_lately(context, offers))
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


def _highest_lately(context: AwsContext, offers: Sequence[Offer]) -> Decimal:
    pools = {offer.pool for offer in offers}
    types = sorted({pool.instance_type for pool in pools})
    since = context.clock.now() - LOOKED_BACK
    try:
        points = context.prices.spot_history(types, since, context.clock.now())
    except RunctlError:
        # The plan's own price, which may be that of the shipped list, is all that is known.
        return Decimal(0)
    return max((point.usd for point in points if point.pool in pools), default=Decimal(0))
