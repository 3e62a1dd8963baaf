"""A machine's word on a run is remembered where the machine may say so, and where it is news."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runctl.agent.end_reason import EndReason
from runctl.agent.spec import AttemptStatus, EndRecord, RunState
from runctl.core.database import Database
from runctl.core.errors import InstanceEnded
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance
from runctl.core.run_models import RunPhase
from runctl.core.tags import ATTEMPT, RUN
from runctl.providers.interface import Scope
from runctl.runs.records.adopting import adopt, may_tell
from runctl.runs.records.run_record import RunRecord, as_known
from runctl.runs.records.store import RunStore
from runctl.runs.records.updates import adopted
from tests.cli.fake_provider import an_instance
from tests.costs.entries import at
from tests.runs.nodes.records import on_machines
from tests.runs.sample_runs import a_record

NOW = at("2026-06-01 14:00")
COMPLETED = EndRecord(EndReason.COMPLETED, 0.0, exit_code=0)
ENDED = AttemptStatus("run-a", 1, RunState.ENDED, end=COMPLETED)
RUNNING = AttemptStatus("run-a", 1, RunState.RUNNING)
KNOWN = a_record("run-a", "i-1", "2026-06-01 12:00", None)


def told(known: RunRecord | None, status: AttemptStatus, instance: Instance) -> RunRecord | None:
    return adopted(known, status, instance, NOW, None, "111122223333")


def test_one_machine_of_several_does_not_tell_how_the_run_is() -> None:
    several = on_machines("run-a", "i-0", "i-1")

    assert told(several, ENDED, an_instance("i-1")) is several
    one = told(KNOWN, ENDED, an_instance("i-1"))
    assert one is not None
    assert one.end_reason is EndReason.COMPLETED


@pytest.mark.parametrize(
    ("tags", "may"),
    [
        ({RUN: "run-a"}, True),
        ({ATTEMPT: "run-a/2"}, True),
        ({}, False),
        ({RUN: "run-b"}, False),
        ({ATTEMPT: "run-ab/2"}, False),
        ({"run": "run-a"}, False),
    ],
)
def test_only_its_own_machine_tells_how_a_run_is(tags: dict[str, str], may: bool) -> None:
    record = told(KNOWN, ENDED, an_instance("i-2", tags=tags))

    assert (record is not None) is may


def test_the_machine_of_an_earlier_attempt_tells_nothing_any_more() -> None:
    later = replace(KNOWN, instance_id=InstanceId("i-3"), attempt=2, past=(as_known(KNOWN),))

    assert told(later, ENDED, an_instance("i-1")) is None
    # One that was rented for the run may speak, of an attempt that is over.
    assert told(later, ENDED, an_instance("i-1", tags={RUN: "run-a"})) is later


def test_a_later_attempt_is_on_the_machine_that_tells_of_it() -> None:
    record = told(
        KNOWN, replace(RUNNING, attempt=3), an_instance("i-2", tags={RUN: "run-a"}, zone="us-east-1f")
    )

    assert record is not None
    assert (record.attempt, record.instance_id, record.zone) == (3, "i-2", "us-east-1f")
    assert [(each.attempt, each.instance_id) for each in record.past] == [(1, "i-1")]


@pytest.mark.parametrize(
    "word", [None, InstanceEnded("it was taken back", interrupted=True, at=at("2026-06-01 12:30"))]
)
def test_an_attempt_that_another_one_has_followed_has_ended(word: InstanceEnded | None) -> None:
    began = at("2026-06-01 13:00")
    following = replace(RUNNING, attempt=2, created_at=began.timestamp())

    record = adopted(
        KNOWN, following, an_instance("i-2", tags={RUN: "run-a"}), NOW, None, None, lambda _: word
    )

    assert record is not None
    (before,) = record.past
    assert (before.end_reason, before.ended_at) == (
        (EndReason.LOST, began) if word is None else (EndReason.INTERRUPTED, word.at)
    )
    assert (record.end_reason, record.ended_at, record.message) == (None, None, "")


def test_a_run_that_had_no_machine_is_on_the_one_that_tells_of_it() -> None:
    waiting = replace(KNOWN, instance_id=InstanceId(""), state=RunPhase.PENDING)

    record = told(waiting, RUNNING, an_instance("i-2", tags={RUN: "run-a"}))

    assert record is not None
    assert (record.instance_id, record.state, record.past) == ("i-2", RunPhase.RUNNING, ())


@pytest.mark.parametrize(
    ("reason", "status", "state", "after"),
    [
        # A machine that was slow, and one that was thought to be gone.
        (EndReason.NOT_STARTED, RUNNING, RunPhase.RUNNING, None),
        (EndReason.NOT_STARTED, ENDED, RunPhase.ENDED, EndReason.COMPLETED),
        (EndReason.LOST, ENDED, RunPhase.ENDED, EndReason.COMPLETED),
        (EndReason.UNSEEN, ENDED, RunPhase.ENDED, EndReason.COMPLETED),
        (EndReason.LOST, RUNNING, RunPhase.ENDED, EndReason.LOST),
        (EndReason.STOPPED, ENDED, RunPhase.ENDED, EndReason.STOPPED),
    ],
)
def test_an_end_stays_unless_the_machine_knows_better(
    reason: EndReason, status: AttemptStatus, state: RunPhase, after: EndReason | None
) -> None:
    ended = replace(KNOWN, state=RunPhase.ENDED, end_reason=reason, ended_at=NOW)

    record = told(ended, status, an_instance("i-1"))

    assert record is not None
    assert (record.state, record.end_reason) == (state, after)


class Elsewhere:
    """The provider of the machine, in the account and region that it was rented in."""

    region = "eu-north-1"

    def scope(self) -> Scope:
        return Scope(account="111122223333")


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(Database(tmp_path / "state.db"))


def machine(identifier: str) -> Any:
    return SimpleNamespace(provider=Elsewhere(), instance=an_instance(identifier))


def test_a_new_run_is_remembered_with_where_its_machine_was_rented(store: RunStore) -> None:
    record = adopt(machine("i-9"), RUNNING, store, NOW)

    assert record is not None
    assert (record.instance_id, record.region, record.account) == ("i-9", "eu-north-1", "111122223333")
    assert store.get("run-a") == record


def test_nothing_is_remembered_of_what_a_machine_says_of_the_run_of_another_one(store: RunStore) -> None:
    store.put(KNOWN)

    assert not may_tell(machine("i-9"), "run-a", store)
    assert adopt(machine("i-9"), ENDED, store, NOW) is None
    assert store.get("run-a") == KNOWN
    assert may_tell(machine("i-1"), "run-a", store)
    assert may_tell(machine("i-9"), "run-b", store)


def test_the_account_that_is_known_stays(store: RunStore) -> None:
    store.put(replace(KNOWN, account="444455556666"))

    record = adopt(machine("i-1"), RUNNING, store, NOW)

    assert record is not None
    assert record.account == "444455556666"


def test_what_has_changed_while_the_machine_was_asked_counts(store: RunStore) -> None:
    store.put(KNOWN)
    stopped = replace(KNOWN, state=RunPhase.ENDED, end_reason=EndReason.STOPPED, ended_at=NOW)

    class Slow(Elsewhere):
        def scope(self) -> Scope:
            store.put(stopped)
            return super().scope()

    slow: Any = SimpleNamespace(provider=Slow(), instance=an_instance("i-1"))

    assert adopt(slow, ENDED, store, NOW) == stopped
    assert store.get("run-a") == stopped
