"""``--wait`` over several attempts, of which some end before anybody can follow them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runctl.agent.spec import EndReason
from runctl.cli.runs import attempts
from runctl.core.errors import InstanceEnded, Unreachable
from runctl.core.run_models import RunPhase
from runctl.machines.machine import Machine
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


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("gone", [False, True])
def test_the_results_of_a_run_that_moved_and_ended_unseen_are_on_its_last_machine(
    monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    refused = [Unreachable("the provider does not answer"), Unreachable("nor now")]
    old = SimpleNamespace(instance=SimpleNamespace(id="i-0old"))
    over = replace(going(2), state=RunPhase.ENDED, ended_at=T0, end_reason=EndReason.COMPLETED, exit_code=0)

    def asked(record: RunRecord) -> str:
        if refused:
            raise refused.pop()
        if gone:
            raise InstanceEnded("the provider took it back")
        return f"the machine of {record.attempt}"

    machines(monkeypatch, asked)
    monkeypatch.setattr(attempts, "show_log", lambda *_, **__: 7)
    monkeypatch.setattr(attempts, "DeadlineWatch", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(attempts, "refresh", lambda _, records: [over])
    cli: Any = SimpleNamespace(session=None, store=SimpleNamespace(get=lambda _: going(2)))

    code, machine, record = attempts.follow_attempts(cli, cast("Machine", old), going(1), emits=False)

    assert (code, record) == (0, over)
    assert machine == (old if gone else "the machine of 2")
