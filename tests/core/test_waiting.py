"""A wait asks at once, then ever more seldom, and for the last time when the time is up; no test waits for it."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice, pairwise

import pytest

from runctl.core.waiting import Backoff, attempts
from runctl.testing.clock import ManualClock


@pytest.mark.parametrize("timeout", [timedelta(0), timedelta(seconds=1), timedelta(hours=24)])
def test_it_asks_at_once_and_when_the_time_is_up(timeout: timedelta) -> None:
    asked = list(attempts(ManualClock(), timeout, most=60.0))

    assert asked[0] == 0
    assert asked[-1] == pytest.approx(timeout.total_seconds())


def test_the_pauses_grow_up_to_the_longest() -> None:
    asked = list(attempts(ManualClock(), timedelta(minutes=5), first=1.0, most=10.0))
    pauses = [after - before for before, after in pairwise(asked)][:-1]

    assert pauses == sorted(pauses)
    assert [pauses[0], pauses[-1]] == pytest.approx([1.0, 10.0])


def test_without_a_limit_it_goes_on() -> None:
    assert len(list(islice(attempts(ManualClock(), None), 1000))) == 1000


def test_what_the_asking_takes_counts() -> None:
    clock = ManualClock()
    asked = []
    for seconds in attempts(clock, timedelta(seconds=30)):
        asked.append(seconds)
        clock.sleep(29)
    assert asked == [0, pytest.approx(29.2)]  # the second ends after the limit


def test_a_try_that_got_somewhere_begins_with_the_shortest_pause_again() -> None:
    pauses: list[float] = []
    clock = ManualClock()
    clock.on_sleep = pauses.append
    backoff = Backoff(clock, first=2.0, most=4.0)
    for _ in range(3):
        backoff.sleep()
    backoff.reset()
    backoff.sleep()
    backoff.sleep(at_most=1.0)

    assert pauses == [2.0, 3.0, 4.0, 2.0, 1.0]
