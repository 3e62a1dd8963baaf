"""What ends a machine by itself: the limits of a request, settled for a plan, and the ability to keep them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal

from runctl._dataclasses import dataclass
from runctl.core import tags as tag
from runctl.core.clock import rfc3339
from runctl.core.errors import UsageError
from runctl.core.machine_models import Instance
from runctl.core.money import HOURS_PER_MONTH, hourly, usd
from runctl.core.text import time_span

IDLE_TIMEOUT = timedelta(hours=1)
"""Of a machine that was not rented for a run."""
OFF = timedelta(0)
"""An idle timeout that never ends anything."""
LEAST = timedelta(minutes=1)
LONGEST_TTL = timedelta(days=366)
TOO_LITTLE = "budget-too-small"
"""The code of the error for a budget that pays for no time worth the while."""


@dataclass(frozen=True)
class MachineLimits:
    """What ends the machine, whatever happens to runctl; ``None``: no such limit."""

    ttl: timedelta | None = None
    budget: Decimal | None = None
    """USD."""
    budget_time: timedelta | None = None
    """For so long the budget pays for the machine and its own disks."""
    idle_timeout: timedelta | None = None

    @property
    def longest(self) -> timedelta | None:
        """How long it runs at most."""
        return min((limit for limit in (self.ttl, self.budget_time) if limit is not None), default=None)

    def tags(self, now: datetime) -> dict[str, str]:
        """What lists, and whoever ends machines from outside, read of them."""
        found = {
            tag.EXPIRES_AT: rfc3339(now + self.longest) if self.longest else "",
            tag.IDLE_TIMEOUT: str(int(self.idle_timeout.total_seconds())) if self.idle_timeout else "",
            tag.BUDGET: str(self.budget) if self.budget is not None else "",
        }
        return {key: value for key, value in found.items() if value}


def unused_tags(unused_for: timedelta | None) -> dict[str, str]:
    """For a machine whose guard is told by its tags after how long without a run it ends."""
    return {tag.UNUSED_FOR: str(int(unused_for.total_seconds()))} if unused_for else {}


class Limiting(ABC):
    """The ability of machines to end themselves at limits."""

    @abstractmethod
    def cost_per_hour(self, instance: Instance) -> Decimal | None:
        """USD at most, of the machine with the disks that are rented with it; ``None``: not known."""

    @abstractmethod
    def record(
        self,
        instance: Instance,
        *,
        expires_at: datetime | None,
        idle_timeout: timedelta | None,
        budget: Decimal | None,
    ) -> Instance:
        """The provider's own record of the machine says what ends it, for lists. Raises what its calls raise."""


def check_ttl(ttl: timedelta) -> None:
    """Raises `ValueError`, with what to do, for a time to live that no machine can have."""
    _check_span("a time to live", ttl, "12h")


def check_idle_timeout(idle_timeout: timedelta) -> None:
    """Raises `ValueError`, with what to do, for an idle timeout that no machine can have. `OFF` is one that it can."""
    if idle_timeout != OFF:
        _check_span("an idle timeout", idle_timeout, "30m, or off")


def _check_span(what: str, span: timedelta, example: str) -> None:
    if not LEAST <= span <= LONGEST_TTL:
        raise ValueError(
            f"{what} of {time_span(span)} is too {'short' if span < LEAST else 'long'}",
            f"use one minute to 366 days, such as {example}; a number without a unit is seconds",
        )


def settled_limits(
    *,
    ttl: timedelta | None,
    budget: Decimal | None,
    idle_timeout: timedelta | None,
    for_a_run: bool,
    per_hour: Decimal | None,
) -> MachineLimits:
    """The limits of a machine that costs ``per_hour``, `OFF` and defaults taken into account.

    ``for_a_run``: it was rented for a run, or to fill a volume, and ends with that. Raises `UsageError` for limits that
    cannot be kept.
    """
    if idle_timeout is None:
        idle_timeout = OFF if for_a_run else IDLE_TIMEOUT
    try:
        if ttl is not None:
            check_ttl(ttl)
        check_idle_timeout(idle_timeout)
    except ValueError as error:
        message, how = error.args
        raise UsageError(message, hint=how) from error
    return MachineLimits(
        ttl=ttl,
        budget=budget,
        budget_time=None if budget is None else paid_time(budget, per_hour),
        idle_timeout=None if idle_timeout == OFF else idle_timeout,
    )


def paid_time(budget: Decimal, per_hour: Decimal | None) -> timedelta | None:
    """For how long the amount pays, in whole seconds; ``None``: the machine costs nothing. Raises `UsageError`."""
    if per_hour is None:
        raise UsageError(
            f"a budget of {usd(budget)} cannot be kept: no price is known for this machine",
            hint="limit its time instead: --ttl 8h",
            code="no-price",
        )
    if per_hour == 0:
        return None
    seconds = int((budget * 3600 / per_hour).to_integral_value(ROUND_FLOOR))
    if seconds < LEAST.total_seconds():
        raise UsageError(
            f"a budget of {usd(budget)} pays for {max(0, seconds)} seconds of a machine at {hourly(per_hour)}",
            hint="raise --budget, or choose a cheaper machine: runctl offers",
            code=TOO_LITTLE,
        )
    return timedelta(seconds=min(seconds, int(LONGEST_TTL.total_seconds())))


def cost_per_hour(machine: Decimal | None, disks_per_month: Iterable[Decimal]) -> Decimal | None:
    """Of a machine with the disks that are rented with it; ``None`` where its price is not known."""
    return None if machine is None else machine + sum(disks_per_month, Decimal(0)) / HOURS_PER_MONTH
