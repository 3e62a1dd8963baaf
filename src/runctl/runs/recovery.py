"""What follows when an attempt has ended: another one, where and on which market, or none, and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from runctl._dataclasses import dataclass
from runctl.agent.deadline import Job, Move, Policy, Standing, Why, decide, decide_and_say
from runctl.agent.end_reason import MACHINE_GONE, RETRIED, EndReason
from runctl.core.text import exact_span


@dataclass(frozen=True)
class PastAttempt:
    """An attempt that has ended. Times in seconds since the run's start."""

    reason: EndReason
    market: Literal["spot", "on-demand"]
    pool: str
    """The type and zone of its machine, or of the one that it did not get."""
    ended_at: float
    paid: float = 0.0
    """For how long its machine was paid."""


@dataclass(frozen=True)
class Deadline:
    """By when the run must have ended, and how."""

    policy: Policy
    job: Job | None
    """``None``: how long the run takes is not known. It stays where it is, and takes no further risk after that."""


@dataclass(frozen=True)
class RecoveryRules:
    """What whoever started the run allows."""

    max_attempts: int
    """In all, the first included."""
    retry_within: float
    """Seconds after a machine was looked for first in which one must be found."""
    on_demand_after: float | None = None
    """Seconds without spot capacity after which on-demand is allowed; ``None``: never."""
    deadline: Deadline | None = None
    """Decides in place of `on_demand_after`: whoever sets one has agreed to on-demand where it needs that."""


DEFAULT_RULES = RecoveryRules(max_attempts=20, retry_within=3600.0)


@dataclass(frozen=True)
class Recovery:
    """What whoever starts a run says of its further attempts."""

    auto_resume: bool = False
    """Whoever waits for the run, or watches all runs, starts them."""
    rules: RecoveryRules = DEFAULT_RULES


@dataclass(frozen=True)
class Progress:
    """Where the run is now. Times in seconds."""

    elapsed: float
    """Since the run's start."""
    done: float
    """Work that lies in verified checkpoints."""
    pools_with_capacity: tuple[str, ...]
    """As far as is known, in the order in which they are preferred."""
    on_demand_available: bool = True
    """As far as is known: late is better than never, so that spot is taken where there is nothing else."""
    search_began: float | None = None
    """Since the run's start; ``None``: as the last attempt ended."""

    def searched(self, last: PastAttempt) -> float:
        """For how long a machine has been looked for, after the last attempt."""
        began = last.ended_at if self.search_began is None else max(self.search_began, last.ended_at)
        return self.elapsed - began


@dataclass(frozen=True)
class NextAttempt:
    """Rent this, and carry on."""

    market: Literal["spot", "on-demand"]
    pool: str | None
    """``None``: on-demand takes any."""


@dataclass(frozen=True)
class Wait:
    """Nothing can be had now: ask again at the next look at the capacity."""


@dataclass(frozen=True)
class GiveUp:
    """The run has ended."""

    why: str
    """A sentence's rest, for a person, after the run's id."""


def decide_next(
    attempts: Sequence[PastAttempt], rules: RecoveryRules, progress: Progress
) -> NextAttempt | Wait | GiveUp:
    """What follows the last of the attempts. Raises `ValueError` where there is none."""
    if not attempts:
        raise ValueError("no attempt has ended")
    last = attempts[-1]
    if last.reason not in RETRIED:
        return GiveUp(f"ended as {last.reason.value}, which another machine does not change")
    if len(attempts) >= rules.max_attempts:
        return GiveUp(f"has had {len(attempts)} of {rules.max_attempts} attempts")
    searched = progress.searched(last)
    if rules.deadline is not None:
        market = _by_deadline(rules.deadline, attempts, progress)
    elif progress.pools_with_capacity:
        market = Move.SPOT
    elif rules.on_demand_after is not None and searched >= rules.on_demand_after:
        market = Move.ON_DEMAND
    else:
        market = Move.WAIT
    if market is Move.ON_DEMAND:
        return NextAttempt("on-demand", None)
    if market is Move.SPOT:
        return NextAttempt("spot", _best(attempts, progress.pools_with_capacity))
    waits_for_deadline = rules.deadline is not None and rules.deadline.policy is not Policy.SPOT
    if searched > rules.retry_within and not waits_for_deadline:
        within = exact_span(rules.retry_within)
        return GiveUp(f"found no machine within {within}; runctl runs recover tries again")
    return Wait()


@dataclass(frozen=True)
class Going:
    """The attempt that goes on."""

    market: Literal["spot", "on-demand"]
    paid: float
    """Seconds for which its machine has been paid until now."""


def decide_move(
    attempts: Sequence[PastAttempt], going: Going, deadline: Deadline, progress: Progress
) -> tuple[Move, Why]:
    """Whether the run is to leave the machine that it is on, and why; ``attempts`` are those before.

    It never leaves a machine to wait without one: that machine makes progress.
    """
    if deadline.job is None:
        return Move.STAY, Why.UNKNOWN
    machine = Move(going.market)
    standing = _standing(attempts, progress, going, machine)
    move, why = decide_and_say(deadline.policy, deadline.job, standing)
    return (Move.STAY if move in (machine, Move.WAIT) else move), why


def _by_deadline(deadline: Deadline, attempts: Sequence[PastAttempt], progress: Progress) -> Move:
    if deadline.job is not None:
        move = decide(deadline.policy, deadline.job, _standing(attempts, progress))
    else:
        move = Move.SPOT if deadline.policy is Policy.SPOT else Move.ON_DEMAND
    if move is Move.ON_DEMAND and not progress.on_demand_available:
        move = Move.SPOT
    return Move.WAIT if move is Move.SPOT and not progress.pools_with_capacity else move


def _standing(
    attempts: Sequence[PastAttempt],
    progress: Progress,
    going: Going | None = None,
    machine: Move | None = None,
) -> Standing:
    def paid(market: str) -> float:
        now = going.paid if going is not None and going.market == market else 0.0
        return now + sum(attempt.paid for attempt in attempts if attempt.market == market)

    return Standing(
        elapsed=progress.elapsed,
        done=progress.done,
        machine=machine,
        spot_available=bool(progress.pools_with_capacity),
        on_spot=paid("spot"),
        on_demand=paid("on-demand"),
        interruptions=sum(each.market == "spot" and each.reason in MACHINE_GONE for each in attempts),
    )


def _best(attempts: Sequence[PastAttempt], pools: Sequence[str]) -> str:
    """The pool that has not failed, or that failed longest ago; among equals the preferred one."""
    failed = {attempt.pool: number for number, attempt in enumerate(attempts)}
    return min(pools, key=lambda pool: failed.get(pool, -1))
