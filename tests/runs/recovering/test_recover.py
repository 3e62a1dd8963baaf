"""A further attempt is begun once, by whoever may, and a stop holds whenever it comes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from unittest.mock import patch

import pytest

from runctl.agent.end_reason import EndReason
from runctl.agent.interruption import HandOff
from runctl.agent.spec import AttemptStatus, EndRecord, RunSpec
from runctl.core.errors import (
    Conflict,
    InstanceEnded,
)
from runctl.core.machine_models import InstanceState, Market
from runctl.core.run_models import GroupPhase, RunPhase, UnattendedRun
from runctl.machines.session import Session
from runctl.runs import asking
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.updates import with_its_machine
from runctl.runs.recovering import machines, recover, start_next
from runctl.runs.recovering.outcome import Outcome
from runctl.runs.recovering.recover import recover_run
from runctl.runs.recovering.watching import watch_runs
from runctl.runs.run_logs import sources
from runctl.runs.run_logs.reading import find_kept
from runctl.runs.run_logs.sources import KeptLog
from runctl.runs.stopping import stop_run
from runctl.runs.stored.recipe import Recipes
from tests.runs.recovering.recovery_machine import Recovery, recovered_by_another
from tests.runs.recovering.world import FIRST, RUN, Agent, Cloud, Killed, Rents


def test_a_run_that_is_stopped_while_its_last_end_is_read_stays_stopped() -> None:
    there = Recovery()

    def stop_and_read(*_: object) -> EndRecord:
        stop_run(there.session, there.store.get(RUN))
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


def test_an_attempt_that_was_written_down_and_never_started_keeps_its_number() -> None:
    there = Recovery()
    there.world.end(FIRST)
    with patch.object(start_next, "start", side_effect=Killed), pytest.raises(Killed):
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
        stop_run(there.session, there.store.get(RUN))
        return KeptLog(None, (), EndRecord(EndReason.INTERRUPTED, there.world.clock.now().timestamp()))

    with patch.object(sources, "find_kept_log", stop_and_read):
        find_kept(there.session, known)

    assert there.store.get(RUN).end_reason is EndReason.STOPPED
    there.world.end(FIRST)
    there.teardown()


def test_a_run_whose_group_is_gone_goes_on_by_what_its_store_has() -> None:
    there = Recovery()
    there.world.end(FIRST)
    recipes, group = (
        Recipes(there.session.database),
        UnattendedRun("its group", GroupPhase.GONE, is_removed=True),
    )
    recipe = recipes.get(RUN)
    there.store.put(replace(there.store.get(RUN), unattended=group))
    with there.session.database.transaction() as connection:
        connection.execute("DELETE FROM recipes")

    def taken_over(_session: Session, address: str, _provider: str) -> RunRecord:
        assert address == f"s3://bucket/runs/{RUN}"
        recipes.put(recipe)
        return there.store.get(RUN)

    with patch.object(recover, "adopt", taken_over):
        recovered = recover_run(there.session, there.store.get(RUN), clock=there.world.clock)

    assert recovered.outcome is Outcome.STARTED
    # No group is said to look after it any more.
    assert there.store.get(RUN).unattended is None
    there.teardown()


@pytest.mark.parametrize(
    ("phase", "ended", "code"),
    [
        (GroupPhase.IDLE, True, "group-has-no-machine"),
        (GroupPhase.IDLE, False, "group-has-no-machine"),
        (GroupPhase.PLANNED, False, "not-left-yet"),
    ],
)
def test_a_run_whose_group_may_rent_again_is_not_taken_over(
    phase: GroupPhase, ended: bool, code: str
) -> None:
    there = Recovery()
    if ended:
        there.world.end(FIRST)
        asking.refresh(there.session, [there.store.get(RUN)])
    before = there.store.get(RUN)
    there.store.put(
        replace(
            before,
            state=before.state if ended else RunPhase.PENDING,
            unattended=UnattendedRun("its group", phase),
        )
    )

    with patch.object(recover, "adopt", side_effect=AssertionError("it is not to be known here")):
        with pytest.raises(Conflict) as refused:
            recover_run(there.session, there.store.get(RUN), clock=there.world.clock)
        # Nor does whoever watches it wait for what does not come.
        watched = watch_runs(there.session, [there.store.get(RUN)], clock=there.world.clock)

    assert refused.value.code == code
    assert [each.has_ended for each in watched] == [ended]
    assert list(there.world.machines) == [FIRST]
    there.store.put(before)
    there.teardown()


@pytest.mark.parametrize("seen", [None, "taken back", "over"])
def test_a_machine_that_its_provider_has_forgotten_ended_as_it_was_seen_to(seen: str | None) -> None:
    there = Recovery()
    before = there.store.get(RUN)
    there.store.put(replace(before, store=None))
    machine = there.world.machines.pop(FIRST)
    ended_at = there.world.clock.now() + timedelta(minutes=10)
    there.world.clock.advance(timedelta(hours=8))
    if seen is not None:
        taken_back = seen == "taken back"
        over = replace(machine, state=InstanceState.TERMINATED, interrupted=taken_back, ended_at=ended_at)
        there.session.ledger_record("aws").seen(over)

    (record,) = asking.refresh(there.session, [there.store.get(RUN)])

    assert record.end_reason is (EndReason.INTERRUPTED if seen == "taken back" else EndReason.UNSEEN)
    assert record.instance_id in record.message
    assert (record.ended_at == ended_at) is (seen is not None)
    there.store.put(before)
    there.world.machines[FIRST] = machine
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


def test_whoever_looks_while_an_attempt_is_started_does_not_take_it_for_one_that_never_was() -> None:
    there = Recovery()
    there.world.end(FIRST)
    real, seen = Agent.start, []

    def start_slowly(agent: Agent, spec: RunSpec) -> AttemptStatus:
        (looked,) = asking.refresh(there.session, [there.store.get(RUN)])
        seen.append((looked.attempt, looked.state))
        return real(agent, spec)

    with (
        patch.object(asking, "SystemClock", lambda: there.world.clock),
        patch.object(Agent, "start", start_slowly),
    ):
        recovered = recover_run(there.session, there.store.get(RUN), clock=there.world.clock)
        assert seen == [(2, RunPhase.PENDING)]
        assert recovered.outcome is Outcome.STARTED
        # Where whoever wrote it down was killed, it is known a while later that nothing was started.
        there.world.runs[recovered.record.instance_id].clear()
        there.store.put(replace(recovered.record, state=RunPhase.PENDING))
        there.world.clock.advance(timedelta(minutes=3))
        (looked,) = asking.refresh(there.session, [there.store.get(RUN)])

    assert looked.end_reason is EndReason.NOT_STARTED
    there.world.end(recovered.record.instance_id)
    there.teardown()
