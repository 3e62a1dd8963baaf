"""Policies side by side: many runs over the same traces, started at different moments."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from statistics import fmean

from runctl._dataclasses import dataclass
from runctl.agent.deadline import Job, Policy
from runctl.core.errors import UsageError
from runctl.simulation.replay import Outcome, replay
from runctl.simulation.traces import Trace


@dataclass(frozen=True)
class Pool:
    """One trace, as it is reported."""

    name: str
    available: float
    """The share of the time with capacity."""


@dataclass(frozen=True)
class PolicyResult:
    """Means over the runs, unless said otherwise."""

    policy: Policy
    saved: float
    """The share of the cost of on-demand alone."""
    cost: Decimal
    spot_hours: float
    on_demand_hours: float
    finish_hours: float | None
    """Of the runs that ended within the traces; ``None`` where none did."""
    latest_finish_hours: float | None
    """Of all runs; ``None`` where one did not end within the traces."""
    late: int
    """How many runs missed the deadline."""
    attempts: float
    interruptions: float
    saved_by_start: tuple[tuple[float, float], ...]
    """For each run the days into the traces at which it started, and what it saved."""


@dataclass(frozen=True)
class Comparison:
    """What `compare` found."""

    pools: tuple[Pool, ...]
    any_available: float
    """The share of the time in which at least one pool had capacity."""
    days: float
    """How long the traces are."""
    runs: int
    job_hours: float
    deadline_hours: float
    restart_minutes: float
    spot_price: Decimal
    on_demand_price: Decimal
    policies: tuple[PolicyResult, ...]


def compare(
    pools: Sequence[Trace],
    policies: Sequence[Policy],
    job: Job,
    *,
    spot_price: Decimal,
    on_demand_price: Decimal,
    runs: int,
) -> Comparison:
    """Replay the job with each policy, from starts spread evenly over the traces. Prices are per hour.

    Raises `UsageError` where the traces are shorter than the deadline.
    """
    gap = pools[0].gap
    length = min(len(pool.available) for pool in pools)
    # One probe more than the deadline is long, so that a run that ends at the last moment is seen to end.
    room = length - int(job.deadline // gap) - 1
    if room <= 0:
        raise UsageError(
            f"the traces are {length * gap / 3600:.1f} h long, and the deadline is {job.deadline / 3600:.1f} h"
        )
    starts = sorted({room * number // runs for number in range(runs)})
    anywhere = [any(pool.available[probe] for pool in pools) for probe in range(length)]
    baseline = float(on_demand_price) * (job.work + job.restart) / 3600
    found = []
    for policy in policies:
        outcomes = [replay(policy, job, pools, start) for start in starts]
        found.append(_result(policy, outcomes, float(spot_price), float(on_demand_price), baseline))
    return Comparison(
        pools=tuple(Pool(pool.name, round(pool.share, 4)) for pool in pools),
        any_available=round(fmean(anywhere), 4),
        days=round(length * gap / 86400, 3),
        runs=len(starts),
        job_hours=job.work / 3600,
        deadline_hours=job.deadline / 3600,
        restart_minutes=job.restart / 60,
        spot_price=spot_price,
        on_demand_price=on_demand_price,
        policies=tuple(found),
    )


def _result(
    policy: Policy, outcomes: Sequence[Outcome], spot_price: float, on_demand_price: float, baseline: float
) -> PolicyResult:
    costs = [outcome.cost(spot_price, on_demand_price) for outcome in outcomes]
    finished = [outcome.finish / 3600 for outcome in outcomes if outcome.finish is not None]
    by_start = zip(outcomes, costs, strict=True)
    return PolicyResult(
        policy=policy,
        # Adding 0 makes a zero that rounding left negative an ordinary one.
        saved=round(1 - fmean(costs) / baseline, 4) + 0.0,
        cost=Decimal(f"{fmean(costs):.4f}"),
        spot_hours=round(fmean(outcome.spot for outcome in outcomes) / 3600, 3),
        on_demand_hours=round(fmean(outcome.on_demand for outcome in outcomes) / 3600, 3),
        finish_hours=round(fmean(finished), 3) if finished else None,
        latest_finish_hours=round(max(finished), 3) if len(finished) == len(outcomes) else None,
        late=sum(outcome.late for outcome in outcomes),
        attempts=round(fmean(outcome.attempts for outcome in outcomes), 2),
        interruptions=round(fmean(outcome.interruptions for outcome in outcomes), 2),
        saved_by_start=tuple(
            (round(each.start / 86400, 3), round(1 - cost / baseline, 4) + 0.0) for each, cost in by_start
        ),
    )
