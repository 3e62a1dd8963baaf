"""Whether somebody must say yes before a machine is rented."""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import TYPE_CHECKING

from runctl.cli.context import Cli
from runctl.core.errors import CapacityError, RunctlError, UsageError
from runctl.core.machine_models import Market
from runctl.core.money import hourly
from runctl.providers.capacity import FallbackMode

if TYPE_CHECKING:
    from runctl.costs.rates import Rate
    from runctl.providers.instance_plans import CreatePlan


class Answer(enum.Enum):
    """What to do before renting."""

    RENT = "rent"
    ASK = "ask"
    REFUSE = "refuse"


def decide(
    *,
    costs_money: bool,
    price_per_hour: Decimal | None,
    ask_above: Decimal | None,
    terminal: bool,
    always: bool,
) -> Answer:
    """Pure. ``always`` asks whatever it costs; ``ask_above`` is the limit where nobody can be asked, USD an hour.

    A price that is not known is above every limit.
    """
    if not costs_money:
        above = False
    else:
        above = ask_above is not None and (price_per_hour is None or price_per_hour > ask_above)
    if terminal:
        return Answer.ASK if costs_money or always else Answer.RENT
    return Answer.REFUSE if above or always else Answer.RENT


def confirm_renting(cli: Cli, provider: str, what: str, price: Rate | None, *, always: bool = False) -> None:
    """Return when ``what`` may be rented.

    Raises `UsageError` (code ``confirmation-needed``) where a yes is needed and nobody can be asked, `RunctlError`
    (code ``declined``) when the answer is no.
    """
    if cli.settings.yes:
        return
    configured = cli.defaults(provider)
    limit = configured.ask_above
    per_hour = None if price is None else price.usd
    answer = decide(
        costs_money=cli.provider(provider).costs_money(),
        price_per_hour=per_hour,
        ask_above=limit,
        terminal=cli.has_terminal,
        always=always,
    )
    cost = "at a price that is not known" if per_hour is None else f"for {hourly(per_hour)}"
    if answer is Answer.REFUSE and limit is not None and not always:
        raise UsageError(
            f"{what} is not rented {cost} without confirmation: {configured.ask_above_key} is {hourly(limit)}",
            hint="--yes rents it; or choose a cheaper machine",
            code="confirmation-needed",
        )
    if answer is not Answer.RENT:
        cli.confirm(f"Rent {what} {cost}?")


def highest_price(plan: CreatePlan, count: int = 1) -> Rate | None:
    """What an hour of so many machines may cost: on demand too, where that follows by itself when there is no spot
    capacity. Pure.

    ``None`` where a price is not known.
    """
    prices = [plan.price]
    if plan.market is Market.SPOT and plan.fallback.mode is FallbackMode.ON_DEMAND:
        prices.append(plan.on_demand_price)
    known = [price for price in prices if price is not None]
    if len(known) != len(prices):
        return None
    highest = max(known, key=lambda price: price.usd)
    return highest.times(count, highest.per)


def may_be_asked(cli: Cli) -> bool:
    """Whether somebody can be asked what ``--yes`` does not answer: a price that is not the plan's."""
    return cli.has_terminal and not cli.settings.yes


def ask_fallback(cli: Cli, plan: CreatePlan, error: CapacityError) -> bool:
    """Whether the on-demand machine is to be rented in place of a spot machine that could not be had."""
    if not may_be_asked(cli):
        return False
    price = "at a price that is not known" if plan.price is None else f"for {hourly(plan.price.usd)}"
    cli.say(error.message)
    try:
        cli.confirm(f"Rent {plan.instance_type} on demand {price} instead?")
    except RunctlError as refusal:
        if refusal.code != "declined":
            raise
        return False
    return True
