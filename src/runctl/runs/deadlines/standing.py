"""Where a run with a deadline stands: what it has done, what is left, and what its policy makes of that. Pure.

Recovery decides by the same numbers that ``runs show`` shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from runctl.agent.deadline import (
    WATCHER_SECONDS,
    Job,
    Move,
    Policy,
    Standing,
    Why,
    decide_and_say,
    last_moment,
    learned_work,
    pace,
    restart_seconds,
    seconds_left,
    share_done,
    slack,
)
from runctl.agent.deadline_spec import DeadlineSpec, ProgressStatus
from runctl.agent.spec import EndReason
from runctl.core.models import Market, RunDeadline, RunProgress

if TYPE_CHECKING:
    from runctl.runs.records import KnownAttempt, RunRecord


def known_progress(attempts: Sequence[KnownAttempt]) -> ProgressStatus | None:
    """That of the last attempt whose pace is known."""
    return next((each.progress for each in reversed(attempts) if pace(each.progress) is not None), None)


def paid_seconds(attempt: KnownAttempt, now: datetime) -> float:
    """For how long its machine has been paid, until its end or ``now`` by the machine's clock."""
    until = attempt.ended_at or now
    return max((until - attempt.created_at).total_seconds(), 0.0) + (attempt.lead_seconds or 0.0)


def restarts(attempts: Sequence[KnownAttempt]) -> list[float]:
    """Seconds from the request for each attempt's machine until its script began, where both are known."""
    return [
        each.lead_seconds + (each.started_at - each.created_at).total_seconds()
        for each in attempts
        if each.lead_seconds is not None and each.started_at is not None
    ]


@dataclass(frozen=True)
class _Span:
    """The work of one attempt. Times in seconds since the epoch."""

    started: float
    base: float
    """Seconds of the work that were done when it started."""
    progress: ProgressStatus | None

    def done(self, at: float, work: float) -> float:
        """Seconds of the work that were done by then."""
        share = share_done(self.progress, at) if self.progress is not None else None
        return self.base + max(0.0, at - self.started) if share is None else share * work


def seconds_done(attempts: Sequence[KnownAttempt], work: float, *, published_only: bool) -> float:
    """Seconds of ``work`` that lie in the newest checkpoint from which another machine can go on.

    ``published_only``: what is on a machine's own disk alone ends with it.
    """
    spans: list[_Span] = []
    done = 0.0

    def done_by(at: float) -> float:
        span = next((each for each in reversed(spans) if each.started <= at), None)
        return 0.0 if span is None else min(work, span.done(at, work))

    for attempt in attempts:
        if attempt.started_at is None:
            # What it goes on from is not known: most likely from what there was.
            continue
        done = done_by(attempt.resumed.saved_at) if attempt.resumed is not None else 0.0
        spans.append(_Span(attempt.started_at.timestamp(), done, attempt.progress))
        newest = attempt.checkpoint
        if newest is None or not newest.path or (published_only and newest.published_at is None):
            continue
        if newest.saved_at >= attempt.started_at.timestamp():
            done = max(done, done_by(newest.saved_at))
    return done


def job_of(
    deadline: DeadlineSpec, attempts: Sequence[KnownAttempt], now: datetime, elapsed: float
) -> Job | None:
    """The run as the policy takes it, ``elapsed`` seconds after its start; ``None``: how long it takes is not known."""
    work = learned_work(deadline.estimate_seconds, known_progress(attempts))
    if work is None:
        return None
    return Job(
        work=work,
        deadline=elapsed + deadline.ends_at - now.timestamp(),
        restart=restart_seconds(restarts(attempts), deadline.restart_seconds),
        tick=WATCHER_SECONDS,
        between_interruptions=deadline.between_interruptions,
        spot_price=deadline.spot_share,
    )


def durable_seconds(record: RunRecord, attempts: Sequence[KnownAttempt], work: float) -> float:
    """`seconds_done` of a run; nothing where nobody but its machine has what it saved."""
    if record.saved_volume is None and record.store is None:
        return 0.0
    return seconds_done(attempts, work, published_only=record.saved_volume is None)


def interruptions_of(attempts: Sequence[KnownAttempt]) -> int:
    """Spot machines that were lost."""
    lost = {EndReason.INTERRUPTED, EndReason.LOST}
    return sum(each.market == Market.SPOT.value and each.end_reason in lost for each in attempts)


def standing_of(
    record: RunRecord,
    attempts: Sequence[KnownAttempt],
    work: float,
    now: datetime,
    elapsed: float,
    *,
    spot_available: bool,
) -> Standing:
    """The run at this moment; ``attempts`` are all of them, the one that goes on among them."""
    there = record.by_its_clock(now)

    def paid(market: Market) -> float:
        return sum(paid_seconds(each, there) for each in attempts if each.market == market.value)

    machine = None
    if not record.has_ended:
        machine = Move.SPOT if record.market == Market.SPOT.value else Move.ON_DEMAND
    return Standing(
        elapsed=elapsed,
        done=durable_seconds(record, attempts, work),
        machine=machine,
        spot_available=spot_available,
        on_spot=paid(Market.SPOT),
        on_demand=paid(Market.ON_DEMAND),
        interruptions=interruptions_of(attempts),
    )


def shown_progress(progress: ProgressStatus | None, there: datetime, *, ended: bool) -> RunProgress | None:
    """As the JSON contract shows it; ``there`` is now by the machine's clock."""
    if progress is None:
        return None
    return RunProgress(
        step=progress.step,
        total=progress.total,
        seen_at=datetime.fromtimestamp(progress.seen_at, UTC),
        done=round(min(1.0, progress.step / progress.total), 4) if progress.total else None,
        seconds_left=None if ended else _rounded(seconds_left(progress, there.timestamp())),
    )


def shown_deadline(
    record: RunRecord, attempts: Sequence[KnownAttempt], now: datetime, *, is_over: bool
) -> RunDeadline | None:
    """As the JSON contract shows it; ``is_over``: the run has ended for good."""
    deadline = record.deadline
    if deadline is None:
        return None
    elapsed = now.timestamp() - deadline.asked_at
    shown = RunDeadline(
        policy=deadline.policy,
        ends_at=datetime.fromtimestamp(deadline.ends_at, UTC),
        estimate_seconds=deadline.estimate_seconds,
        work_seconds=None,
        done_seconds=0.0,
        slack_seconds=None,
        on_demand_at=None,
        decision="ended",
        why="",
    )
    job = job_of(deadline, attempts, now, elapsed)
    if job is None:
        there = str(record.market) if not record.has_ended else Move.ON_DEMAND.value
        return shown if is_over else replace(shown, decision=there, why=Why.UNKNOWN.value)
    standing = standing_of(record, attempts, job.work, now, elapsed, spot_available=True)
    shown = replace(shown, work_seconds=round(job.work, 1), done_seconds=round(standing.done, 1))
    if is_over:
        return shown
    move, why = decide_and_say(Policy(deadline.policy), job, standing)
    stays = standing.machine if move is Move.STAY else move
    return replace(
        shown,
        slack_seconds=round(slack(job, standing), 1),
        on_demand_at=on_demand_at(deadline, job, standing),
        decision=str(record.market) if stays is None else stays.value,
        why=why.value,
    )


def on_demand_at(deadline: DeadlineSpec, job: Job, standing: Standing) -> datetime:
    """When an on-demand machine must be asked for if nothing more is done until then."""
    before_end = job.deadline - last_moment(job, standing)
    return datetime.fromtimestamp(deadline.ends_at, UTC) - timedelta(seconds=round(before_end))


def why_moved(why: Why, market: Market) -> str:
    """What a run is told that is moved to a machine of that market."""
    return f"{market.value}, because {why.value}"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
