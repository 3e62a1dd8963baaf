"""How long, how often and on which market a machine is looked for."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta
from functools import partial
from unittest.mock import patch

import pytest

from runctl.agent.checkpoint_spec import KEYS_FILE, StoreSpec
from runctl.agent.end_reason import EndReason
from runctl.core.errors import (
    CapacityError,
    Conflict,
    InstanceEnded,
    Interrupted,
    MachineError,
    ProviderError,
    Unreachable,
)
from runctl.runs.records.updates import with_its_machine
from runctl.runs.recovering import start_next
from runctl.runs.recovering.outcome import Outcome
from runctl.runs.recovering.recover import recover_run
from runctl.runs.recovering.watching import watch_runs
from runctl.runs.stopping import stop_run
from runctl.runs.stored import lent_store
from runctl.runs.stored.recipe import Recipes
from tests.runs.recovering.recovery_machine import Recovery, recovered_by_another
from tests.runs.recovering.world import FIRST, RUN, Agent, Cloud


def test_a_machine_that_was_rented_in_vain_is_given_back_whatever_was_not_to_be_had() -> None:
    there = Recovery()
    there.world.end(FIRST)

    with patch.object(start_next, "logged_in", side_effect=CapacityError("there is no more of it")):
        recovered = recover_run(there.session, there.store.get(RUN), clock=there.world.clock)

    assert recovered.outcome is Outcome.NO_CAPACITY
    assert "is given back" in recovered.why
    assert len(there.world.machines) == 2
    assert not there.world.going()
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
            stop_run(there.session, there.store.get(RUN))
        there.world.clock.advance(timedelta(seconds=61))

    with patch.object(there.world.clock, "sleep", sleep), pytest.raises(Conflict, match="stays stopped"):
        recover_run(there.session, there.store.get(RUN), once=False, clock=there.world.clock)

    assert len(slept) == 3
    assert list(there.world.machines) == [FIRST], "nothing was rented for it"
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
        "found no machine within 1h00m; runctl runs recover tries again",
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
                start_next,
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
