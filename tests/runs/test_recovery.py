"""What follows when an attempt has ended, as a table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.deadline import Job, Policy
from runctl.agent.end_reason import EndReason
from runctl.runs.recovery import (
    Deadline,
    GiveUp,
    NextAttempt,
    PastAttempt,
    Progress,
    RecoveryRules,
    Wait,
    decide_next,
)

HOUR = 3600.0
INTERRUPTED = PastAttempt(EndReason.INTERRUPTED, "spot", "a", ended_at=HOUR, paid=HOUR)
RULES = RecoveryRules(max_attempts=5, retry_within=1800.0)
NOW = Progress(elapsed=HOUR, done=0.9 * HOUR, pools_with_capacity=("a", "b"))
NOTHING = replace(NOW, pools_with_capacity=())
DEADLINE = Deadline(Policy.DEADLINE, Job(work=8 * HOUR, deadline=10 * HOUR, restart=180.0, tick=60.0))


@pytest.mark.parametrize(
    ("reason", "retried"),
    [
        (EndReason.COMPLETED, False),
        (EndReason.FAILED, False),
        (EndReason.OUT_OF_MEMORY, False),
        (EndReason.STOPPED, False),
        (EndReason.TIME_LIMIT, False),
        (EndReason.BUDGET, False),
        (EndReason.IDLE, False),
        (EndReason.INTERRUPTED, True),
        (EndReason.LOST, True),
        (EndReason.MOVED, True),
        (EndReason.SETUP_FAILED, False),
        (EndReason.IMAGE_FAILED, False),
        (EndReason.DATA_FAILED, False),
        (EndReason.DISK_FULL, False),
        (EndReason.NO_CAPACITY, True),
        (EndReason.NOT_STARTED, True),
    ],
)
def test_each_end_reason_is_retried_or_not(reason: EndReason, retried: bool) -> None:
    step = decide_next([replace(INTERRUPTED, reason=reason)], RULES, NOW)
    assert isinstance(step, NextAttempt) is retried
    assert isinstance(step, GiveUp) is not retried


@pytest.mark.parametrize(
    ("pools", "rules", "progress", "step"),
    [
        # The pool that just failed goes last, and is taken where there is no other.
        (["a"], RULES, NOW, NextAttempt("spot", "b")),
        (["b", "a"], RULES, NOW, NextAttempt("spot", "b")),
        (["a", "b"], RULES, NOW, NextAttempt("spot", "a")),
        (["a"], RULES, replace(NOW, pools_with_capacity=("a",)), NextAttempt("spot", "a")),
        (["a"], RULES, replace(NOW, pools_with_capacity=("c", "b")), NextAttempt("spot", "c")),
        # Spot never turns into on-demand by itself.
        (["a"], RULES, NOTHING, Wait()),
        (["a"], RULES, replace(NOTHING, elapsed=HOUR + 1800), Wait()),
        (
            ["a"],
            RULES,
            replace(NOTHING, elapsed=HOUR + 1801),
            GiveUp("found no machine within 30m; runctl runs recover tries again"),
        ),
        (["a"], replace(RULES, on_demand_after=1200.0), replace(NOTHING, elapsed=HOUR + 1199), Wait()),
        (
            ["a"],
            replace(RULES, on_demand_after=1200.0),
            replace(NOTHING, elapsed=HOUR + 1200),
            NextAttempt("on-demand", None),
        ),
        (["a"] * 5, RULES, NOW, GiveUp("has had 5 of 5 attempts")),
        # By the deadline: two hours may be lost, and most of them are.
        (["a"], replace(RULES, deadline=DEADLINE), NOW, NextAttempt("spot", "b")),
        (["a"], replace(RULES, deadline=DEADLINE), NOTHING, Wait()),
        (
            ["a"],
            replace(RULES, deadline=DEADLINE),
            replace(NOTHING, elapsed=2.8 * HOUR),
            NextAttempt("on-demand", None),
        ),
        (
            ["a"],
            replace(RULES, deadline=DEADLINE),
            replace(NOW, elapsed=2.9 * HOUR),
            NextAttempt("on-demand", None),
        ),
    ],
)
def test_the_table(
    pools: list[str], rules: RecoveryRules, progress: Progress, step: NextAttempt | Wait | GiveUp
) -> None:
    attempts = [replace(INTERRUPTED, pool=pool) for pool in pools]
    assert decide_next(attempts, rules, progress) == step


@given(
    reasons=st.lists(st.sampled_from(EndReason), min_size=1, max_size=8),
    pools=st.lists(st.sampled_from("abc"), unique=True),
    elapsed=st.floats(HOUR, 20 * HOUR),
)
def test_what_was_not_allowed_is_not_done(reasons: list[EndReason], pools: list[str], elapsed: float) -> None:
    attempts = [replace(INTERRUPTED, reason=reason) for reason in reasons]
    step = decide_next(attempts, RULES, Progress(elapsed, 0.0, tuple(pools)))
    if isinstance(step, NextAttempt):
        assert len(attempts) < RULES.max_attempts
        assert step.market == "spot"
        assert step.pool in pools
    if isinstance(step, Wait):
        assert elapsed - HOUR <= RULES.retry_within


def test_a_run_without_an_attempt_is_not_recovered() -> None:
    with pytest.raises(ValueError, match="no attempt"):
        decide_next([], RULES, NOW)
