"""Policies side by side, on traces of statistics that the policy's numbers were not chosen by."""

from __future__ import annotations

from decimal import Decimal

import pytest

from runctl.agent.deadline import Job, Policy
from runctl.core.errors import UsageError
from runctl.simulation.comparison import Comparison, compare
from runctl.simulation.traces import Trace, synthetic_traces

HOUR = 3600.0


def compared(traces: list[Trace], job: Job, runs: int) -> Comparison:
    prices = {"spot_price": Decimal("0.3"), "on_demand_price": Decimal(1)}
    return compare(traces, list(Policy), job, runs=runs, **prices)


@pytest.mark.parametrize(
    ("between", "availability", "restart"), [(2, 0.7, 180.0), (12, 0.85, 180.0), (6, 0.6, 720.0)]
)
def test_the_deadline_policy_saves_more_than_its_peers_that_keep_deadlines(
    between: float, availability: float, restart: float
) -> None:
    traces = synthetic_traces(
        1, between_interruptions=between * HOUR, availability=availability, length=30 * 86400, seed=11
    )
    job = Job(work=24 * HOUR, deadline=30 * HOUR, restart=restart, tick=traces[0].gap)
    found = compared(traces, job, runs=20)
    saved = {result.policy: result.saved for result in found.policies}
    assert saved[Policy.ON_DEMAND] == 0
    assert saved[Policy.DEADLINE] > saved[Policy.UNIFORM_PROGRESS]
    assert saved[Policy.DEADLINE] > saved[Policy.SPOT_THEN_ON_DEMAND]
    assert [result.late for result in found.policies if result.policy is not Policy.SPOT] == [0, 0, 0, 0]


def test_starts_are_spread_over_the_traces_and_end_within_them() -> None:
    trace = Trace("a", 300.0, (True,) * 288)
    found = compared([trace], Job(work=HOUR, deadline=2 * HOUR, restart=60.0, tick=300.0), runs=10)
    starts = [day * 24 for day, _ in found.policies[0].saved_by_start]
    assert len(starts) == found.runs == 10
    assert starts[0] == 0
    assert 19 < starts[-1] <= 22


def test_traces_shorter_than_the_deadline_are_refused() -> None:
    trace = Trace("a", 300.0, (True,) * 12)
    with pytest.raises(UsageError, match=r"the traces are 1\.0 h long, and the deadline is 2\.0 h"):
        compared([trace], Job(work=HOUR, deadline=2 * HOUR, restart=60.0, tick=300.0), runs=1)
