"""One run replayed over one trace per pool: what it would have cost, and when it would have ended.

The policy is asked at each probe of the traces, with what a run can know at that moment, and nothing of later ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from runctl._dataclasses import dataclass
from runctl.agent.deadline import Job, Move, Policy, Standing, decide
from runctl.simulation.traces import Trace

_ROUNDING = 1e-6
"""Seconds that sums of floats may be off."""


@dataclass(frozen=True)
class Outcome:
    """What became of one run. Times in seconds."""

    policy: Policy
    start: float
    """From the first probe."""
    finish: float | None
    """From the run's start; ``None`` where the traces end before it does."""
    spot: float
    """Time for which a spot machine is paid."""
    on_demand: float
    attempts: int
    interruptions: int
    """Spot machines that were lost."""
    late: bool

    def cost(self, spot_price: float, on_demand_price: float) -> float:
        """In the prices' currency; they are per hour."""
        return (self.spot * spot_price + self.on_demand * on_demand_price) / 3600


def replay(policy: Policy, job: Job, pools: Sequence[Trace], start: int) -> Outcome:
    """What becomes of the job when it starts at probe ``start``.

    A machine is paid from the decision for it on, also while it starts. A pool whose machine was lost last is tried
    last. Progress until an interruption is kept: the script saves on the notice.
    """
    gap = pools[0].gap
    last = min(len(pool.available) for pool in pools)
    lost_at = [-1] * len(pools)
    machine: Move | None = None
    pool = 0
    starting = done = spot = on_demand = 0.0
    attempts = interruptions = 0
    finish: float | None = None
    probe = start
    while probe < last:
        elapsed = (probe - start) * gap
        if machine is Move.SPOT and not pools[pool].available[probe]:
            machine, lost_at[pool], interruptions = None, probe, interruptions + 1
        open_pools = [number for number, each in enumerate(pools) if each.available[probe]]
        standing = Standing(elapsed, done, machine, bool(open_pools), spot, on_demand, interruptions)
        move = decide(policy, job, standing)
        if move is Move.SPOT:
            pool = min(open_pools, key=lambda number: lost_at[number])
        if move is not Move.STAY:
            machine = None if move is Move.WAIT else move
            starting = job.restart
            attempts += machine is not None
        probes = 1
        if machine is Move.SPOT and not starting:
            # It makes progress, so that what may be lost stays what it is: nothing changes until the machine is lost.
            probes = max(1, min(pools[pool].lost[probe], last) - probe)
        probe += probes
        if machine is None:
            continue
        used = min(probes * gap, starting + job.work - done)
        progress = max(0.0, used - starting)
        starting = max(0.0, starting - used)
        done += progress
        if machine is Move.SPOT:
            spot += used
        else:
            on_demand += used
        if job.work - done < _ROUNDING:
            finish = elapsed + used
            break
    late = finish is None or finish > job.deadline + _ROUNDING
    return Outcome(policy, start * gap, finish, spot, on_demand, attempts, interruptions, late)
