"""What happens when no spot machine can be had: asked for again, rented on demand, or given up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from enum import Enum

from runctl.core.errors import CapacityError, QuotaExceeded, UsageError
from runctl.core.machine_models import Market
from runctl.core.money import hourly, usd
from runctl.providers.capacity import FallbackMode, SpotFallback
from runctl.providers.instance_plans import CreatePlan

RETRY_FIRST = timedelta(seconds=15)
RETRY_MOST = timedelta(minutes=2)

AskFallback = Callable[[CreatePlan, CapacityError], bool]
"""Whether the on-demand machine of the plan is to be rented, as no spot machine was available for that reason."""


def nobody_to_ask(_plan: CreatePlan, _error: CapacityError) -> bool:
    """The answer is no."""
    return False


class NextStep(Enum):
    """What is done after a market has had no machine."""

    FAIL = "fail"
    RETRY = "try-again"
    ASK = "ask"
    ON_DEMAND = "on-demand"


def next_step(fallback: SpotFallback, market: Market, error: CapacityError, waited: timedelta) -> NextStep:
    """What follows ``error``, ``waited`` after the first try. Pure.

    A quota does not pass by waiting: it is not asked again.
    """
    if market is not Market.SPOT or fallback.mode is FallbackMode.NONE:
        return NextStep.FAIL
    if waited < fallback.after and not isinstance(error, QuotaExceeded):
        return NextStep.RETRY
    return NextStep.ASK if fallback.mode is FallbackMode.ASK else NextStep.ON_DEMAND


def check_fallback(plan: CreatePlan) -> None:
    """Raises `UsageError` for an on-demand machine that would be above the limit on the price. Pure."""
    on_demand, most = plan.on_demand_price, plan.max_price
    types = {offer.pool.instance_type for offer in plan.offers}
    if plan.fallback.mode is FallbackMode.NONE or on_demand is None or most is None or len(types) > 1:
        return
    if plan.fallback.mode is FallbackMode.ON_DEMAND and on_demand.usd > most:
        raise UsageError(
            f"{plan.instance_type} costs {hourly(on_demand.usd)} on demand, which is above --max-price {most}",
            hint="leave out --max-price or --spot-fallback, or raise the limit",
        )


def pause(tries: int, left: timedelta) -> timedelta:
    """How long to wait before the next try. Pure."""
    doubled = RETRY_FIRST * int(2 ** min(tries, 10))
    return min(doubled, RETRY_MOST, left)


def price_difference(plan: CreatePlan) -> str:
    """What the plan's machine costs on demand, and how much more that is. Pure."""
    on_demand = plan.on_demand_price
    if on_demand is None:
        return "on demand, at a price that is not known"
    text = f"on demand for {hourly(on_demand.usd)}"
    if plan.market is not Market.SPOT or plan.price is None or plan.price.usd <= 0:
        return text
    more = on_demand.usd - plan.price.usd
    return f"{text}, {usd(more)} more than spot" if more > 0 else text
