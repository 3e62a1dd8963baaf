"""``--wait`` over several attempts, of which some end before anybody can follow them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from runctl.agent.spec import EndReason
from runctl.cli.runs import attempts
from runctl.core.errors import InstanceEnded, Unreachable
from runctl.core.run_models import RunPhase
from runctl.runs.records.run_record import RunRecord
from runctl.testing.clock import ManualClock
from tests.runs.sample_runs import T0, a_run

CLI: Any = SimpleNamespace(session=None)


def going(attempt: int) -> RunRecord:
    return replace(a_run(), attempt=attempt, state=RunPhase.RUNNING)


def taken_back(attempt: int) -> RunRecord:
    return replace(going(attempt), state=RunPhase.ENDED, ended_at=T0, end_reason=EndReason.INTERRUPTED)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    clock = ManualClock()
    monkeypatch.setattr(attempts, "SystemClock", lambda: clock)
    return clock


def machines(monkeypatch: pytest.MonkeyPatch, asked: Callable[[RunRecord], Any]) -> None:
    monkeypatch.setattr(attempts, "machine_of", lambda _, record: asked(record))


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("more", [True, False])
def test_an_attempt_that_is_taken_back_before_it_is_heard_of_is_followed_by_the_next(
    monkeypatch: pytest.MonkeyPatch, more: bool
) -> None:
    def asked(record: RunRecord) -> str:
        if record.attempt == 2:
            raise InstanceEnded("the provider took it back", interrupted=True)
        return f"the machine of {record.attempt}"

    machines(monkeypatch, asked)
    monkeypatch.setattr(attempts, "refresh", lambda _, records: [taken_back(records[0].attempt)])
    monkeypatch.setattr(attempts, "recovered", lambda _, record: going(record.attempt + 1) if more else None)

    machine, record = attempts.reached(CLI, going(2))

    assert (machine, record.attempt) == (("the machine of 3", 3) if more else (None, 2))
    assert record.has_ended is not more


def test_a_machine_of_which_nobody_says_that_it_has_ended_is_waited_for_and_then_told(
    monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    def asked(record: RunRecord) -> str:
        raise Unreachable("it does not answer")

    machines(monkeypatch, asked)
    monkeypatch.setattr(attempts, "refresh", lambda _, records: [going(2)])
    began = clock.monotonic()

    with pytest.raises(Unreachable):
        attempts.reached(CLI, going(2))

    assert clock.monotonic() - began == pytest.approx(attempts.PATIENCE_SECONDS, abs=3)
