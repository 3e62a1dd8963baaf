"""How often a checkpoint is worth its time, and what going without costs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.checkpoints.schedule import (
    SHORTEST_SECONDS,
    best_interval,
    expected_extra_seconds,
    fits,
    late_seconds,
    sent_before_the_newest,
    time_with_checkpoints,
    time_without_checkpoints,
)

HOUR = 3600.0


@given(st.floats(1, 600), st.floats(0.5, 48), st.floats(0.2, 4))
def test_no_interval_loses_less_than_the_best_one(cost: float, hours: float, factor: float) -> None:
    between = hours * HOUR
    best = best_interval(cost, between)
    if best <= SHORTEST_SECONDS or cost >= between / 2:
        return
    work = 1000 * best

    def lost(every: float) -> float:
        return time_with_checkpoints(work, between, 0.0, every=every, cost=cost)

    assert lost(best) <= lost(best * factor) * 1.02


def test_the_interval_is_young_and_dalys() -> None:
    # Young: sqrt(2 * 60 * 86400) is 3220 s; Daly's further terms take the checkpoint's own time off.
    assert best_interval(60, 24 * HOUR) == pytest.approx(3180, abs=10)
    assert best_interval(0.001, HOUR) == SHORTEST_SECONDS
    assert best_interval(2 * HOUR, HOUR) == HOUR


@given(st.floats(60, 100 * HOUR), st.floats(600, 48 * HOUR), st.floats(0, 600))
def test_going_without_never_takes_less_than_the_work(work: float, between: float, restart: float) -> None:
    assert time_without_checkpoints(work, between, restart) >= work * (1 - 1e-9)


def test_going_without_grows_beyond_all_bounds() -> None:
    assert time_without_checkpoints(1 * HOUR, 10 * HOUR, 0) == pytest.approx(1.05 * HOUR, rel=0.01)
    assert time_without_checkpoints(48 * HOUR, 2 * HOUR, 180) > 1e9
    assert time_without_checkpoints(1e9, 60, 0) == math.inf


def test_late_is_three_intervals() -> None:
    assert late_seconds(now=1000, newest=100, every=300) == 0
    assert late_seconds(now=1001, newest=100, every=300) == 1


def test_what_fits_is_what_the_measured_speed_can_send() -> None:
    assert fits(100, 10, 10)
    assert not fits(101, 10, 10)
    assert fits(10**12, None, 1)
    assert not fits(1, None, 0)


@given(st.floats(3 * HOUR, 100 * HOUR), st.floats(1 * HOUR, 12 * HOUR))
def test_on_spot_going_without_costs_more_than_checkpoints_do(work: float, between: float) -> None:
    without = expected_extra_seconds(work, between, 180, checkpoints=False)
    with_them = expected_extra_seconds(work, between, 180, checkpoints=True)
    assert without > with_them or work < between


@pytest.mark.parametrize(
    ("remaining", "speed", "seconds", "first"),
    [
        ([], 10.0, 10.0, None),
        ([100, 50], 10.0, 10.0, None),
        ([101, 200, 50, 10], 10.0, 10.0, 2),
        ([101, 200], 10.0, 10.0, None),
        ([10**12, 1], None, 10.0, None),
        ([1, 1], 10.0, 0.0, None),
    ],
)
def test_the_newest_checkpoint_that_can_be_sent_goes_before_a_newer_one_that_cannot(
    remaining: list[int], speed: float | None, seconds: float, first: int | None
) -> None:
    assert sent_before_the_newest(remaining, speed, seconds) == first
