"""Where a run with a deadline stands: what it has done, what is left, and what its policy makes of that. Pure.

Recovery decides by the same numbers that ``runs show`` shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runctl.agent.deadline import (
    Move,
    Policy,
    Standing,
    Why,
    Worked,
    decide_and_say,
    job_of,
    learned_work,
    on_demand_at,
    seconds_done,
    seconds_left,
    slack,
)
from runctl.agent.deadline_spec import ProgressStatus
from runctl.agent.end_reason import MACHINE_GONE
from runctl.core.machine_models import Market
from runctl.core.run_models import RunDeadline, RunProgress

if TYPE_CHECKING:
    from runctl.runs.records.run_record import KnownAttempt, RunRecord


def worked(attempt: KnownAttempt) -> Worked:
    """What an attempt says of the work."""
    restart = None
    if attempt.lead_seconds is not None and attempt.started_at is not None:
        restart = attempt.lead_seconds + (attempt.started_at - attempt.created_at).total_seconds()
    started = attempt.started_at.timestamp() if attempt.started_at is not None else None
    return Worked(started, attempt.checkpoint, attempt.resumed, attempt.progress, restart)


def restarts(attempts: Sequence[KnownAttempt]) -> list[float]:
    """Seconds from the request for each attempt's machine until its script began, where both are known."""
    return [found for each in attempts if (found := worked(each).restart) is not None]


def paid_seconds(attempt: KnownAttempt, now: datetime) -> float:
    """For how long its machine has been paid, until its end or ``now`` by the machine's clock."""
    until = attempt.ended_at or now
    return max((until - attempt.created_at).total_seconds(), 0.0) + (attempt.lead_seconds or 0.0)


def durable_seconds(record: RunRecord, attempts: Sequence[KnownAttempt], work: float) -> float:
    """`seconds_done` of a run; nothing where nobody but its machine has what it saved."""
    if record.saved_volume is None and record.store is None:
        return 0.0
    return seconds_done([worked(each) for each in attempts], work, published_only=record.saved_volume is None)


def interruptions_of(attempts: Sequence[KnownAttempt]) -> int:
    """Spot machines that were lost."""
    return sum(each.market == Market.SPOT.value and each.end_reason in MACHINE_GONE for each in attempts)


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


def learned_from(
    records: Iterable[RunRecord], project: str, script: str, args: Sequence[str]
) -> tuple[str, float] | None:
    """A run of the same script with the same arguments whose progress says how long it takes: its id, and seconds.
    ``records``, the newest first; ``None``: there is none. Pure."""
    for record in records:
        if (record.project, record.script, tuple(record.args)) != (project, script, tuple(args)):
            continue
        for progress in (record.progress, *(each.progress for each in reversed(record.past))):
            work = learned_work(None, progress)
            if work is not None:
                return str(record.id), work
    return None


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
    job = job_of(deadline, [worked(each) for each in attempts], now.timestamp(), elapsed)
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
        on_demand_at=datetime.fromtimestamp(round(on_demand_at(deadline, job, standing.done)), UTC),
        decision=str(record.market) if stays is None else stays.value,
        why=why.value,
    )


def why_moved(why: Why, market: Market) -> str:
    """What a run is told that is moved to a machine of that market."""
    return f"{market.value}, because {why.value}"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
