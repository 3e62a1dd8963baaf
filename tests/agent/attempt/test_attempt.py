"""How an attempt ends, by what its watchers have heard."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runctl.agent.attempt.attempt import Attempt
from runctl.agent.attempt.log import Log
from runctl.agent.end_reason import EndReason
from runctl.agent.interruption import RESERVE_SECONDS, Notice
from runctl.agent.records import AttemptFolder
from runctl.agent.spec import NOTICE_BY_SIGTERM, RunSpec

GRACE = 300.0


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attempt:
    """Of a run whose supervisor has got SIGTERM on a machine that has no other notice."""
    monkeypatch.setenv("RUNCTL_AGENT_STATE", str(tmp_path))
    folder = AttemptFolder(tmp_path / "runs" / "run-1" / "1")
    folder.path.mkdir(parents=True)
    children: Any = SimpleNamespace(terminated=True, wake=lambda: None, pause=lambda _: None)
    spec = RunSpec("run-1", "train.py", grace_seconds=GRACE, notice_by=NOTICE_BY_SIGTERM)
    return Attempt(folder, spec, Log(folder.log), children)


@pytest.mark.parametrize("publish", [0.0, 30.0, 200.0])
def test_a_script_keeps_its_grace_where_a_signal_is_the_notice_however_long_publishing_takes(
    attempt: Attempt, publish: float
) -> None:
    attempt.publish_seconds = lambda: publish

    first, second = attempt.shutdown(), attempt.shutdown()

    assert first is not None
    assert second is not None
    assert first.grace == second.grace == GRACE
    assert attempt.stop_request is not None
    assert attempt.stop_request.reason is EndReason.INTERRUPTED


def test_an_earlier_notice_after_such_a_signal_leaves_less(attempt: Attempt) -> None:
    attempt.shutdown()
    attempt.notices.interruption = Notice(time.time() + 60)

    shutdown = attempt.shutdown()

    assert shutdown is not None
    assert shutdown.grace <= 60 - RESERVE_SECONDS + shutdown.elapsed
    assert attempt.notice == attempt.notices.interruption
