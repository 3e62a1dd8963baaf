"""When the second group of a run with a deadline begins, by what the machine sees of the run's progress."""

from __future__ import annotations

import pytest

from runctl.agent.after_run import GroupEnd, MachineEnd
from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.deadline import BOOT_SECONDS, RESTORE_SECONDS, UNATTENDED_SECONDS, Worked
from runctl.agent.deadline_spec import DeadlineSpec, ProgressStatus
from runctl.agent.spec import AttemptStatus, RunSpec, RunState
from runctl.agent.supervising.on_demand import group_of, moment, next_action, worked

HOUR = 3600.0
ASKED = 1_000_000.0
DEADLINE = DeadlineSpec("deadline", ASKED, ASKED + 52 * HOUR, 48 * HOUR, decided_within=UNATTENDED_SECONDS)
GROUP = GroupEnd("first", "first", others=("second",), on_demand="second")
SPEC = RunSpec("run-1", "train.py", deadline=DEADLINE, machine_end=MachineEnd(group=GROUP))
MARGIN = BOOT_SECONDS + RESTORE_SECONDS + UNATTENDED_SECONDS


def saved(hours: float, *, published: bool = True) -> CheckpointStatus:
    at = ASKED + hours * HOUR
    return CheckpointStatus("/c/1.pt", at, published_at=at if published else None)


@pytest.mark.parametrize(
    ("attempts", "on_volume", "hours"),
    [
        ([Worked(None)], True, 4),
        ([Worked(ASKED + HOUR)], True, 4),
        # Three hours are done, and the moment is three hours later.
        ([Worked(ASKED + HOUR, saved(4))], True, 7),
        ([Worked(ASKED + HOUR, saved(4, published=False))], True, 7),
        ([Worked(ASKED + HOUR, saved(4, published=False))], False, 4),
        ([Worked(ASKED + HOUR, saved(4)), Worked(ASKED + 6 * HOUR, saved(8), saved(4))], False, 9),
    ],
)
def test_the_moment_is_the_last_one_that_still_suffices(
    attempts: list[Worked], on_volume: bool, hours: float
) -> None:
    found = moment(SPEC, attempts, ASKED + 8 * HOUR, on_volume=on_volume)
    assert found == pytest.approx(ASKED + hours * HOUR - MARGIN)


def test_a_run_that_turns_out_to_take_longer_goes_on_demand_earlier() -> None:
    # A hundredth in half an hour: it takes 50 hours.
    progress = ProgressStatus(1.0, 100.0, ASKED + 1.5 * HOUR, 0.0, ASKED + HOUR)
    attempt = Worked(ASKED + HOUR, progress=progress)
    found = moment(SPEC, [attempt], ASKED + 1.5 * HOUR, on_volume=True)
    assert found == pytest.approx(ASKED + 2 * HOUR - MARGIN)


def test_restarts_are_measured_from_the_machine_on() -> None:
    status = AttemptStatus("run-1", 1, RunState.RUNNING, created_at=100.0, started_at=700.0)
    assert worked(status) == Worked(700.0, restart=BOOT_SECONDS + 600.0)
    measured = moment(SPEC, [worked(status)], ASKED, on_volume=True)
    assert measured == pytest.approx(ASKED + 4 * HOUR - BOOT_SECONDS - 600.0 - UNATTENDED_SECONDS)


@pytest.mark.parametrize(
    ("wanted", "planned", "then"),
    [
        (5000.0, None, 5000.0),
        (5000.0, 5000.0, None),
        (5059.0, 5000.0, None),
        (5061.0, 5000.0, 5061.0),
        (4900.0, 5000.0, 4900.0),
        # It should have been: as soon as may be, and what is about to come is not put off.
        (500.0, 5000.0, 1020.0),
        (500.0, 1020.0, None),
        (500.0, 1005.0, None),
        (500.0, None, 1020.0),
    ],
)
def test_the_action_is_planned_anew_where_that_changes_something(
    wanted: float, planned: float | None, then: float | None
) -> None:
    assert next_action(wanted, planned, 1000.0) == then


def test_only_a_run_with_a_second_group_has_a_moment() -> None:
    assert group_of(SPEC) == GROUP
    assert group_of(None) is None
    assert group_of(RunSpec("run-1", "train.py", machine_end=MachineEnd(group=GroupEnd("first")))) is None
    assert moment(RunSpec("run-1", "train.py"), [], ASKED, on_volume=True) is None
