"""Instances as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from runctl.core.clock import parse_rfc3339
from runctl.core.machine_models import Instance, InstanceState
from runctl.core.money import hourly, usd, usd_if_known
from runctl.core.tags import BUDGET, EXPIRES_AT, IDLE_TIMEOUT, LOGIN_USER, NAME
from runctl.core.text import time_span
from runctl.providers.registry import command
from runctl.render.tables import PLAIN, WIDE, Column, Screen, details, fit, table


def instances_table(
    instances: Sequence[Instance], now: datetime, *, owners: bool = False, screen: Screen = PLAIN
) -> str:
    """One line an instance."""
    columns = [
        Column("ID", [i.id for i in instances]),
        Column("NAME", [i.tags.get(NAME) for i in instances], 1, cut=True),
        Column("STATE", [i.state.value for i in instances], is_state=True),
        Column("TYPE", [i.instance_type for i in instances], 2),
        Column("MARKET", [i.market.value for i in instances], 4),
        Column("ZONE", [i.zone for i in instances], WIDE),
        Column("ADDRESS", [i.public_ip or i.private_ip for i in instances], WIDE),
        Column("$/HOUR", [usd_if_known(i.price_per_hour) for i in instances], 3, right=True),
        Column("AGE", [time_span(now - i.created_at) for i in instances], 2, right=True),
        Column("ENDS ITSELF", [_ends_in(i, now) for i in instances], 3),
        Column("PROJECT", [i.project for i in instances], WIDE),
    ]
    if owners:
        columns.append(Column("OWNER", [i.owner for i in instances], 2))
    return fit(columns, screen)


_NOW = timedelta(0)
_LATE = timedelta(minutes=-1)
"""What ends a machine takes a moment."""


def when_it_ends(instance: Instance, now: datetime) -> tuple[timedelta | None, timedelta | None]:
    """In what time a machine ends itself at the latest, and after what time without use, by its tags. Pure.

    The time is below zero where the machine should have ended, and is there still.
    """
    if instance.state.is_over or instance.state is InstanceState.STOPPED:
        return None, None
    expires, idle = instance.tags.get(EXPIRES_AT), instance.tags.get(IDLE_TIMEOUT)
    try:
        left = parse_rfc3339(expires) - now if expires else None
    except ValueError:
        left = None
    return left, timedelta(seconds=int(idle)) if idle and idle.isdigit() else None


def _ends_in(instance: Instance, now: datetime) -> str | None:
    left, idle = when_it_ends(instance, now)
    parts = []
    if left is not None:
        parts.append(f"overdue {time_span(-left)}" if left < _LATE else f"in {time_span(max(left, _NOW))}")
    parts += [f"idle {time_span(idle)}"] if idle is not None else []
    return ", ".join(parts) or None


def _ends(instance: Instance, now: datetime) -> str | None:
    left, idle = when_it_ends(instance, now)
    parts = []
    if left is not None:
        budget = instance.tags.get(BUDGET)
        why = f" (of its budget of {usd(Decimal(budget))}, or its time to live)" if budget else ""
        at = f"at {now + left:%Y-%m-%d %H:%M:%S} UTC"
        if left < _LATE:
            end = command(instance.provider, "terminate", instance.id)
            parts.append(f"it was to end {at}{why}, and has not: {end}")
        else:
            parts.append(f"{at}, in {time_span(max(left, _NOW))}{why}")
    if idle is not None:
        parts.append(f"when nothing has used it for {time_span(idle)}")
    return "; or ".join(parts) or None


def instance_details(instance: Instance, now: datetime) -> str:
    """Everything about one instance."""
    age = now - instance.created_at
    text = details(
        {
            "id": instance.id,
            "name": instance.tags.get(NAME),
            "state": instance.state.value,
            "reason": instance.state_reason,
            "type": instance.instance_type,
            "market": instance.market.value,
            "zone": instance.zone,
            "public address": instance.public_ip,
            "private address": instance.private_ip,
            "login user": instance.tags.get(LOGIN_USER),
            "price": None if instance.price_per_hour is None else hourly(instance.price_per_hour),
            "project": instance.project,
            "owner": instance.owner,
            "created": f"{instance.created_at:%Y-%m-%d %H:%M:%S} UTC, {time_span(age)} ago",
            "ends by itself": _ends(instance, now),
        }
    )
    volumes = [[v.volume_id, v.device, v.mount_point] for v in instance.volumes]
    return text + ("\n\n" + table(["VOLUME", "DEVICE", "MOUNT POINT"], volumes) if volumes else "")
