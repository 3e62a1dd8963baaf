"""The use case ``extend``: what ends a machine by itself is changed, on the machine and in its provider's record."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from runctl._dataclasses import dataclass
from runctl.core.clock import Clock, SystemClock
from runctl.core.errors import Conflict, MachineError, UsageError
from runctl.core.machine_models import Instance, InstanceState
from runctl.core.money import usd
from runctl.machines.machine import reach
from runctl.machines.session import Session
from runctl.providers.abilities.limits import LONGEST_TTL, OFF, paid_time
from runctl.providers.interface import require
from runctl.providers.registry import when_not_running


@dataclass(frozen=True)
class NewLimits:
    """What is to be changed; ``None``: it stays as it is."""

    ttl: timedelta | None = None
    """From now on; zero: none any more."""
    budget: Decimal | None = None
    """USD since the machine was created; zero: none any more."""
    idle_timeout: timedelta | None = None
    """Zero: none any more."""


def extend(
    session: Session,
    instance: Instance,
    wanted: NewLimits,
    transport: str | None = None,
    clock: Clock | None = None,
) -> Instance:
    """The machine ends itself at the new limits. Raises `UsageError`, `Conflict`, `MachineError`, `Unsupported`."""
    clock = clock or SystemClock()
    if wanted == NewLimits():
        raise UsageError(
            "there is nothing to change", hint="use --ttl 4h, --budget 40usd or --idle-timeout off"
        )
    if instance.state is not InstanceState.RUNNING:
        raise Conflict(
            f"{instance.id} is {instance.state.value}: only a running machine can be told its limits",
            hint=when_not_running(instance),
        )
    for given in (wanted.ttl, wanted.idle_timeout):
        if given is not None and given > LONGEST_TTL:
            raise UsageError(f"{given} is too long", hint="366 days is the most, or off")
    limiting = require(session.provider(instance.provider).limits)
    agent = reach(session, instance, transport).agent
    found = agent.limits(request_of(wanted, limiting.cost_per_hour(instance)))
    now = clock.now()
    left = seconds_left(found)
    try:
        limits = found["limits"]
        idle, budget = limits["idle_seconds"], str(limits["budget"] or "")
        return limiting.record(
            instance,
            expires_at=None if left is None else now + timedelta(seconds=left),
            idle_timeout=None if idle is None else timedelta(seconds=idle),
            budget=Decimal(budget.removeprefix("$")) if budget else None,
        )
    except (KeyError, TypeError, ArithmeticError) as error:
        raise MachineError(f"the guard of {instance.id} says what is not understood: {error}") from error


def request_of(wanted: NewLimits, per_hour: Decimal | None) -> dict[str, Any]:
    """What the agent is told. Pure. Raises `UsageError` for a budget that cannot be kept."""
    request: dict[str, Any] = {}
    off = []
    for name, span in (("ttl_seconds", wanted.ttl), ("idle_seconds", wanted.idle_timeout)):
        if span == OFF:
            off.append(name)
        elif span is not None:
            request[name] = span.total_seconds()
    if wanted.budget is not None:
        paid = paid_time(wanted.budget, per_hour) if wanted.budget else None
        if paid is None:
            off.append("budget_seconds")
        else:
            request["budget_seconds"], request["budget"] = paid.total_seconds(), usd(wanted.budget)
    if off:
        request["limits_off"] = ",".join(off)
    return request


def seconds_left(found: dict[str, Any]) -> float | None:
    """Until the machine ends itself at the latest, by what its agent says; ``None``: nothing ends it. Pure."""
    limits, ran = found.get("limits") or {}, float(found.get("ran_seconds") or 0.0)
    known = [limits.get(name) for name in ("ttl_seconds", "budget_seconds")]
    return min((float(seconds) - ran for seconds in known if seconds is not None), default=None)
