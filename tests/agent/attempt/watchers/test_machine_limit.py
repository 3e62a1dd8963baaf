"""A run is ended in time before its machine is, and one that hangs is ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from runctl.agent.attempt.watchers import machine_limit
from runctl.agent.attempt.watchers.interface import Watched
from runctl.agent.attempt.watchers.machine_limit import MachineLimit, lead_seconds
from runctl.agent.end_reason import EndReason
from runctl.agent.guard.daemon import STATUS
from runctl.agent.records import AttemptFolder
from runctl.agent.spec import RunSpec

SPEC = RunSpec("run-1", "train.py", grace_seconds=30.0, idle_seconds=1800.0)
LEAD = lead_seconds(30.0, 10.0)


class Run:
    """A run on a machine whose guard has found what the test says."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.now, self.asked = 10_000.0, 0
        self.lines: list[str] = []
        self._status = root / str(STATUS).lstrip("/")
        self._status.parent.mkdir(parents=True)
        self.folder = AttemptFolder(root / "run-1" / "1")
        self.folder.path.mkdir(parents=True)
        patch.setenv("RUNCTL_MACHINE_ROOT", str(root))
        patch.setattr(machine_limit, "now", lambda: self.now)
        patch.setattr(machine_limit, "POLL_SECONDS", 0.0)
        nothing = cast("Any", None)
        watched = Watched(
            *(self.folder, SPEC, nothing, nothing, lambda: 0.0, self.lines.append, nothing),
            *(lambda: 10.0, self._ask, nothing, nothing),
        )
        self.watcher = MachineLimit(watched)

    def _ask(self) -> bool:
        self.asked += 1
        return True

    def reason(self, **status: object) -> EndReason | None:
        """Why it ends now, by what the guard has found now."""
        self._status.write_text(json.dumps({"at": self.now, "busy_at": self.now, **status}))
        request = self.watcher.stop_request()
        return None if request is None else request.reason


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(tmp_path, monkeypatch)


@pytest.mark.parametrize("cause", [EndReason.TIME_LIMIT, EndReason.BUDGET])
def test_a_run_is_asked_for_a_checkpoint_and_then_ended_while_there_is_time_to_publish_it(
    run: Run, cause: EndReason
) -> None:
    def left(seconds: float) -> EndReason | None:
        return run.reason(cause=cause.value, ends_at=run.now + seconds)

    assert left(3600) is None
    assert run.asked == 0
    assert left(LEAD + 119) is None
    assert left(LEAD + 60) is None
    assert run.asked == 1
    assert left(3600) is None  # it was given more time
    assert left(LEAD + 100) is None
    assert run.asked == 2
    assert left(LEAD) is cause
    assert left(-5) is cause


def test_what_ends_only_the_machine_ends_no_run(run: Run) -> None:
    assert run.reason(cause="IDLE", ends_at=run.now - 5) is None
    assert run.reason(cause="UNUSED", ends_at=run.now - 5) is None
    assert run.reason(cause=None, ends_at=None) is None


def test_a_run_that_uses_nothing_and_writes_nothing_is_ended(run: Run) -> None:
    began = run.now
    assert run.reason() is None
    run.now = began + 1700
    run.folder.log.write_text("a line")
    assert run.reason(busy_at=began) is None
    run.now = began + 1700 + 1799
    assert run.reason(busy_at=began) is None
    run.now += 1
    assert run.reason(busy_at=run.now - 10) is None
    assert run.reason(busy_at=began) is EndReason.IDLE


def test_a_guard_that_looks_no_more_does_not_make_a_run_idle(run: Run) -> None:
    began = run.now
    assert run.reason() is None
    run.now = began + 7200
    assert run.reason(at=began, busy_at=began) is None
    run.now += 60
    assert run.reason(busy_at=began) is None
