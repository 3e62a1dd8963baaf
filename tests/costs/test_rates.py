"""What time and quantity come to."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.costs.rates import Per, Tier, TieredRate, estimate, hours
from tests.rates import DAY, hourly, monthly

TIERS = TieredRate(
    tuple(Tier(Decimal(start), Decimal(usd)) for start, usd in ((0, "0"), (100, "0.09"), (10240, "0.085"))),
    Per.GIB,
    DAY,
    "a test",
)
QUANTITIES = st.decimals(0, 100_000, places=3)


def test_an_estimate_has_the_machines_and_the_disks_share_of_the_month() -> None:
    assert estimate(Decimal(1), timedelta(hours=73), [Decimal(10)], machines=2) == Decimal(147)


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (timedelta(days=1, minutes=15), "24.25"),
        (timedelta(seconds=9), "0.0025"),
        (timedelta(microseconds=9), "0.0000000025"),
    ],
)
def test_hours_are_not_rounded(duration: timedelta, expected: str) -> None:
    assert hours(duration) == Decimal(expected)


@given(QUANTITIES, QUANTITIES)
def test_what_is_used_in_two_goes_costs_as_much_as_at_once(first: Decimal, second: Decimal) -> None:
    assert TIERS.cost(first) + TIERS.cost(second, already=first) == TIERS.cost(first + second)


def test_the_price_to_plan_with_is_the_first_that_is_paid() -> None:
    assert TIERS.first.usd == Decimal("0.09")


def test_a_sum_is_as_old_as_its_older_part_and_current_only_where_both_are() -> None:
    both = monthly(8, "shipped", current=False).plus(monthly(2, "list", current=True))

    assert (both.usd, both.current, both.per) == (Decimal(10), False, Per.MONTH)


def test_a_rate_times_a_quantity_is_a_rate() -> None:
    assert hourly("0.5").times(730, Per.MONTH).usd == Decimal(365)
