"""Runs that are watched until they have ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from runctl.agent.spec import EndReason
from runctl.core.errors import CapacityError, Interrupted, MachineError, RunctlError, Unreachable
from runctl.core.progress import SILENT
from runctl.core.run_models import RunPhase
from runctl.runs.records.run_record import RunRecord
from runctl.runs.recovering import watching
from runctl.runs.recovering.recover import BeingRecovered, Outcome, Recovered
from runctl.runs.recovering.watching import DeadlineWatch, Pauses, counts, goes_on, pause_after
from runctl.testing.clock import ManualClock
from tests.runs.sample_runs import a_run


def test_whoever_stops_watching_is_told_how_to_watch_the_same_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def recovered_elsewhere(*_: object, **__: object) -> None:
        raise BeingRecovered("another command recovers it")

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watching, "recover_run", recovered_elsewhere)
    monkeypatch.setattr(watching, "refresh", lambda *_: [])
    monkeypatch.setattr(watching, "run_store", lambda _: SimpleNamespace(get=str))
    session: Any = SimpleNamespace(progress=SILENT)
    records: Any = [SimpleNamespace(id="run-a"), SimpleNamespace(id="run-b")]
    clock = ManualClock()
    clock.on_sleep = interrupted

    with pytest.raises(Interrupted) as stopped:
        watching.watch_runs(session, records, clock=clock)

    assert stopped.value.hint == "runctl runs watch run-a run-b follows it again"


def test_runs_that_go_on_are_asked_side_by_side_and_only_the_others_are_recovered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    going = [a_run("run-a"), a_run("run-b")]
    ended = replace(going[0], state=RunPhase.ENDED, end_reason=EndReason.INTERRUPTED)
    asked: list[list[str]] = []
    recovered: list[str] = []

    def refresh(_: object, records: list[RunRecord]) -> list[RunRecord]:
        asked.append([record.id for record in records])
        return [ended, going[1]] if len(asked) == 1 else records

    def recover(_: object, record: RunRecord, **__: object) -> Recovered:
        recovered.append(record.id)
        return Recovered(record, Outcome.ENDED, "has ended")

    def again(_: float) -> None:
        if len(asked) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(watching, "refresh", refresh)
    monkeypatch.setattr(watching, "recover_run", recover)
    by_id = {record.id: record for record in going}
    monkeypatch.setattr(watching, "run_store", lambda _: SimpleNamespace(get=by_id.__getitem__))
    session: Any = SimpleNamespace(progress=SILENT)
    clock = ManualClock()
    clock.on_sleep = again
    told: list[str] = []

    with pytest.raises(Interrupted):
        watching.watch_runs(
            session,
            going,
            clock=clock,
            on_change=lambda r: told.append(r.why),
        )

    assert asked == [["run-a", "run-b"], ["run-b"]]
    assert recovered == ["run-a"]
    assert told == ["has ended", "is running"]


def test_a_run_whose_machine_may_not_have_heard_of_it_is_looked_after() -> None:
    assert goes_on(a_run(state=RunPhase.RUNNING))
    assert goes_on(a_run(state=RunPhase.UNKNOWN))
    assert not goes_on(a_run(state=RunPhase.PENDING))
    assert not goes_on(a_run(state=RunPhase.ENDED))


@pytest.mark.parametrize(("failures", "seconds"), [(1, 20), (3, 80), (6, 600), (1000, 600)])
def test_a_run_that_cannot_be_recovered_is_tried_less_and_less_often(failures: int, seconds: int) -> None:
    assert pause_after(failures, timedelta(seconds=10)) == timedelta(seconds=seconds)


def test_whoever_looks_once_an_hour_is_not_made_to_look_more_often() -> None:
    assert pause_after(1, timedelta(hours=1)) == timedelta(hours=1)


def test_what_was_paid_for_in_vain_is_put_off_whatever_it_failed_by() -> None:
    assert not counts(Unreachable("the network is down"))
    assert not counts(CapacityError("there is no machine"))
    assert counts(MachineError("it reads from no store"))
    for error in (Unreachable("it never answered"), CapacityError("it was taken back as it booted")):
        error.was_rented = True
        assert counts(error)


def test_a_search_without_capacity_does_not_make_what_fails_on_each_machine_a_first_failure() -> None:
    clock = ManualClock()
    pauses, failed = Pauses(timedelta(seconds=10), clock), MachineError("it reads from no store")
    pauses.failed("run-a", failed)
    pauses.looked_at(Recovered(a_run("run-a"), Outcome.NO_CAPACITY))
    pauses.failed("run-a", failed)

    clock.advance(timedelta(seconds=39))
    assert pauses.has("run-a")
    clock.advance(timedelta(seconds=1))
    assert not pauses.has("run-a")
    pauses.looked_at(Recovered(a_run("run-a"), Outcome.STARTED))
    pauses.looked_at(Recovered(a_run("run-a"), Outcome.GOES_ON, was_rented=True))
    clock.advance(timedelta(seconds=20))
    assert not pauses.has("run-a")


@pytest.mark.parametrize("rented", [True, False])
def test_a_machine_that_never_answers_is_rented_less_and_less_often_for_a_deadline(
    monkeypatch: pytest.MonkeyPatch, rented: bool
) -> None:
    clock, record, tried = ManualClock(), a_run("run-a"), []
    waits = 360

    class Over:
        """An hour, in which nobody stops following the log."""

        def wait(self, seconds: float) -> bool:
            nonlocal waits
            clock.sleep(seconds)
            waits -= 1
            return waits < 0

    def fails(*_: object, **__: object) -> None:
        tried.append(clock.now())
        error: RunctlError = Unreachable("it did not answer in 15 minutes")
        error.was_rented = rented
        raise error

    monkeypatch.setattr(watching, "recover_run", fails)
    monkeypatch.setattr(watching, "run_store", lambda _: SimpleNamespace(find=lambda _: record))
    session: Any = SimpleNamespace(progress=SILENT, apart=lambda: session)
    watch = DeadlineWatch(session, record, clock=clock)
    monkeypatch.setattr(watch, "_over", Over())

    watch._watch()

    # After 20 s, 40 s and so on, up to ten minutes; what costs nothing is tried every time.
    assert len(tried) <= 12 if rented else len(tried) == 360
