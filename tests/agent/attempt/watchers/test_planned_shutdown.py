"""A machine whose end is planned ends its runs in time."""

from __future__ import annotations

import pytest

from runctl.agent.attempt.watchers.planned_shutdown import RESERVE_SECONDS, grace_now, parse_scheduled


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("USEC=1764331200000000\nWARN_WALL=1\nMODE=poweroff\n", (1764331200.0, "poweroff")),
        ("USEC=1764331200500000\nWARN_WALL=0\nMODE=reboot\nUID=0\n", (1764331200.5, "reboot")),
        ("USEC=1764331200000000\nMODE=dry-poweroff\n", None),
        ("USEC=soon\nMODE=poweroff\n", None),
        ("", None),
    ],
)
def test_systemds_file_says_when_and_how(text: str, expected: tuple[float, str] | None) -> None:
    assert parse_scheduled(text) == expected


@pytest.mark.parametrize(
    ("left", "grace", "expected"),
    [
        (3600.0, 30.0, None),
        (30.0 + RESERVE_SECONDS, 30.0, 30.0),
        (20.0, 30.0, 10.0),
        (18.0, 2.0, None),
        (10.0, 30.0, 5.0),
        (0.0, 30.0, None),
        (-5.0, 30.0, None),
    ],
)
def test_a_run_goes_on_until_its_grace_fits_before_the_end(
    left: float, grace: float, expected: float | None
) -> None:
    assert grace_now(left, grace) == expected
