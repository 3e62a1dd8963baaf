"""Runs that are watched until they have ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from runctl.agent.deadline import WATCHER_SECONDS
from runctl.agent.deadline_spec import DeadlineSpec
from runctl.agent.end_reason import EndReason
from runctl.core.errors import (
    CapacityError,
    Interrupted,
    MachineError,
    ProviderError,
    RunctlError,
    Unreachable,
)
from runctl.core.machine_models import Market
from runctl.core.progress import SILENT
from runctl.core.run_models import RunPhase
from runctl.runs.records.run_record import RunRecord
from runctl.runs.recovering import watching
from runctl.runs.recovering.outcome import BeingRecovered, Outcome, Recovered
from runctl.runs.recovering.watching import DeadlineWatch, Pauses, counts, goes_on, pause_after
from runctl.testing.clock import ManualClock
from tests.runs.sample_runs import a_run

DEADLINE = DeadlineSpec("deadline", 0.0, 36_000.0, 3600.0)


def test_whoever_stops_watching_is_told_how_to_watch_the_same_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def recovered_elsewhere(*_: object, **__: object) -> None:
        raise BeingRecovered("another command recovers it")

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watching, "recover_run", recovered_elsewhere)
    monkeypatch.setattr(watching, "refresh", lambda *_: [])
    monkeypatch.setattr(watching, "run_store", lambda _: SimpleNamespace(get=a_run))
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
    assert not counts(ProviderError("too many requests", code="throttled"))
    assert counts(ProviderError("it may not", code="denied"))
    assert counts(MachineError("it reads from no store"))
    for error in (Unreachable("it never answered"), CapacityError("it was taken back as it booted")):
        error.rented_on = "spot"
        assert counts(error)


def test_a_search_without_capacity_does_not_make_what_fails_on_each_machine_a_first_failure() -> None:
    clock = ManualClock()
    run, pauses = a_run("run-a"), Pauses(timedelta(seconds=10), clock)
    failed = MachineError("it reads from no store")
    pauses.failed(run, failed)
    pauses.looked_at(Recovered(run, Outcome.NO_CAPACITY))
    pauses.failed(run, failed)

    clock.advance(timedelta(seconds=39))
    assert pauses.has(run)
    clock.advance(timedelta(seconds=1))
    assert not pauses.has(run)
    pauses.looked_at(Recovered(run, Outcome.STARTED))
    pauses.looked_at(Recovered(run, Outcome.GOES_ON, rented_on=frozenset({Market.SPOT})))
    assert pauses.has(run)
    clock.advance(timedelta(seconds=20))
    assert not pauses.has(run)


def failing(on: str = "") -> RunctlError:
    error = MachineError("it does not boot")
    error.rented_on = on
    return error


def test_what_fails_on_spot_puts_off_spot_and_not_the_decision_of_a_run_with_a_deadline() -> None:
    clock = ManualClock()
    run, pauses = a_run("run-a", deadline=DEADLINE), Pauses(timedelta(seconds=10), clock)
    for _ in range(6):
        pauses.failed(run, failing("spot"))
        assert (pauses.has(run), pauses.put_off_spot(run)) == (False, True)
        # A look that finds it going on meanwhile does not make the next failure a first one.
        pauses.looked_at(Recovered(run, Outcome.GOES_ON))
    clock.advance(timedelta(seconds=599))
    assert pauses.put_off_spot(run)
    # Where there is no other market, or no deadline, nothing else is left to be tried.
    on_spot_alone = a_run("run-a", deadline=replace(DEADLINE, policy="spot"))
    assert pauses.has(on_spot_alone)
    assert pauses.has(a_run("run-a"))
    pauses.failed(run, failing("on-demand"))
    assert pauses.has(run)
    # On-demand has failed once.
    clock.advance(timedelta(seconds=20))
    assert not pauses.has(run)


def test_what_cost_nothing_is_tried_as_often_as_a_deadline_counts_on() -> None:
    clock = ManualClock()
    run, pauses = a_run("run-a", deadline=DEADLINE), Pauses(timedelta(seconds=10), clock)
    for _ in range(6):
        pauses.failed(run, failing())
    assert pauses.has(run)
    clock.advance(timedelta(seconds=WATCHER_SECONDS / 2))
    assert not pauses.has(run)


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
        error.rented_on = "on-demand" if rented else ""
        raise error

    monkeypatch.setattr(watching, "recover_run", fails)
    monkeypatch.setattr(watching, "run_store", lambda _: SimpleNamespace(find=lambda _: record))
    session: Any = SimpleNamespace(progress=SILENT, apart=lambda: session)
    watch = DeadlineWatch(session, record, clock=clock)
    monkeypatch.setattr(watch, "_over", Over())

    watch._watch()

    # After 20 s, 40 s and so on, up to ten minutes; what costs nothing is tried every time.
    assert len(tried) <= 12 if rented else len(tried) == 360
