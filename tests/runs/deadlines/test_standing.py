"""What a run has done, by its checkpoints and its progress, and what its policy makes of that."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.deadline import BOOT_SECONDS, RESTORE_SECONDS, WATCHER_SECONDS, seconds_done
from runctl.agent.deadline_spec import DeadlineSpec, ProgressStatus
from runctl.agent.end_reason import EndReason
from runctl.core.ids import VolumeId
from runctl.core.run_models import RunPhase
from runctl.runs.deadlines.standing import learned_from, paid_seconds, restarts, worked
from runctl.runs.records.run_record import KnownAttempt, RunRecord, as_known
from runctl.runs.records.shown_run import as_run
from tests.runs.sample_runs import T0, a_run

HOUR = 3600.0
START = T0.timestamp()
DEADLINE = DeadlineSpec("deadline", START, START + 52 * HOUR, 48 * HOUR)


def saved(hours: float, *, published: bool = True) -> CheckpointStatus:
    at = START + hours * HOUR
    return CheckpointStatus("/c/step.pt", at, published_at=at if published else None)


def an_attempt(hours: float, until: float | None = None, **changes: object) -> KnownAttempt:
    """Its script has run from so many hours after the start."""
    ended = None if until is None else T0 + timedelta(hours=until)
    record = a_run(
        started_at=T0 + timedelta(hours=hours), created_at=T0 + timedelta(hours=hours), ended_at=ended
    )
    return replace(as_known(record), **changes)  # type: ignore[arg-type]


FIRST = an_attempt(1, 5, checkpoint=saved(4))


@pytest.mark.parametrize(
    ("attempts", "hours"),
    [
        ([], 0),
        ([an_attempt(1)], 0),
        ([FIRST], 3),
        ([replace(FIRST, checkpoint=CheckpointStatus("", 0.0, trouble="denied"))], 0),
        ([replace(FIRST, checkpoint=saved(4, published=False))], 0),
        # What the second one begins with is what the first one had saved, until it has saved more.
        ([FIRST, an_attempt(6, resumed=saved(4))], 3),
        ([FIRST, an_attempt(6, resumed=saved(4), checkpoint=saved(8))], 5),
        ([FIRST, an_attempt(6, resumed=saved(4), checkpoint=saved(4))], 3),
        # The newest was broken: it went on from one before.
        ([FIRST, an_attempt(6, resumed=saved(2), checkpoint=saved(8))], 3),
        # It began anew.
        ([FIRST, an_attempt(6, checkpoint=saved(7))], 1),
        # It has not begun: what there was is there still.
        ([FIRST, an_attempt(6, started_at=None)], 3),
        # No more than all of it.
        ([replace(FIRST, checkpoint=saved(100))], 48),
    ],
)
def test_done_is_what_another_machine_can_go_on_from(attempts: list[KnownAttempt], hours: float) -> None:
    assert seconds_done([worked(each) for each in attempts], 48 * HOUR, published_only=True) == hours * HOUR


def test_progress_says_how_much_a_checkpoint_holds() -> None:
    # A quarter in two hours; the checkpoint is of the first of them.
    progress = ProgressStatus(250.0, 1000.0, START + 3 * HOUR, 0.0, START + 1 * HOUR)
    attempt = an_attempt(1, checkpoint=saved(2), progress=progress)
    assert seconds_done([worked(attempt)], 8 * HOUR, published_only=True) == 1 * HOUR
    # It had gone on from the half: what it counts is of the whole.
    later = replace(progress, first_step=500.0, step=750.0)
    attempt = replace(attempt, progress=later)
    assert seconds_done([worked(attempt)], 8 * HOUR, published_only=True) == 0.625 * 8 * HOUR


def a_running(**changes: object) -> RunRecord:
    values = {"market": "spot", "started_at": T0, "deadline": DEADLINE, "store": "s3://mine/runs"}
    return a_run(**{**values, **changes})  # type: ignore[arg-type]


MARGIN = BOOT_SECONDS + RESTORE_SECONDS + WATCHER_SECONDS


def shown(record: RunRecord, hours: float) -> tuple[str, str, float | None, float]:
    deadline = as_run(record, T0 + timedelta(hours=hours)).deadline
    assert deadline is not None
    return deadline.decision, deadline.why, deadline.slack_seconds, deadline.done_seconds


@pytest.mark.parametrize(
    ("record", "hours", "decision", "why", "slack", "done"),
    [
        (a_running(), 1, "spot", "time may still be lost", 3, 0),
        (a_running(checkpoint=saved(5)), 6, "spot", "time may still be lost", 3, 5),
        (a_running(), 3.95, "on-demand", "no more time may be lost", 0.05, 0),
        # What its own disk has ends with the machine.
        (a_running(store=None, checkpoint=saved(5)), 6, "on-demand", "no more time may be lost", -2, 0),
        (
            a_running(store=None, saved_volume=VolumeId("vol-1"), checkpoint=saved(5)),
            6,
            "spot",
            "time may still be lost",
            3,
            5,
        ),
        (a_running(market="on-demand", checkpoint=saved(2)), 2, "spot", "time may still be lost", 4, 2),
        (
            a_running(market="on-demand", checkpoint=saved(1)),
            2,
            "on-demand",
            "more has been paid for than its checkpoints hold",
            3,
            1,
        ),
        (
            a_running(
                state=RunPhase.ENDED,
                end_reason=EndReason.INTERRUPTED,
                ended_at=T0 + timedelta(hours=1),
                checkpoint=saved(1),
            ),
            1,
            "spot",
            "time may still be lost",
            4,
            1,
        ),
        # It was paid for an hour of which nothing is left: no run costs more than on-demand and one lost attempt.
        (
            a_running(
                state=RunPhase.ENDED, end_reason=EndReason.INTERRUPTED, ended_at=T0 + timedelta(hours=1)
            ),
            1,
            "on-demand",
            "more has been paid for than its checkpoints hold",
            3,
            0,
        ),
        (
            a_running(deadline=replace(DEADLINE, estimate_seconds=None)),
            1,
            "spot",
            "how long it takes is not known yet",
            None,
            0,
        ),
        (
            a_running(
                deadline=replace(DEADLINE, estimate_seconds=None),
                progress=ProgressStatus(10.0, 500.0, START + HOUR, 0.0, START),
            ),
            1,
            "spot",
            "time may still be lost",
            1,
            0,
        ),
        (
            a_running(state=RunPhase.ENDED, end_reason=EndReason.COMPLETED, ended_at=T0 + timedelta(hours=1)),
            1,
            "ended",
            "",
            None,
            0,
        ),
    ],
)
def test_a_run_shows_what_its_policy_decides(
    record: RunRecord, hours: float, decision: str, why: str, slack: float | None, done: float
) -> None:
    expected = None if slack is None else pytest.approx(slack * HOUR, abs=1)
    assert shown(record, hours) == (decision, why, expected, done * HOUR)


def test_the_latest_moment_leaves_the_margin() -> None:
    deadline = as_run(a_running(), T0 + timedelta(hours=1)).deadline
    assert deadline is not None
    assert deadline.on_demand_at == T0 + timedelta(hours=4, seconds=-MARGIN)


def test_restarts_are_measured_from_the_request_to_the_script() -> None:
    one = an_attempt(2, 3, lead_seconds=90.0)
    one = replace(one, created_at=one.created_at - timedelta(seconds=30))
    assert restarts([one, an_attempt(4)]) == [120.0]
    assert paid_seconds(one, T0) == HOUR + 120
    assert paid_seconds(replace(one, ended_at=None), T0 + timedelta(hours=2, seconds=60)) == 180


def test_progress_is_shown_with_the_time_that_is_left() -> None:
    progress = ProgressStatus(250.0, 1000.0, START + 100, 50.0, START)
    run = as_run(a_running(progress=progress), T0 + timedelta(seconds=110))
    assert run.progress is not None
    assert (run.progress.done, run.progress.seconds_left) == (0.25, 365.0)
    assert as_run(a_running(progress=replace(progress, total=None)), T0).progress == replace(
        run.progress, total=None, done=None, seconds_left=None
    )


def test_the_progress_of_the_newest_run_that_did_the_same_says_how_long_it_takes() -> None:
    def progress(steps: int) -> ProgressStatus:
        return ProgressStatus(step=steps, total=1000, seen_at=START + 100, first_step=0, first_seen_at=START)

    silent, other = a_run(args=("1000",)), a_run(args=("5",), progress=progress(500))
    interrupted = a_run(args=("1000",), past=(replace(as_known(silent), progress=progress(100)),))
    done = (interrupted.project, interrupted.script, ("1000",))
    assert learned_from([silent, other, interrupted], *done) == (interrupted.id, 1000)
    newer = a_run(args=("1000",), progress=progress(200))
    assert learned_from([newer, interrupted], *done) == (newer.id, 500)
    assert learned_from([silent, other], *done) is None
    assert learned_from([newer], "another project", *done[1:]) is None
