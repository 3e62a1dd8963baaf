"""What a machine is told when its limits are changed."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from runctl.core.errors import UsageError
from runctl.machines.limits import NewLimits, request_of, seconds_left

HOURLY = Decimal("0.50")


@pytest.mark.parametrize(
    ("wanted", "request_"),
    [
        (NewLimits(ttl=timedelta(hours=4)), {"ttl_seconds": 14400.0}),
        (NewLimits(budget=Decimal(4)), {"budget_seconds": 28800.0, "budget": "$4.00"}),
        (NewLimits(idle_timeout=timedelta(0)), {"limits_off": "idle_seconds"}),
        (
            NewLimits(ttl=timedelta(0), budget=Decimal(0), idle_timeout=timedelta(minutes=5)),
            {"idle_seconds": 300.0, "limits_off": "ttl_seconds,budget_seconds"},
        ),
    ],
)
def test_only_what_is_named_is_changed(wanted: NewLimits, request_: dict[str, Any]) -> None:
    assert request_of(wanted, HOURLY) == request_


def test_a_budget_without_a_price_is_refused() -> None:
    with pytest.raises(UsageError, match="no price is known"):
        request_of(NewLimits(budget=Decimal(4)), None)


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({}, None),
        ({"ttl_seconds": 3600.0, "budget_seconds": None}, 3000.0),
        ({"ttl_seconds": 3600.0, "budget_seconds": 900.0}, 300.0),
    ],
)
def test_the_earlier_of_two_limits_is_the_end(limits: dict[str, Any], left: float | None) -> None:
    assert seconds_left({"limits": limits, "ran_seconds": 600.0}) == left
