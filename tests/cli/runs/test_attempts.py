"""``--wait`` over several attempts, of which some end before anybody can follow them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runctl.agent.end_reason import EndReason
from runctl.cli.runs import attempts
from runctl.core.errors import Conflict, InstanceEnded, ProviderError, RunctlError, Unreachable
from runctl.core.run_models import RunPhase
from runctl.machines.machine import Machine
from runctl.runs.records.run_record import RunRecord
from runctl.runs.recovering.outcome import Outcome, Recovered, StoreAway
from runctl.testing.clock import ManualClock
from runctl.testing.progress import RecordedProgress
from tests.runs.sample_runs import T0, a_run

CLI: Any = SimpleNamespace(session=None)
THROTTLED = ProviderError("slow down", code="throttled")
WAITING: Any = SimpleNamespace(session=SimpleNamespace(database=None), progress=RecordedProgress())


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


@pytest.mark.parametrize("error", [Unreachable("it does not answer"), THROTTLED])
def test_a_machine_of_which_nobody_says_that_it_has_ended_is_waited_for_and_then_told(
    monkeypatch: pytest.MonkeyPatch, clock: ManualClock, error: RunctlError
) -> None:
    def asked(record: RunRecord) -> str:
        raise error

    machines(monkeypatch, asked)
    monkeypatch.setattr(attempts, "refresh", lambda _, records: [going(2)])
    began = clock.monotonic()

    with pytest.raises(type(error)) as told:
        attempts.reached(CLI, going(2))

    assert told.value is error
    assert clock.monotonic() - began == pytest.approx(attempts.PATIENCE_SECONDS, abs=3)


def test_what_time_does_not_mend_is_told_at_once(monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    refused = ProviderError("it may not")

    def asked(record: RunRecord) -> str:
        raise refused

    machines(monkeypatch, asked)
    answers(monkeypatch, refused)
    began = clock.monotonic()

    with pytest.raises(ProviderError):
        attempts.reached(CLI, going(2))
    with pytest.raises(ProviderError):
        attempts.recovered(WAITING, taken_back(2))

    assert clock.monotonic() == began


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    "gone", [None, InstanceEnded("the provider took it back"), Conflict("it is stopped", code="not-running")]
)
def test_the_results_of_a_run_that_moved_and_ended_unseen_are_on_its_last_machine(
    monkeypatch: pytest.MonkeyPatch, gone: RunctlError | None
) -> None:
    refused = [Unreachable("the provider does not answer"), THROTTLED]
    old = SimpleNamespace(instance=SimpleNamespace(id="i-0old"))
    over = replace(going(2), state=RunPhase.ENDED, ended_at=T0, end_reason=EndReason.COMPLETED, exit_code=0)

    def asked(record: RunRecord) -> str:
        if refused:
            raise refused.pop()
        if gone is not None:
            raise gone
        return f"the machine of {record.attempt}"

    machines(monkeypatch, asked)
    monkeypatch.setattr(attempts, "show_log", lambda *_, **__: 7)
    monkeypatch.setattr(attempts, "DeadlineWatch", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(attempts, "refresh", lambda _, records: [over])
    cli: Any = SimpleNamespace(session=None, store=SimpleNamespace(get=lambda _: going(2)))

    code, machine, record = attempts.follow_attempts(cli, cast("Machine", old), going(1), emits=False)

    assert (code, record) == (0, over)
    assert machine == ("the machine of 2" if gone is None else old)


def answers(monkeypatch: pytest.MonkeyPatch, *told: Recovered | RunctlError) -> None:
    """What recovering the run comes to, one call after the other; the last one again and again."""
    left = list(told)

    def recover_run(*_: object, **__: object) -> Recovered:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, RunctlError):
            raise answer
        return answer

    recipes = SimpleNamespace(find=lambda _: SimpleNamespace(auto_resume=True))
    monkeypatch.setattr("runctl.runs.recovering.recover.recover_run", recover_run)
    monkeypatch.setattr("runctl.runs.stored.recipe.Recipes", lambda _: recipes)


def test_a_store_or_a_provider_that_does_not_answer_for_a_while_ends_no_waiting(
    monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    away, refused = StoreAway("the store does not answer"), Unreachable("nor does EC2")
    # The machines that were ready have been given back.
    away.rented_on = "spot"
    started = Recovered(going(3), Outcome.STARTED, "goes on as attempt 3")
    answers(monkeypatch, away, away, refused, THROTTLED, started)
    cli: Any = SimpleNamespace(session=SimpleNamespace(database=None), progress=RecordedProgress())
    following = attempts.recovered(cli, taken_back(2))
    assert following is not None
    assert following.attempt == 3
    assert [text.partition("; ")[0] for text in cli.progress.warnings] == [
        f"{a_run().id}: the store does not answer",
        f"{a_run().id}: nor does EC2",
        f"{a_run().id}: slow down",
    ]


def test_one_that_never_answers_again_and_what_was_paid_for_in_vain_are_told(
    monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    cli: Any = SimpleNamespace(session=SimpleNamespace(database=None), progress=RecordedProgress())
    answers(monkeypatch, Unreachable("it does not answer"))
    began = clock.monotonic()
    with pytest.raises(Unreachable):
        attempts.recovered(cli, taken_back(2))
    assert clock.monotonic() - began == pytest.approx(attempts.OUT_OF_REACH_SECONDS, abs=3)
    in_vain = Unreachable("the machine does not answer")
    in_vain.rented_on = "spot"
    answers(monkeypatch, in_vain)
    began = clock.monotonic()
    with pytest.raises(Unreachable):
        attempts.recovered(cli, taken_back(2))
    assert clock.monotonic() == began
