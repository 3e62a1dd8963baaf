"""What ends a machine by itself: settled from what was asked for, and from what it costs."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.core.errors import UsageError
from runctl.providers.abilities.limits import (
    IDLE_TIMEOUT,
    OFF,
    TOO_LITTLE,
    MachineLimits,
    cost_per_hour,
    paid_time,
    settled_limits,
)


def settled(*, for_a_run: bool = False, **given: Any) -> MachineLimits:
    asked: dict[str, Any] = {"ttl": None, "budget": None, "idle_timeout": None, **given}
    return settled_limits(**asked, for_a_run=for_a_run, per_hour=Decimal("2.50"))


def test_a_machine_that_is_not_rented_for_a_run_ends_when_nobody_uses_it() -> None:
    assert settled() == MachineLimits(idle_timeout=IDLE_TIMEOUT)
    assert settled(idle_timeout=OFF) == MachineLimits()
    assert settled(for_a_run=True) == MachineLimits()
    assert settled(for_a_run=True, idle_timeout=timedelta(minutes=30)) == MachineLimits(
        idle_timeout=timedelta(minutes=30)
    )


def test_a_budget_is_the_time_that_it_pays_for() -> None:
    limits = settled(budget=Decimal(25), ttl=timedelta(hours=12))

    assert (limits.budget_time, limits.longest) == (timedelta(hours=10), timedelta(hours=10))


@pytest.mark.parametrize(
    ("asked", "said", "code"),
    [
        ({"ttl": timedelta(seconds=59)}, "too short", "usage"),
        ({"ttl": timedelta(days=367)}, "too long", "usage"),
        ({"idle_timeout": timedelta(seconds=59)}, "too short", "usage"),
        ({"budget": Decimal("0.04")}, "pays for 57 seconds", TOO_LITTLE),
    ],
)
def test_a_limit_that_cannot_be_kept_is_refused(asked: dict[str, Any], said: str, code: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        settled(**asked)

    assert caught.value.code == code
    assert caught.value.hint


def test_a_budget_needs_a_price() -> None:
    with pytest.raises(UsageError, match="no price is known"):
        paid_time(Decimal(5), None)

    assert paid_time(Decimal(5), Decimal(0)) is None  # it costs nothing
    assert cost_per_hour(None, [Decimal(1)]) is None


@given(
    st.decimals(Decimal("0.5"), Decimal(100000), places=2),
    st.decimals(Decimal("0.0031"), Decimal(30), places=4),
    st.lists(st.decimals(Decimal(0), Decimal(500), places=2), max_size=3),
)
def test_the_time_that_a_budget_pays_for_never_costs_more(
    budget: Decimal, machine: Decimal, disks: list[Decimal]
) -> None:
    hourly = cost_per_hour(machine, disks)
    assert hourly is not None

    time = paid_time(budget, hourly)

    assert time is not None
    assert Decimal(time.total_seconds()) / 3600 * hourly <= budget * Decimal("1.0000000001")
