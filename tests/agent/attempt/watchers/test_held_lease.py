"""A run that may go on only while its machine has the lease: when it must end, and with how much grace."""

from __future__ import annotations

import pytest

from runctl.agent.attempt.watchers.held_lease import grace_left
from runctl.agent.lease import RENEWALS, SECONDS


def test_a_store_that_is_away_for_a_minute_stops_nobody() -> None:
    longest_since_renewal = SECONDS / RENEWALS + 60
    assert grace_left(SECONDS - longest_since_renewal, SECONDS, 30.0) is None


@pytest.mark.parametrize(
    ("left", "grace", "expected"),
    [
        (41.0, 30.0, None),
        (40.0, 30.0, 30.0),
        (25.0, 30.0, 15.0),
        (10.0, 30.0, 0.0),
        (-500.0, 30.0, 0.0),
        # However long a script may take: a third of the lease is what it gets.
        (71.0, 600.0, None),
        (70.0, 600.0, 60.0),
        (10.0, 0.0, 0.0),
    ],
)
def test_a_script_has_ended_ten_seconds_before_its_machine_loses_the_lease(
    left: float, grace: float, expected: float | None
) -> None:
    assert grace_left(left, SECONDS, grace) == expected
