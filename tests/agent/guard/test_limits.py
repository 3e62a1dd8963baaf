"""When a machine ends itself: the decision, by table and by property."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.guard.limits import (
    OVERTIME_SECONDS,
    TOUCHED_SECONDS,
    EndCause,
    Limits,
    MachineLimit,
    Seen,
    duration_text,
    ends_now,
    next_limit,
    notice,
    warning,
)

HOUR = 3600.0
TTL, BUDGET, IDLE = Limits(ttl_seconds=HOUR), Limits(budget_seconds=HOUR), Limits(idle_seconds=HOUR)
UNUSED = Limits(unused_seconds=3 * HOUR)

LONG_AGO = 10 * HOUR


@pytest.mark.parametrize(
    ("limits", "seen", "expected"),
    [
        (Limits(), Seen(1e9, idle_seconds=1e9), None),
        (TTL, Seen(600), MachineLimit(EndCause.TIME_LIMIT, 3000)),
        (TTL, Seen(HOUR, runs=True), MachineLimit(EndCause.TIME_LIMIT, 0)),
        (BUDGET, Seen(HOUR + 5), MachineLimit(EndCause.BUDGET, -5)),
        # The one that comes first counts; of two at once the budget is the reason.
        (replace(TTL, budget_seconds=1800.0), Seen(600), MachineLimit(EndCause.BUDGET, 1200)),
        (replace(TTL, budget_seconds=HOUR), Seen(600), MachineLimit(EndCause.BUDGET, 3000)),
        (replace(TTL, idle_seconds=60.0), Seen(600, idle_seconds=50), MachineLimit(EndCause.IDLE, 10)),
        (IDLE, Seen(LONG_AGO, idle_seconds=HOUR), MachineLimit(EndCause.IDLE, 0)),
        # A run keeps the machine, however idle it is.
        (IDLE, Seen(LONG_AGO, idle_seconds=LONG_AGO, runs=True), None),
        (UNUSED, Seen(HOUR, untouched_seconds=HOUR), MachineLimit(EndCause.UNUSED, 2 * HOUR)),
        (UNUSED, Seen(LONG_AGO, untouched_seconds=LONG_AGO, had_run=True), None),
        # Something is being sent to it.
        (UNUSED, Seen(LONG_AGO, untouched_seconds=10), MachineLimit(EndCause.UNUSED, TOUCHED_SECONDS - 10)),
    ],
)
def test_the_first_limit_ends_the_machine(limits: Limits, seen: Seen, expected: MachineLimit | None) -> None:
    assert next_limit(limits, seen) == expected


@pytest.mark.parametrize(
    ("seconds", "supervised", "expected"),
    [
        (1.0, False, False),
        (0.0, False, True),
        # A run that is being ended publishes its last checkpoint; it has not for ever.
        (0.0, True, False),
        (1.0 - OVERTIME_SECONDS, True, False),
        (-OVERTIME_SECONDS, True, True),
    ],
)
def test_a_run_that_is_being_ended_has_some_time(seconds: float, supervised: bool, expected: bool) -> None:
    limit = MachineLimit(EndCause.BUDGET, seconds)

    assert ends_now(limit, Seen(0, runs=supervised, supervised=supervised)) is expected


AMOUNTS = st.none() | st.floats(60, 1e6)
LIMITS = st.builds(
    Limits, ttl_seconds=AMOUNTS, budget_seconds=AMOUNTS, idle_seconds=AMOUNTS, unused_seconds=AMOUNTS
)
SEEN = st.builds(
    Seen,
    ran_seconds=st.floats(0, 1e7),
    idle_seconds=st.floats(0, 1e7),
    runs=st.booleans(),
    supervised=st.booleans(),
    had_run=st.booleans(),
    untouched_seconds=st.floats(0, 1e7),
)


@given(LIMITS, SEEN, st.floats(0, 1e6))
def test_no_limit_moves_away_while_nothing_happens(limits: Limits, seen: Seen, passed: float) -> None:
    later = replace(
        seen,
        ran_seconds=seen.ran_seconds + passed,
        idle_seconds=seen.idle_seconds + passed,
        untouched_seconds=seen.untouched_seconds + passed,
    )

    before, after = next_limit(limits, seen), next_limit(limits, later)

    assert (before is None) == (after is None)
    if before is not None and after is not None:
        assert after.seconds == pytest.approx(before.seconds - passed, abs=0.01)


@given(LIMITS, SEEN)
def test_time_and_budget_end_a_machine_whatever_it_does(limits: Limits, seen: Seen) -> None:
    limit = next_limit(limits, seen)

    for seconds in (limits.ttl_seconds, limits.budget_seconds):
        if seconds is not None and seen.ran_seconds >= seconds + OVERTIME_SECONDS:
            assert limit is not None
            assert ends_now(limit, seen)


@given(LIMITS, SEEN)
def test_idleness_never_ends_a_machine_that_has_a_run(limits: Limits, seen: Seen) -> None:
    limit = next_limit(limits, replace(seen, runs=True))

    assert limit is None or limit.cause in {EndCause.TIME_LIMIT, EndCause.BUDGET}


def test_who_logs_in_reads_what_ends_the_machine() -> None:
    limits = Limits(ttl_seconds=8 * HOUR, budget_seconds=5 * HOUR, budget="$25.00", idle_seconds=HOUR)

    assert notice(limits, Seen(HOUR)) == (
        "runctl: this machine ends itself when nothing has used it for 1 h, and in 7 h at the latest (its time to"
        " live), and in 4 h at the latest (its budget of $25.00). Its own disks go with it."
    )
    assert notice(Limits(), Seen(HOUR)) == ""
    assert warning(limits, MachineLimit(EndCause.BUDGET, 600)) == (
        "this machine ends itself in 10 min: its budget of $25.00 is used up"
    )
    assert warning(limits, MachineLimit(EndCause.IDLE, -3)) == (
        "this machine ends itself now: nothing has used it for 1 h"
    )


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3661, "1 h 1 min"), (86400, "1 d"), (90061, "1 d 1 h")],
)
def test_times_are_told_by_their_two_largest_units(seconds: float, expected: str) -> None:
    assert duration_text(seconds) == expected
