"""The policy by itself: what it says at single moments."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.deadline import Job, Move, Policy, Standing, decide, may_spend, reserve, slack

HOUR = 3600.0
JOB = Job(work=48 * HOUR, deadline=52 * HOUR, restart=180.0, tick=195.0)
START = Standing(elapsed=0.0, done=0.0)
KEEPING = [policy for policy in Policy if policy is not Policy.SPOT]

standings = st.builds(
    Standing,
    elapsed=st.floats(0, 52 * HOUR),
    done=st.floats(0, 48 * HOUR),
    machine=st.sampled_from([None, Move.SPOT, Move.ON_DEMAND]),
    spot_available=st.booleans(),
    on_spot=st.floats(0, 52 * HOUR),
    on_demand=st.floats(0, 52 * HOUR),
    interruptions=st.integers(0, 50),
)


@pytest.mark.parametrize(
    ("standing", "move"),
    [
        (START, Move.SPOT),
        (replace(START, spot_available=False), Move.WAIT),
        # 3.1 of the four hours are lost: the rest is for restarts.
        (Standing(elapsed=11.1 * HOUR, done=8 * HOUR, spot_available=False, on_spot=8 * HOUR), Move.WAIT),
        (
            Standing(
                elapsed=11.1 * HOUR, done=8 * HOUR, spot_available=False, on_spot=8 * HOUR, interruptions=8
            ),
            Move.ON_DEMAND,
        ),
        (Standing(elapsed=10 * HOUR, done=9 * HOUR, machine=Move.SPOT, on_spot=9 * HOUR), Move.STAY),
        (Standing(elapsed=13 * HOUR, done=9 * HOUR, machine=Move.SPOT, on_spot=9 * HOUR), Move.ON_DEMAND),
        (Standing(elapsed=9 * HOUR, done=8 * HOUR, machine=Move.ON_DEMAND, on_spot=8 * HOUR), Move.SPOT),
        (
            Standing(
                elapsed=9 * HOUR,
                done=8 * HOUR,
                machine=Move.ON_DEMAND,
                spot_available=False,
                on_spot=8 * HOUR,
            ),
            Move.STAY,
        ),
        # Two minutes of work are left: no other machine is worth its restart.
        (Standing(elapsed=49 * HOUR, done=48 * HOUR - 120, machine=Move.ON_DEMAND), Move.STAY),
        # Machines that never came to work have cost more than one restart.
        (Standing(elapsed=0.5 * HOUR, done=0.0, on_spot=0.4 * HOUR, interruptions=8), Move.ON_DEMAND),
    ],
)
def test_the_deadline_policy_says(standing: Standing, move: Move) -> None:
    assert decide(Policy.DEADLINE, JOB, standing) is move


@pytest.mark.parametrize("policy", KEEPING)
@given(standing=standings)
def test_no_time_is_risked_that_a_restart_on_demand_needs(policy: Policy, standing: Standing) -> None:
    move = decide(policy, JOB, standing)
    holds = standing.machine if move is Move.STAY else move
    lost = JOB.tick + (JOB.restart if move is Move.SPOT else 0.0)
    if holds is not Move.ON_DEMAND:
        assert slack(JOB, standing) >= JOB.restart + lost


@given(standing=standings, less=st.floats(0, 1))
def test_who_has_more_time_does_not_take_the_dearer_machine(standing: Standing, less: float) -> None:
    earlier = replace(standing, elapsed=standing.elapsed * less)
    if standing.machine is not Move.ON_DEMAND and decide(Policy.DEADLINE, JOB, earlier) is Move.ON_DEMAND:
        assert decide(Policy.DEADLINE, JOB, standing) is Move.ON_DEMAND


@given(standing=standings)
def test_capacity_that_is_not_there_is_not_asked_for(standing: Standing) -> None:
    for policy in Policy:
        if not standing.spot_available:
            assert decide(policy, JOB, standing) is not Move.SPOT


@given(standing=standings, more=st.integers(1, 20))
def test_each_interruption_raises_what_is_kept_for_restarts(standing: Standing, more: int) -> None:
    worse = replace(standing, interruptions=standing.interruptions + more)
    assert reserve(JOB, worse) >= reserve(JOB, standing)


@given(standing=standings)
def test_spot_for_the_price_of_on_demand_is_not_risked_after_a_lost_attempt(standing: Standing) -> None:
    dear = replace(JOB, spot_price=1.0)
    wasted = replace(standing, on_spot=standing.done + 2 * JOB.restart)
    assert not may_spend(dear, wasted)
