"""Of several computers one recovers a run, and the others learn what it has done."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from runctl.agent import lease
from runctl.agent.end_reason import EndReason
from runctl.core.config import Config
from runctl.core.database import Database
from runctl.core.errors import (
    ProviderError,
    Unreachable,
)
from runctl.core.machine_models import InstanceState
from runctl.core.run_models import RunPhase
from runctl.machines.intents import IntentStore
from runctl.machines.session import Session
from runctl.runs import asking
from runctl.runs.records.store import run_store
from runctl.runs.recovering import recover
from runctl.runs.recovering.outcome import Outcome
from runctl.runs.recovering.recover import recover_run
from runctl.runs.stopping import stop_run
from runctl.runs.stored import leases
from runctl.runs.stored.recipe import Recipes
from tests.runs.recovering.recovery_machine import Recovery
from tests.runs.recovering.world import FIRST, RUN, Cloud


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


@pytest.mark.parametrize("state", [InstanceState.TERMINATED, InstanceState.SHUTTING_DOWN, None])
def test_the_lease_of_a_machine_that_has_died_is_not_waited_for(state: InstanceState | None) -> None:
    there = Recovery()
    there.world.end(FIRST)
    if state is None:
        del there.world.machines[FIRST]
    else:
        there.world.machines[FIRST] = dataclasses.replace(there.world.machines[FIRST], state=state)
    key = f"runs/{RUN}/{lease.KEY}"
    there.world.ends[key] = lease.encode(lease.Lease(RUN, 1, FIRST, "its own"))

    recovered = recover_run(there.session, there.store.get(RUN), clock=there.world.clock)

    may_still_hand_over = state is InstanceState.SHUTTING_DOWN
    assert recovered.outcome is (Outcome.GOES_ON if may_still_hand_over else Outcome.STARTED), recovered
    if may_still_hand_over:
        del there.world.ends[key]
    there.teardown()


def test_a_run_that_was_stopped_is_recovered_by_no_other_computer(tmp_path: Path) -> None:
    there = Recovery()
    other = other_computer(there, tmp_path)
    there.world.end(FIRST)
    asking.refresh(there.session, [there.store.get(RUN)])
    stop_run(there.session, there.store.get(RUN))

    with patch.object(leases, "data_folder", lambda: tmp_path):
        recovered = recover_run(other, run_store(other).get(RUN), clock=there.world.clock)

    assert (recovered.outcome, recovered.why) == (Outcome.ENDED, "has ended as STOPPED")
    assert not there.world.going()
    other.database.close()
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


def test_whoever_looks_at_a_run_while_it_is_recovered_stops_nothing() -> None:
    """However slow the store is: between any two of the calls that it takes to recover it."""
    calls = -1
    looked = True
    while looked:
        calls, looked = calls + 1, False
        there = Recovery()
        there.world.end(FIRST, interrupted=True)
        asking.refresh(there.session, [there.store.get(RUN)])

        def look(there: Recovery = there) -> None:
            nonlocal looked
            looked = True
            asking.refresh(there.session, [there.store.get(RUN)])

        there.world.meanwhile = (calls, look)
        recovered = recover_run(there.session, there.store.get(RUN), clock=there.world.clock)
        assert recovered.outcome is Outcome.STARTED, calls
        assert there.store.get(RUN).state is RunPhase.RUNNING, calls
        there.world.meanwhile = None
        there.teardown()
    assert calls > 20
