"""Every order of interruptions, silence, kills, stops and ends leaves one run with one end, and nothing rented."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings

from runctl.agent import lease
from runctl.agent.checkpoint_spec import KEYS_FILE, StoreSpec
from runctl.agent.interruption import HandOff
from runctl.agent.spec import AttemptStatus, EndReason, EndRecord, RunSpec
from runctl.core.config import Config
from runctl.core.database import Database
from runctl.core.errors import (
    CapacityError,
    Conflict,
    InstanceEnded,
    Interrupted,
    MachineError,
    ProviderError,
    Unreachable,
)
from runctl.core.machine_models import InstanceState, Market
from runctl.core.run_models import RunPhase
from runctl.machines.intents import IntentStore
from runctl.machines.session import Session
from runctl.runs import control
from runctl.runs.records.run_record import with_its_machine
from runctl.runs.records.store import run_store
from runctl.runs.recovering import machines, recover
from runctl.runs.recovering.recover import Outcome, Recovered, recover_run
from runctl.runs.recovering.watching import watch_runs
from runctl.runs.run_logs import sources
from runctl.runs.run_logs.sources import KeptLog
from runctl.runs.stored import leases, lent_store
from runctl.runs.stored.recipe import Recipes
from tests.runs.recovering.recovery_machine import Recovery
from tests.runs.recovering.world import FIRST, RUN, Agent, Cloud, Killed, Rents


def other_computer(there: Recovery, folder: Path) -> Session:
    """One that knows the run as it began, and shares nothing with the first one but the cloud."""
    session = Session(config=Config())
    database = Database(folder / "state.db")
    values: Mapping[str, Any] = {
        "database": database,
        "intents": IntentStore(database, folder / "intents"),
        "_providers": {"aws": Cloud(there.world)},
    }
    session.__dict__.update(values)
    run_store(session).put(there.store.get(RUN))
    Recipes(database).put(Recipes(there.session.database).get(RUN), there.world.clock)
    return session


def test_what_another_computer_has_recovered_goes_on_and_is_not_recovered_again(tmp_path: Path) -> None:
    there = Recovery()
    other = other_computer(there, tmp_path)
    there.world.end(FIRST)
    first = recover_run(there.session, there.store.get(RUN), clock=there.world.clock)
    assert first.outcome is Outcome.STARTED
    machines = set(there.world.machines)

    with patch.object(leases, "data_folder", lambda: tmp_path):
        second = recover_run(other, run_store(other).get(RUN), clock=there.world.clock)

    assert second.outcome is Outcome.GOES_ON
    assert (second.record.attempt, second.record.instance_id) == (2, first.record.instance_id)
    assert [each.end_reason for each in second.record.past] == [EndReason.LOST]
    assert set(there.world.machines) == machines
    other.database.close()
    there.teardown()


def test_a_run_whose_lease_somebody_has_is_left_alone(tmp_path: Path) -> None:
    there = Recovery()
    there.world.end(FIRST)
    key = f"runs/{RUN}/{lease.KEY}"
    there.world.ends[key] = lease.encode(lease.Lease(RUN, 1, "ada@laptop", "hers"))

    recovered = recover_run(there.session, there.store.get(RUN), clock=there.world.clock)

    assert recovered.outcome is Outcome.GOES_ON
    assert recovered.why == f"is left alone: ada@laptop has the lease of {RUN}"
    assert not there.world.going()
    del there.world.ends[key]
    there.teardown()


def test_whoever_looks_at_a_run_while_it_is_recovered_stops_nothing() -> None:
    """However slow the store is: between any two of the calls that it takes to recover it."""
    calls = -1
    looked = True
    while looked:
        calls, looked = calls + 1, False
        there = Recovery()
        there.world.end(FIRST, interrupted=True)
        control.refresh(there.session, [there.store.get(RUN)])

        def look(there: Recovery = there) -> None:
            nonlocal looked
            looked = True
            control.refresh(there.session, [there.store.get(RUN)])

        there.world.meanwhile = (calls, look)
        recovered = recover_run(there.session, there.store.get(RUN), clock=there.world.clock)
        assert recovered.outcome is Outcome.STARTED, calls
        assert there.store.get(RUN).state is RunPhase.RUNNING, calls
        there.world.meanwhile = None
        there.teardown()
    assert calls > 20


def test_a_run_that_was_stopped_is_recovered_by_no_other_computer(tmp_path: Path) -> None:
    there = Recovery()
    other = other_computer(there, tmp_path)
    there.world.end(FIRST)
    control.refresh(there.session, [there.store.get(RUN)])
    control.stop_run(there.session, there.store.get(RUN))

    with patch.object(leases, "data_folder", lambda: tmp_path):
        recovered = recover_run(other, run_store(other).get(RUN), clock=there.world.clock)

    assert (recovered.outcome, recovered.why) == (Outcome.ENDED, "has ended as STOPPED")
    assert not there.world.going()
    other.database.close()
    there.teardown()


def test_a_run_that_is_stopped_while_its_last_end_is_read_stays_stopped() -> None:
    there = Recovery()

    def stop_and_read(*_: object) -> EndRecord:
        control.stop_run(there.session, there.store.get(RUN))
        return EndRecord(EndReason.INTERRUPTED, there.world.clock.now().timestamp())

    there.world.end(FIRST)
    with (
        patch.object(recover, "end_in_store", stop_and_read),
        pytest.raises(Conflict, match="stays stopped"),
    ):
        recover_run(there.session, there.store.get(RUN), clock=there.world.clock)

    assert there.store.get(RUN).end_reason is EndReason.STOPPED
    assert not there.world.going()
    there.teardown()


def test_a_machine_that_was_rented_in_vain_is_given_back_whatever_was_not_to_be_had() -> None:
    there = Recovery()
    there.world.end(FIRST)

    with patch.object(recover, "logged_in", side_effect=CapacityError("there is no more of it")):
        recovered = recover_run(there.session, there.store.get(RUN), clock=there.world.clock)

    assert recovered.outcome is Outcome.NO_CAPACITY
    assert "is given back" in recovered.why
    assert len(there.world.machines) == 2
    assert not there.world.going()
    there.teardown()


def recovered_by_another(there: Recovery) -> Recovered:
    """What comes of it after a process that was killed."""
    there.world.clock.advance(timedelta(seconds=61))
    recovered = recover_run(there.session, there.store.get(RUN), clock=there.world.clock)
    assert recovered.outcome is Outcome.STARTED
    assert there.session.intents.unfinished() == []
    return recovered


def test_a_machine_that_a_killed_process_has_rented_is_taken_though_another_market_is_asked_now() -> None:
    there = Recovery()
    there.world.end(FIRST)
    with patch.object(Cloud, "wait_ready", side_effect=Killed), pytest.raises(Killed):
        there.world.calls_left = 100
        with patch.object(Rents, "terminate", side_effect=Killed):
            recover_run(there.session, there.store.get(RUN), clock=there.world.clock)
    there.world.calls_left = None
    (rented,) = there.world.going()
    recipes = Recipes(there.session.database)
    recipe = recipes.get(RUN)
    assert recipe.request is not None
    recipes.put(replace(recipe, request=replace(recipe.request, market=Market.ON_DEMAND)), there.world.clock)

    there.world.clock.advance(timedelta(seconds=61))
    recovered = recover_run(there.session, there.store.get(RUN), clock=there.world.clock)

    assert (recovered.outcome, recovered.record.instance_id) == (Outcome.STARTED, rented)
    assert there.world.going() == [rented]
    assert there.world.machines[rented].state is InstanceState.RUNNING
    assert there.session.intents.unfinished() == []
    there.teardown()


def test_a_run_that_is_stopped_while_a_machine_is_waited_for_is_waited_for_no_longer() -> None:
    there = Recovery()
    there.world.end(FIRST)
    there.world.capacity = False
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            there.world.capacity = True
            control.stop_run(there.session, there.store.get(RUN))
        there.world.clock.advance(timedelta(seconds=61))

    with patch.object(there.world.clock, "sleep", sleep), pytest.raises(Conflict, match="stays stopped"):
        recover_run(there.session, there.store.get(RUN), once=False, clock=there.world.clock)

    assert len(slept) == 3
    assert list(there.world.machines) == [FIRST], "nothing was rented for it"
    there.teardown()


def test_an_attempt_that_was_written_down_and_never_started_keeps_its_number() -> None:
    there = Recovery()
    there.world.end(FIRST)
    with patch.object(recover, "start", side_effect=Killed), pytest.raises(Killed):
        recover_run(there.session, there.store.get(RUN), clock=there.world.clock)
    # Its process had written it down when it was killed.
    written = there.store.get(RUN)
    assert written.attempt == 2

    recovered = recovered_by_another(there)

    assert recovered.record.attempt == 2
    assert there.world.going() == [written.instance_id]
    there.teardown()


@pytest.mark.parametrize("taken_back", [None, "interrupted", "handed over"])
def test_a_run_that_was_lost_goes_on_on_its_machine_unless_that_is_taken_back(taken_back: str | None) -> None:
    there = Recovery()
    Agent(there.world, FIRST).conclude(EndReason.LOST)
    if taken_back == "interrupted":
        there.world.machines[FIRST] = replace(there.world.machines[FIRST], interrupted=True)
    if taken_back == "handed over":
        run = there.world.runs[FIRST][1]
        assert run.end is not None
        given = HandOff(there.world.clock.now().timestamp() + 120)
        there.world.runs[FIRST][1] = replace(run, end=replace(run.end, hand_off=given))
        there.world.ends.clear()

    recovered = recovered_by_another(there)

    assert (recovered.record.instance_id == FIRST) is (taken_back is None)
    assert len(there.world.machines) == (1 if taken_back is None else 2)
    there.world.end(FIRST)
    there.teardown()


def test_what_a_volume_tells_of_the_last_end_does_not_undo_a_stop() -> None:
    there = Recovery()
    lost = InstanceEnded("it is gone", interrupted=False)
    known = with_its_machine(there.store.get(RUN), lost, there.world.clock.now())
    there.store.put(known)

    def stop_and_read(*_: object, **__: object) -> KeptLog:
        control.stop_run(there.session, there.store.get(RUN))
        return KeptLog(None, (), EndRecord(EndReason.INTERRUPTED, there.world.clock.now().timestamp()))

    with patch.object(sources, "find_kept_log", stop_and_read):
        control.find_kept(there.session, known)

    assert there.store.get(RUN).end_reason is EndReason.STOPPED
    there.world.end(FIRST)
    there.teardown()


def test_without_capacity_anywhere_it_is_asked_for_during_an_hour_and_nothing_is_rented() -> None:
    there = Recovery()
    there.world.end(FIRST)
    there.world.capacity = False
    began = there.world.clock.now()

    def sleep(seconds: float) -> None:
        there.world.clock.advance(timedelta(seconds=max(seconds, 30.0)))

    with patch.object(there.world.clock, "sleep", sleep):
        recovered = recover_run(there.session, there.store.get(RUN), once=False, clock=there.world.clock)

    assert (recovered.outcome, recovered.why) == (
        Outcome.ENDED,
        "found no machine within 60 minutes; runctl runs recover tries again",
    )
    assert timedelta(hours=1) < there.world.clock.now() - began < timedelta(minutes=63)
    assert list(there.world.machines) == [FIRST]
    # Whoever asks later, when there is some, goes on.
    there.world.capacity = True
    recovered_by_another(there)
    there.teardown()


def test_whoever_asks_when_the_search_is_over_hears_of_capacity_as_it_is_now() -> None:
    there = Recovery()
    there.world.end(FIRST)
    there.world.capacity = False
    asked = partial(recover_run, there.session, there.store.get(RUN), clock=there.world.clock)
    assert asked().outcome is Outcome.NO_CAPACITY
    there.world.clock.advance(timedelta(hours=2))
    assert asked().outcome is Outcome.NO_CAPACITY
    there.world.capacity = True

    # A watcher in its next round asks nobody who has refused a moment ago.
    assert asked().outcome is Outcome.ENDED
    assert list(there.world.machines) == [FIRST]
    assert asked(afresh=True).outcome is Outcome.STARTED
    there.teardown()


def taken_back_while_nobody_looked(there: Recovery, hours: float) -> None:
    there.world.end(FIRST, interrupted=True)
    now = there.world.clock.now()
    gone = InstanceEnded("it was taken back", interrupted=True, at=now)
    there.store.put(with_its_machine(there.store.get(RUN), gone, now))
    there.world.clock.advance(timedelta(hours=hours))


def test_a_machine_is_looked_for_an_hour_long_though_nobody_knew_of_the_end_for_longer() -> None:
    there = Recovery()
    taken_back_while_nobody_looked(there, 2)
    there.world.capacity = False
    asked = partial(recover_run, there.session, there.store.get(RUN), clock=there.world.clock)

    for _ in range(59):
        assert asked().outcome is Outcome.NO_CAPACITY
        there.world.clock.advance(timedelta(seconds=61))
    there.world.clock.advance(timedelta(minutes=2))
    asked()
    assert asked().outcome is Outcome.ENDED

    # What the attempt has cost ends where it ended.
    record = there.store.get(RUN)
    assert record.search_began_at is not None
    assert record.ended_at == record.search_began_at - timedelta(hours=2)
    there.teardown()


def test_on_demand_is_paid_only_when_spot_was_looked_for_as_long_as_that_is_to_wait() -> None:
    there = Recovery()
    recipes = Recipes(there.session.database)
    recipe = recipes.get(RUN)
    rules = replace(recipe.rules, on_demand_after=1800.0)
    recipes.put(replace(recipe, rules=rules), there.world.clock)
    taken_back_while_nobody_looked(there, 2)
    there.world.spot = False
    asked = partial(recover_run, there.session, there.store.get(RUN), clock=there.world.clock)

    assert asked().outcome is Outcome.NO_CAPACITY
    there.world.clock.advance(timedelta(minutes=29))
    assert asked().outcome is Outcome.NO_CAPACITY
    there.world.clock.advance(timedelta(minutes=2))
    recovered = asked()

    assert (recovered.outcome, recovered.record.market) == (Outcome.STARTED, "on-demand")
    # The next search is one of its own.
    assert recovered.record.search_began_at is None
    there.teardown()


def test_a_machine_is_given_back_whose_keys_were_not_to_be_had() -> None:
    there = Recovery()
    recipes = Recipes(there.session.database)
    recipe = recipes.get(RUN)
    store = StoreSpec("s3://bucket/runs", keys_file=KEYS_FILE)
    recipes.put(replace(recipe, spec=replace(recipe.spec, store=store)), there.world.clock)
    there.world.end(FIRST)

    with (
        patch.object(lent_store, "bring_keys", side_effect=ProviderError("no keys now")),
        pytest.raises(ProviderError, match=r"no keys now; .* is given back"),
    ):
        recover_run(there.session, there.store.get(RUN), clock=there.world.clock)

    assert there.store.get(RUN).attempt == 1
    assert not there.world.going()
    with patch.object(lent_store, "bring_keys"):
        recovered_by_another(there)
        there.teardown()


def test_a_further_attempts_image_is_pulled_by_a_login_that_is_good_then() -> None:
    there = Recovery()
    recipes = Recipes(there.session.database)
    recipe = recipes.get(RUN)
    assert recipe.request is not None
    request = replace(recipe.request, image="registry.example/runctl/digits:1")
    recipes.put(replace(recipe, request=request), there.world.clock)
    there.world.end(FIRST)
    kept: list[tuple[str | None, list[str]]] = []

    def keep(_session: Session, _provider: object, image: str | None) -> None:
        kept.append((image, [str(name) for name in there.world.machines]))

    with patch.object(machines, "keep_pull_login", keep):
        recovered_by_another(there)

    assert kept == [("registry.example/runctl/digits:1", ["i-first"])], "before the machine is rented"
    there.teardown()


def test_nobody_goes_on_without_the_lease_because_the_store_is_asked_too_often() -> None:
    there = Recovery()
    there.world.end(FIRST)
    throttled = ProviderError("slow down", code="throttled")

    with patch.object(recover, "lease_held", side_effect=throttled), pytest.raises(Unreachable) as refused:
        recover_run(there.session, there.store.get(RUN), clock=there.world.clock)

    assert refused.value.code == "throttled"
    assert list(there.world.machines) == [FIRST]
    there.teardown()


def test_whoever_looks_while_an_attempt_is_started_does_not_take_it_for_one_that_never_was() -> None:
    there = Recovery()
    there.world.end(FIRST)
    real, seen = Agent.start, []

    def start_slowly(agent: Agent, spec: RunSpec) -> AttemptStatus:
        (looked,) = control.refresh(there.session, [there.store.get(RUN)])
        seen.append((looked.attempt, looked.state))
        return real(agent, spec)

    with (
        patch.object(control, "SystemClock", lambda: there.world.clock),
        patch.object(Agent, "start", start_slowly),
    ):
        recovered = recover_run(there.session, there.store.get(RUN), clock=there.world.clock)
        assert seen == [(2, RunPhase.PENDING)]
        assert recovered.outcome is Outcome.STARTED
        # Where whoever wrote it down was killed, it is known a while later that nothing was started.
        there.world.runs[recovered.record.instance_id].clear()
        there.store.put(replace(recovered.record, state=RunPhase.PENDING))
        there.world.clock.advance(timedelta(minutes=3))
        (looked,) = control.refresh(there.session, [there.store.get(RUN)])

    assert looked.end_reason is EndReason.NOT_STARTED
    there.world.end(recovered.record.instance_id)
    there.teardown()


@pytest.mark.parametrize("by", ["boot", "readiness", "no answer", "no more of it"])
def test_what_fails_on_each_machine_is_tried_less_and_less_often(by: str) -> None:
    there = Recovery()
    there.world.end(FIRST)
    began = there.world.clock.now()

    def sleep(seconds: float) -> None:
        there.world.clock.advance(timedelta(seconds=max(seconds, 1.0)))
        if there.world.clock.now() - began > timedelta(hours=1):
            raise KeyboardInterrupt

    with contextlib.ExitStack() as exits:
        exits.enter_context(patch.object(there.world.clock, "sleep", sleep))
        refused = exits.enter_context(
            patch.object(Cloud, "wait_ready", side_effect=Unreachable("it is not ready after 15 minutes"))
            if by == "readiness"
            else patch.object(
                recover,
                "volumes_as_before",
                side_effect={
                    "boot": MachineError("it reads from no store"),
                    "no answer": Unreachable("it does not answer"),
                    "no more of it": CapacityError("no more volumes"),
                }[by],
            )
        )
        with pytest.raises(Interrupted):
            watch_runs(there.session, [there.store.get(RUN)], clock=there.world.clock)

    # After 20 s, 40 s and so on, up to ten minutes: each machine is paid for a minute at the least.
    assert 5 <= refused.call_count <= 12
    assert there.world.going() == []
    there.teardown()


def test_a_watcher_without_network_for_ten_minutes_neither_ends_the_run_nor_rents() -> None:
    there = Recovery()
    there.world.silent.add(FIRST)
    told: list[str] = []
    slept = 0

    def sleep(seconds: float) -> None:
        nonlocal slept
        slept += 1
        there.world.clock.advance(timedelta(seconds=10))
        if slept == 60:
            there.world.silent.clear()
            Agent(there.world, FIRST).conclude(EndReason.COMPLETED)

    def away(*_: object, **__: object) -> None:
        raise Unreachable("the network is down")

    with contextlib.ExitStack() as exits:
        exits.enter_context(patch.object(there.world.clock, "sleep", sleep))
        for name in ("instance", "instances"):
            real = getattr(Cloud, name)
            exits.enter_context(
                patch.object(
                    Cloud,
                    name,
                    lambda *given, real=real, **more: away() if slept < 60 else real(*given, **more),
                )
            )
        records = watch_runs(
            there.session,
            [there.store.get(RUN)],
            on_change=lambda recovered: told.append(recovered.why),
            clock=there.world.clock,
        )

    assert [record.end_reason for record in records] == [EndReason.COMPLETED]
    assert list(there.world.machines) == [FIRST]
    assert told[0] == "cannot be asked"
    there.world.end(FIRST)
    there.teardown()


TestRecovery = Recovery.TestCase
TestRecovery.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
