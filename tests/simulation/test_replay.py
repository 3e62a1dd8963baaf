"""Runs replayed over any traces: the deadline is kept, the cost bounded, and the future unknown."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runctl.agent.deadline import Job, Policy
from runctl.simulation.replay import Outcome, replay
from runctl.simulation.traces import Trace

HOUR = 3600.0
KEEPING = [policy for policy in Policy if policy is not Policy.SPOT]


@dataclass(frozen=True)
class Case:
    """A job, and capacity that is as bad as hypothesis likes."""

    job: Job
    pools: list[Trace]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    gap = draw(st.sampled_from([60.0, 195.0, 300.0]))
    restart = draw(st.sampled_from([0.0, 30.0, 180.0, 720.0]))
    work = draw(st.floats(HOUR / 2, 8 * HOUR))
    spare = draw(st.floats(0, 4 * HOUR))
    job = Job(
        work=work,
        deadline=work + restart + spare,
        restart=restart,
        tick=gap,
        between_interruptions=draw(st.sampled_from([600.0, 2 * HOUR, 24 * HOUR])),
        spot_price=draw(st.sampled_from([0.1, 0.3, 0.7, 1.0])),
    )
    probes = int(job.deadline // gap) + 2
    pools = [Trace(str(n), gap, draw(_capacity(probes))) for n in range(draw(st.integers(1, 3)))]
    return Case(job, pools)


def _capacity(probes: int) -> st.SearchStrategy[tuple[bool, ...]]:
    """Stretches of capacity and of none."""
    stretches = st.lists(st.tuples(st.booleans(), st.integers(1, 40)), min_size=1, max_size=40)

    def filled(parts: list[tuple[bool, int]]) -> tuple[bool, ...]:
        flat = [available for available, length in parts for _ in range(length)]
        return tuple((flat * (probes // len(flat) + 1))[:probes])

    return stretches.map(filled)


def flapping(between: int) -> Case:
    """One pool that has capacity at each ``between``-th probe."""
    job = Job(work=8 * HOUR, deadline=12 * HOUR, restart=180.0, tick=195.0)
    return Case(job, [Trace("flapping", 195.0, tuple(n % between == 0 for n in range(300)))])


@pytest.mark.parametrize("policy", KEEPING)
@settings(max_examples=60)
@given(case=cases())
@example(case=flapping(2))
def test_no_run_is_late_where_on_demand_is_to_be_had(policy: Policy, case: Case) -> None:
    outcome = replay(policy, case.job, case.pools, 0)
    assert outcome.finish is not None
    assert not outcome.late


@settings(max_examples=200)
@given(case=cases())
@example(case=flapping(2))
@example(case=flapping(3))
def test_a_run_costs_at_most_on_demand_and_one_lost_attempt(case: Case) -> None:
    job = case.job
    outcome = replay(Policy.DEADLINE, job, case.pools, 0)
    on_demand = replay(Policy.ON_DEMAND, job, case.pools, 0)
    lost_attempt = (job.spot_price + 1) * job.restart / 3600
    cost = outcome.cost(job.spot_price, 1)
    assert cost <= on_demand.cost(job.spot_price, 1) + lost_attempt + 1e-6


@pytest.mark.parametrize("policy", Policy)
@settings(max_examples=60)
@given(case=cases(), at=st.floats(0, 1))
def test_what_comes_later_changes_nothing_before(policy: Policy, case: Case, at: float) -> None:
    """Nothing is seen of the future: a trace that is cut gives what the whole gave until then."""
    probes = int(at * len(case.pools[0].available))
    cut = [Trace(pool.name, pool.gap, pool.available[:probes]) for pool in case.pools]
    turned = [
        Trace(
            pool.name, pool.gap, pool.available[:probes] + tuple(not each for each in pool.available[probes:])
        )
        for pool in case.pools
    ]
    until = replay(policy, case.job, cut, 0)
    if until.finish is not None:
        assert until == replay(policy, case.job, turned, 0)
    else:
        assert spent(until) <= spent(replay(policy, case.job, turned, 0)) + 1e-6


def spent(outcome: Outcome) -> float:
    return outcome.spot + outcome.on_demand


def test_a_run_by_hand() -> None:
    """Ten minutes on spot, lost, ten without capacity, the rest on spot: two restarts, and 3600 s of work."""
    trace = Trace("a", 300.0, (True, True, False, False, *[True] * 20))
    job = Job(work=3600.0, deadline=4 * HOUR, restart=60.0, tick=300.0)
    outcome = replay(Policy.DEADLINE, job, [trace], 0)
    assert outcome == Outcome(
        policy=Policy.DEADLINE,
        start=0.0,
        finish=600.0 + 600.0 + 60.0 + (3600.0 - 540.0),
        spot=600.0 + 60.0 + 3060.0,
        on_demand=0.0,
        attempts=2,
        interruptions=1,
        late=False,
    )
    assert outcome.cost(0.5, 1.0) == pytest.approx(0.5 * 3720 / 3600)


def test_the_pool_whose_machine_was_lost_last_is_tried_last() -> None:
    first = Trace("first", 300.0, (True, False, True, True, *[True] * 20))
    second = Trace("second", 300.0, (False, True, True, False, *[True] * 20))
    third = Trace("third", 300.0, (False, False, False, True, *[False] * 20))
    job = Job(work=1500.0, deadline=4 * HOUR, restart=0.0, tick=300.0)
    outcome = replay(Policy.SPOT, job, [first, second, third], 0)
    # first, second, then third and not first, which would have stayed.
    assert (outcome.attempts, outcome.interruptions) == (4, 3)


def test_spot_alone_is_late_where_capacity_stays_away() -> None:
    trace = Trace("a", 300.0, (True, *[False] * 50))
    job = Job(work=HOUR, deadline=2 * HOUR, restart=60.0, tick=300.0)
    outcome = replay(Policy.SPOT, job, [trace], 0)
    assert outcome.late
    assert outcome.finish is None
