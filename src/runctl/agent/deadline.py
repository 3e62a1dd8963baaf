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

from collections.abc import Iterable, Sequence
from enum import Enum

from runctl._dataclasses import dataclass
from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.deadline_spec import DeadlineSpec, ProgressStatus

BOOT_SECONDS = 180.0
"""From the request for a machine until its agent answers, before one has been measured."""
RESTORE_SECONDS = 120.0
"""From then until the script makes progress: the project, its environment or image, the checkpoint."""
LEAST_RESTART_SECONDS = 60.0
"""Both together, however quick the machines before were."""
MOST_RESTART_SECONDS = 3600.0
"""A measured restart that was longer was held up by something else, such as a computer that slept."""
WATCHER_SECONDS = 60.0
"""The longest time from one decision of a watcher to its next one."""
SCHEDULER_SECONDS = 120.0
"""A provider's scheduled action may come so late."""
LEASE_SECONDS = 185.0
"""So long after a machine has died unannounced, another one may take up its run."""
UNATTENDED_SECONDS = WATCHER_SECONDS + SCHEDULER_SECONDS + LEASE_SECONDS
"""What a run with no watcher keeps back in place of `WATCHER_SECONDS`: its own machine moves the action on."""
MEASURED_SECONDS = 10.0
"""Progress over a shorter time says nothing of the pace."""
TRUSTED_SECONDS = 600.0
"""When progress has been measured for so long, it alone counts; before, the estimate counts as well."""


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


class Why(str, Enum):
    """The reason of a decision, in words that follow "because"."""

    POLICY = "that is its policy"
    TIME = "time may still be lost"
    NO_TIME = "no more time may be lost"
    NO_CAPACITY = "there is no spot capacity, and there is time to wait for it"
    NO_OTHER = "there is no spot capacity"
    RESERVE = "there is no spot capacity, and the time that may be lost is kept for restarts"
    BEHIND = "it is behind the straight line to its deadline"
    SPENT = "more has been paid for than its checkpoints hold"
    UNKNOWN = "how long it takes is not known yet"
    NOT_WORTH_IT = "what is left is not worth another restart"


def decide(policy: Policy, job: Job, standing: Standing) -> Move:
    """What to do until the next decision, at most ``job.tick`` later.

    With every policy but `Policy.SPOT` a run whose deadline can be kept from here keeps it, as long as on-demand
    machines are available and a restart takes no longer than ``job.restart``.
    """
    return decide_and_say(policy, job, standing)[0]


def decide_and_say(policy: Policy, job: Job, standing: Standing) -> tuple[Move, Why]:
    """As `decide`, with the reason."""
    if policy is Policy.ON_DEMAND:
        return _or_stay(standing, Move.ON_DEMAND), Why.POLICY
    cheap = Move.SPOT if standing.spot_available or standing.machine is Move.SPOT else Move.WAIT
    if policy is Policy.SPOT:
        return _or_stay(standing, cheap), Why.POLICY
    # At the next decision there may be no machine and nothing done: then there must be time for on-demand.
    spare = slack(job, standing) - (job.restart + job.tick)
    if standing.machine is Move.SPOT:
        return (Move.STAY, Why.TIME) if spare >= 0 else (Move.ON_DEMAND, Why.NO_TIME)
    if standing.machine is Move.ON_DEMAND:
        return _from_on_demand(policy, job, standing, spare)
    if policy is Policy.DEADLINE and not may_spend(job, standing):
        return Move.ON_DEMAND, Why.SPENT
    # A spot machine makes no progress while it starts.
    if spare < (job.restart if cheap is Move.SPOT else 0.0):
        return Move.ON_DEMAND, Why.NO_TIME
    if cheap is Move.SPOT:
        return cheap, Why.TIME
    if policy is Policy.SPOT_THEN_ON_DEMAND:
        return cheap, Why.NO_CAPACITY
    if policy is Policy.UNIFORM_PROGRESS:
        behind = standing.done < line(job, standing.elapsed)
        return (Move.ON_DEMAND, Why.BEHIND) if behind else (Move.WAIT, Why.NO_CAPACITY)
    waits = spare >= reserve(job, standing)
    return (Move.WAIT, Why.NO_CAPACITY) if waits else (Move.ON_DEMAND, Why.RESERVE)


def _from_on_demand(policy: Policy, job: Job, standing: Standing, spare: float) -> tuple[Move, Why]:
    """Back to spot costs a restart now, and another when that machine is lost."""
    if policy is Policy.SPOT_THEN_ON_DEMAND:
        return Move.STAY, Why.POLICY
    if spare < job.restart:
        return Move.STAY, Why.NO_TIME
    if policy is Policy.UNIFORM_PROGRESS:
        ahead = standing.done - line(job, standing.elapsed + 2 * (job.restart + job.tick))
        if ahead < 0:
            return Move.STAY, Why.BEHIND
        return (Move.SPOT, Why.TIME) if standing.spot_available else (Move.WAIT, Why.NO_CAPACITY)
    if job.work - standing.done <= 2 * job.restart:
        return Move.STAY, Why.NOT_WORTH_IT
    if not may_spend(job, standing):
        return Move.STAY, Why.SPENT
    return (Move.SPOT, Why.TIME) if standing.spot_available else (Move.STAY, Why.NO_OTHER)


def _or_stay(standing: Standing, move: Move) -> Move:
    return Move.STAY if standing.machine is move else move


def last_moment(job: Job, standing: Standing) -> float:
    """Seconds since the start at which an on-demand machine must be asked for, if nothing more is done until then."""
    return job.deadline - (job.work - standing.done) - (job.restart + job.tick)


def patience(policy: Policy, job: Job, standing: Standing) -> float:
    """For how many seconds a run without a machine waits for spot capacity; infinite where nothing ends that."""
    if policy is Policy.ON_DEMAND:
        return 0.0
    if policy is Policy.SPOT:
        return float("inf")
    spare = slack(job, standing) - (job.restart + job.tick)
    if policy is Policy.DEADLINE:
        spare = spare - reserve(job, standing) if may_spend(job, standing) else 0.0
    elif policy is Policy.UNIFORM_PROGRESS:
        spare = min(spare, job.deadline * standing.done / job.work - standing.elapsed)
    return max(0.0, spare)


def pace(progress: ProgressStatus | None) -> float | None:
    """Steps a second in the attempt; ``None`` until that can be told."""
    if progress is None:
        return None
    seconds, steps = progress.seen_at - progress.first_seen_at, progress.step - progress.first_step
    return steps / seconds if seconds >= MEASURED_SECONDS and steps > 0 else None


def seconds_left(progress: ProgressStatus | None, now: float) -> float | None:
    """Until the last step, at the pace of the attempt; ``None`` until that can be told."""
    measured = pace(progress)
    if progress is None or progress.total is None or measured is None:
        return None
    return max(0.0, (progress.total - progress.step) / measured - max(0.0, now - progress.seen_at))


def learned_work(estimate: float | None, progress: ProgressStatus | None) -> float | None:
    """Seconds that all of the work takes, by the estimate and by the progress; ``None``: nothing says it yet."""
    measured = pace(progress)
    if progress is None or progress.total is None or measured is None:
        return estimate
    whole = progress.total / measured
    if estimate is None:
        return whole
    trust = min(1.0, (progress.seen_at - progress.first_seen_at) / TRUSTED_SECONDS)
    return trust * whole + (1 - trust) * estimate


def share_done(progress: ProgressStatus, at: float) -> float | None:
    """Which share of the work was done at that time of the attempt; ``None`` where the whole is not known."""
    if not progress.total:
        return None
    seconds = progress.seen_at - progress.first_seen_at
    passed = 1.0 if seconds <= 0 else min(1.0, max(0.0, (at - progress.first_seen_at) / seconds))
    step = progress.first_step + passed * (progress.step - progress.first_step)
    return min(1.0, max(0.0, step / progress.total))


def restart_seconds(measured: Iterable[float], known: float | None = None) -> float:
    """What a restart is taken to need: the longest one that was measured, else what was ``known`` before."""
    counted = [seconds for seconds in measured if 0 < seconds <= MOST_RESTART_SECONDS]
    if counted:
        return max(LEAST_RESTART_SECONDS, *counted)
    return known if known is not None else BOOT_SECONDS + RESTORE_SECONDS


@dataclass(frozen=True)
class Worked:
    """One attempt, as far as it says how much of the work is done. Times in seconds since the epoch."""

    started_at: float | None
    """When its script began; ``None``: it has not yet, or that is not known."""
    checkpoint: CheckpointStatus | None = None
    """Its newest complete one."""
    resumed: CheckpointStatus | None = None
    """What it went on from."""
    progress: ProgressStatus | None = None
    restart: float | None = None
    """Seconds from the request for its machine until its script began."""

    def done(self, base: float, at: float, work: float) -> float:
        """Seconds of the work that were done by then; ``base`` were when it began."""
        share = share_done(self.progress, at) if self.progress is not None else None
        return base + max(0.0, at - (self.started_at or at)) if share is None else share * work


def seconds_done(attempts: Sequence[Worked], work: float, *, published_only: bool) -> float:
    """Seconds of ``work`` that lie in the newest checkpoint from which another machine can go on.

    ``published_only``: what is on a machine's own disk alone ends with it.
    """
    begun: list[tuple[Worked, float, float]] = []
    done = 0.0

    def done_by(at: float) -> float:
        found = next(((each, base) for each, started, base in reversed(begun) if started <= at), None)
        return 0.0 if found is None else min(work, found[0].done(found[1], at, work))

    for attempt in attempts:
        if attempt.started_at is None:
            # What it goes on from is not known: most likely from what there was.
            continue
        done = done_by(attempt.resumed.saved_at) if attempt.resumed is not None else 0.0
        begun.append((attempt, attempt.started_at, done))
        newest = attempt.checkpoint
        if newest is None or not newest.path or (published_only and newest.published_at is None):
            continue
        if newest.saved_at >= attempt.started_at:
            done = max(done, done_by(newest.saved_at))
    return done


def job_of(deadline: DeadlineSpec, attempts: Sequence[Worked], now: float, elapsed: float) -> Job | None:
    """The run as the policy takes it, ``elapsed`` seconds after its start; ``None``: how long it takes is not known."""
    paced = (each.progress for each in reversed(attempts) if pace(each.progress) is not None)
    work = learned_work(deadline.estimate_seconds, next(paced, None))
    if work is None:
        return None
    measured = [each.restart for each in attempts if each.restart is not None]
    return Job(
        work=work,
        deadline=elapsed + deadline.ends_at - now,
        restart=restart_seconds(measured, deadline.restart_seconds),
        tick=tick_of(deadline),
        between_interruptions=deadline.between_interruptions,
        spot_price=deadline.spot_share,
    )


def tick_of(deadline: DeadlineSpec) -> float:
    """The longest time from one decision to the next."""
    return deadline.decided_within if deadline.decided_within is not None else WATCHER_SECONDS


def on_demand_at(deadline: DeadlineSpec, job: Job, done: float) -> float:
    """When an on-demand machine must be asked for if nothing more is done until then, in seconds since the epoch."""
    return deadline.ends_at - job.deadline + last_moment(job, Standing(0.0, done))
