"""Which machine a run should be on now, so that it ends in time and costs little. Pure: whoever recovers a run, the
machine and the simulator ask the same function.

The facts are from Wu et al., "Can't Be Late: Optimizing Spot Instance Savings under Deadlines", NSDI 2024. A run works
as fast on one market as on the other, so the time that may be lost (`slack`) never grows: it is spent on waiting for
capacity and on restarts, and what is left of it at the end was of no use. The paper's Uniform Progress lets it be
spent no faster than work is done. Policy ``deadline`` keeps back what restarts are expected to need of it, and spends
the rest as soon as there is no capacity: an outage now is certain, one later is not. When restarts have eaten what
spot had saved it ends on on-demand, so that a run never costs noticeably more than on-demand alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Policy(str, Enum):
    """How a run chooses between the markets."""

    ON_DEMAND = "on-demand"
    """On-demand from the first second to the last."""
    SPOT = "spot"
    """Spot alone; without capacity it waits, whatever the deadline."""
    SPOT_THEN_ON_DEMAND = "spot-then-on-demand"
    """Spot as long as the deadline allows, then on-demand to the end."""
    UNIFORM_PROGRESS = "uniform-progress"
    """Spot where there is capacity; on-demand while the run is behind the straight line from start to deadline."""
    DEADLINE = "deadline"
    """Spot where there is capacity; without it waits while more time may be lost than restarts will need."""


class Move(str, Enum):
    """What to do until the next decision."""

    STAY = "stay"
    WAIT = "wait"
    """Have no machine."""
    SPOT = "spot"
    """Be on a spot machine of one of the pools that have capacity."""
    ON_DEMAND = "on-demand"


@dataclass(frozen=True)
class Job:
    """A run as it was asked for. All in seconds."""

    work: float
    """How long it takes on a machine that is not interrupted."""
    deadline: float
    """From the start until it must have ended."""
    restart: float
    """From a decision for another machine until the run makes progress on it: boot, image, restore."""
    tick: float
    """The longest time from one decision to the next."""
    between_interruptions: float = 2 * 3600.0
    """How long a spot machine lives on average, as far as was known before the run. Counts as one observation among the
    run's own. Hours are the cautious side: what is kept for restarts that do not come is lost, but little."""
    spot_price: float = 0.3
    """Of a spot machine, as a share of the price on demand."""


@dataclass(frozen=True)
class Standing:
    """A run at the moment of a decision. Times in seconds."""

    elapsed: float
    """Since the start."""
    done: float
    """Work that a further attempt does not have to repeat."""
    machine: Move | None = None
    """`Move.SPOT` or `Move.ON_DEMAND`: what it has now; ``None``: nothing."""
    spot_available: bool = True
    """Whether some pool has capacity, as far as is known."""
    on_spot: float = 0.0
    """For how long it has paid spot machines until now."""
    on_demand: float = 0.0
    """For how long it has paid on-demand machines until now."""
    interruptions: int = 0
    """How many of them were lost."""


def slack(job: Job, standing: Standing) -> float:
    """Seconds that may still be lost before the deadline is, on a machine that makes progress at once."""
    return (job.deadline - standing.elapsed) - (job.work - standing.done)


def reserve(job: Job, standing: Standing) -> float:
    """Seconds of the slack to keep for restarts: each expected interruption may cost one on spot and one back."""
    left = max(0.0, job.work - standing.done)
    lifetime = (job.between_interruptions + standing.on_spot) / (1 + standing.interruptions)
    return 2 * job.restart * left / lifetime


def may_spend(job: Job, standing: Standing) -> bool:
    """Whether another spot machine can be risked: if it is lost while it starts, and on-demand does the rest, the run
    costs no more than on-demand alone and one such attempt, of a restart on spot and one back.
    """
    paid = job.spot_price * standing.on_spot + standing.on_demand
    return paid <= standing.done + job.restart


def line(job: Job, elapsed: float) -> float:
    """How much work is done by then where the progress is uniform from the start to the deadline."""
    return min(job.work, job.work * elapsed / job.deadline)


def decide(policy: Policy, job: Job, standing: Standing) -> Move:
    """What to do until the next decision, at most ``job.tick`` later.

    With every policy but `Policy.SPOT` a run whose deadline can be kept from here keeps it, as long as on-demand
    machines are to be had and a restart takes no longer than ``job.restart``.
    """
    if policy is Policy.ON_DEMAND:
        return _or_stay(standing, Move.ON_DEMAND)
    cheap = Move.SPOT if standing.spot_available or standing.machine is Move.SPOT else Move.WAIT
    if policy is Policy.SPOT:
        return _or_stay(standing, cheap)
    # At the next decision there may be no machine and nothing done: then there must be time for on-demand.
    spare = slack(job, standing) - (job.restart + job.tick)
    if standing.machine is Move.SPOT:
        return Move.STAY if spare >= 0 else Move.ON_DEMAND
    if standing.machine is Move.ON_DEMAND:
        return _from_on_demand(policy, job, standing, spare)
    if policy is Policy.DEADLINE and not may_spend(job, standing):
        return Move.ON_DEMAND
    # A spot machine makes no progress while it starts.
    if spare < (job.restart if cheap is Move.SPOT else 0.0):
        return Move.ON_DEMAND
    if cheap is Move.SPOT or policy is Policy.SPOT_THEN_ON_DEMAND:
        return cheap
    if policy is Policy.UNIFORM_PROGRESS:
        return Move.ON_DEMAND if standing.done < line(job, standing.elapsed) else Move.WAIT
    return Move.WAIT if spare >= reserve(job, standing) else Move.ON_DEMAND


def _from_on_demand(policy: Policy, job: Job, standing: Standing, spare: float) -> Move:
    """Back to spot costs a restart now, and another when that machine is lost."""
    if policy is Policy.SPOT_THEN_ON_DEMAND or spare < job.restart:
        return Move.STAY
    if policy is Policy.UNIFORM_PROGRESS:
        ahead = standing.done - line(job, standing.elapsed + 2 * (job.restart + job.tick))
        if ahead < 0:
            return Move.STAY
        return Move.SPOT if standing.spot_available else Move.WAIT
    worth_it = job.work - standing.done > 2 * job.restart and may_spend(job, standing)
    return Move.SPOT if standing.spot_available and worth_it else Move.STAY


def _or_stay(standing: Standing, move: Move) -> Move:
    return Move.STAY if standing.machine is move else move
