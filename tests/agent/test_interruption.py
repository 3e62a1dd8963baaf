"""What a notice says, and how the two minutes are shared out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.interruption import (
    END_SECONDS,
    RESERVE_SECONDS,
    SEAL_SECONDS,
    VOLUMES_SECONDS,
    Notice,
    parse_notice,
    parse_rebalance,
    plan_end,
    plan_time,
)

NOON = 1795867200.0
"""2026-11-28T12:00:00Z."""


@pytest.mark.parametrize(
    ("body", "clock_ahead", "expected"),
    [
        ('{"action": "terminate", "time": "2026-11-28T12:00:00Z"}', 0.0, Notice(NOON, "terminate")),
        ('{"action": "stop", "time": "2026-11-28T12:00:00Z"}', -90.0, Notice(NOON - 90, "stop")),
        ('{"action": "hibernate", "time": "2026-11-28T12:00:00Z"}', 90.0, Notice(NOON + 90, "hibernate")),
    ],
)
def test_a_notice_says_when_the_machine_ends_by_the_machines_own_clock(
    body: str, clock_ahead: float, expected: Notice
) -> None:
    assert parse_notice(body, clock_ahead) == expected


@pytest.mark.parametrize(
    "body",
    ["", "<html>", "[]", "{}", '{"action": "terminate", "time": "soon"}', '{"time": 7}', "[" * 100_000],
)
def test_what_is_not_a_notice_is_not_taken_for_one(body: str) -> None:
    with pytest.raises(ValueError):
        parse_notice(body)
    with pytest.raises(ValueError):
        parse_rebalance(body)


def test_a_recommendation_has_its_time() -> None:
    assert parse_rebalance('{"noticeTime": "2026-11-28T12:00:00Z"}', 5.0) == NOON + 5


@pytest.mark.parametrize(
    ("left", "publish", "grace"),
    [
        (120.0, 0.0, 120.0 - RESERVE_SECONDS),
        (120.0, 20.0, 100.0 - RESERVE_SECONDS),
        (120.0, 3600.0, (120.0 - RESERVE_SECONDS) / 2),
        (10.0, 0.0, 5.0),
        (0.0, 30.0, 0.0),
        (-60.0, 0.0, 0.0),
    ],
)
def test_the_script_has_what_publishing_and_the_end_leave_it(
    left: float, publish: float, grace: float
) -> None:
    assert plan_time(left, publish).grace == grace


@given(st.floats(-1e3, 1e3), st.floats(0, 1e6))
def test_the_plan_never_takes_longer_than_the_machine_lives(left: float, publish: float) -> None:
    plan = plan_time(left, publish)
    assert plan.grace >= plan.publish >= 0 or plan.grace >= left / 4 >= 0
    assert plan.grace + plan.publish <= max(0.0, left)


def test_what_follows_the_script_has_its_own_time_whatever_publishing_takes() -> None:
    plan = plan_end(NOON, NOON - 120, has_volumes=True)
    assert (plan.volumes, plan.seal) == (NOON - END_SECONDS, NOON - END_SECONDS - VOLUMES_SECONDS)
    assert plan.publish == plan.seal - SEAL_SECONDS > NOON - RESERVE_SECONDS
    assert plan_end(NOON, has_volumes=True) == plan
    without = plan_end(NOON, NOON - 120, has_volumes=False)
    assert (without.volumes, without.seal) == (plan.volumes, plan.volumes)
    assert without.publish == plan.volumes - SEAL_SECONDS


@given(st.floats(0, 1e4), st.booleans())
def test_however_short_the_notice_each_step_has_a_part_of_it(seconds: float, has_volumes: bool) -> None:
    heard_at = NOON - seconds
    plan = plan_end(NOON, heard_at, has_volumes=has_volumes)
    assert heard_at <= plan.publish <= plan.seal <= plan.volumes <= NOON
    if seconds >= 1:
        assert heard_at < plan.publish < plan.seal
        assert plan.volumes < NOON
        assert has_volumes is (plan.seal < plan.volumes)
