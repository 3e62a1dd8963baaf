"""An intent is durable before the call, belongs to one process at a time, and is taken up by the same request."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runctl.core.database import Database, StateError
from runctl.core.journal import Change, Effect
from runctl.machines.intents import (
    Intent,
    IntentState,
    IntentStore,
    Kind,
    Sighting,
    digest_of,
    is_worth_taking_up,
    taken_up,
)
from runctl.providers.abilities.volume_plans import VolumeRequest
from runctl.providers.instance_plans import InstanceRequest, VolumeMount

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
INTENT = Intent("token", Kind.VOLUME, "aws", "123456789012", "us-east-1", "digest", "data", None, NOW)


@pytest.fixture
def store(tmp_path: Path) -> IntentStore:
    return IntentStore(Database(tmp_path / "state.db"), tmp_path / "intents")


@pytest.mark.parametrize(
    ("kind", "age", "known", "seen", "worth"),
    [
        # A thing that exists is finished, however long ago it was begun.
        (Kind.INSTANCE, timedelta(days=3), True, True, True),
        (Kind.VOLUME, timedelta(days=3), False, True, True),
        # Nothing is to be seen: the call may have been answered by nobody yet, or was never made.
        (Kind.INSTANCE, timedelta(minutes=1), False, False, True),
        (Kind.INSTANCE, timedelta(hours=2), False, False, False),
        # It was seen before and is gone.
        (Kind.INSTANCE, timedelta(minutes=1), True, False, False),
        # A copy has the data of its own moment.
        (Kind.SNAPSHOT, timedelta(minutes=1), True, True, True),
        (Kind.SNAPSHOT, timedelta(minutes=11), True, True, False),
        (Kind.CLONE, timedelta(minutes=11), True, True, False),
    ],
)
def test_which_open_intents_the_same_command_means(
    kind: Kind, age: timedelta, known: bool, seen: bool, worth: bool
) -> None:
    intent = replace(INTENT, kind=kind, created_at=NOW - age, resource_id="x-1" if known else None)
    assert is_worth_taking_up(intent, NOW, seen=seen) is worth


SCOPE = {"account": "1", "region": "us-east-1", "defaults": {"spot": False}}
REQUEST = InstanceRequest(
    instance_type="m7i.large", volumes=(VolumeMount("data", "/mnt/data"),), tags={"a": "1"}
)


@pytest.mark.parametrize(
    ("kind", "scope", "request_", "same"),
    [
        (Kind.INSTANCE, SCOPE, replace(REQUEST, token="another"), True),
        (Kind.INSTANCE, SCOPE, replace(REQUEST, tags=dict(REQUEST.tags)), True),
        (Kind.INSTANCE, SCOPE, replace(REQUEST, name="other"), False),
        (Kind.INSTANCE, SCOPE, replace(REQUEST, ttl=timedelta(hours=1)), False),
        (Kind.INSTANCE, SCOPE, replace(REQUEST, volumes=()), False),
        (Kind.INSTANCE, {**SCOPE, "region": "eu-west-1"}, REQUEST, False),
        (Kind.INSTANCE, {**SCOPE, "account": "2"}, REQUEST, False),
        (Kind.INSTANCE, {**SCOPE, "defaults": {"spot": True}}, REQUEST, False),
        (Kind.VOLUME, SCOPE, VolumeRequest(1), False),
    ],
)
def test_which_requests_are_the_same(
    kind: Kind, scope: dict[str, object], request_: object, same: bool
) -> None:
    assert (digest_of(kind, scope, request_) == digest_of(Kind.INSTANCE, SCOPE, REQUEST)) is same


def test_it_is_read_as_it_was_written(store: IntentStore) -> None:
    store.put(INTENT)
    assert store.get("token") == INTENT
    assert store.unfinished() == [INTENT]


def test_what_is_gone_nobody_has_to_finish(store: IntentStore) -> None:
    store.put(replace(INTENT, resource_id="vol-1"))
    store.heard(Change("attachment", ("vol-1", "i-1"), Effect.GONE, "detached"))
    assert len(store.unfinished()) == 1
    store.heard(Change("volume", ("vol-1",), Effect.GONE, "deleted"))
    assert store.unfinished() == []


def test_a_machine_that_was_stopped_is_still_there(store: IntentStore) -> None:
    store.put(replace(INTENT, kind=Kind.INSTANCE, resource_id="i-1"))
    store.heard(Change("running", ("i-1",), Effect.GONE, "being stopped"))
    assert len(store.unfinished()) == 1


def test_what_is_made_ready_says_nothing_of_its_deletion(store: IntentStore) -> None:
    store.put(replace(INTENT, kind=Kind.INSTANCE, resource_id="i-1"))
    store.put(replace(INTENT, token="deletion", kind=Kind.TERMINATION, resource_id="i-1"))
    store.close(IntentState.DONE, "i-1")
    assert [intent.token for intent in store.unfinished()] == ["deletion"]


def test_a_ledger_hears_of_every_intent(store: IntentStore) -> None:
    heard: list[Intent] = []
    store.listen(heard.append)
    store.put(INTENT)
    store.put(replace(INTENT, state=IntentState.DONE))
    assert [intent.state for intent in heard] == [IntentState.OPEN, IntentState.DONE]


def test_the_newest_open_one_is_taken_up_and_is_free_again_afterwards(store: IntentStore) -> None:
    store.put(INTENT)
    store.put(replace(INTENT, token="newer", created_at=NOW + timedelta(seconds=1)))
    for _ in range(2):
        with taken_up(store, "digest", NOW, lambda intent: Sighting(f"vol-{intent.token}")) as (found, _lock):
            assert found is not None
            assert (found.token, found.resource_id) == ("newer", "vol-newer")


def test_one_that_is_being_carried_out_is_left_alone(store: IntentStore) -> None:
    store.put(INTENT)
    lock = store.lock("token")
    assert lock is not None
    with taken_up(store, "digest", NOW, lambda _: Sighting("vol-1")) as (found, _lock):
        assert found is None
    lock.release(for_good=False)
    with taken_up(store, "digest", NOW, lambda _: Sighting("vol-1")) as (found, _lock):
        assert found is not None


def test_the_right_to_carry_it_out_ends_with_a_killed_process(store: IntentStore, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from runctl.core.database import Database;"
        " from runctl.machines.intents import IntentStore;"
        f" lock = IntentStore(Database(Path({str(tmp_path / 'state.db')!r})), Path({str(tmp_path / 'intents')!r}))"
        ".lock('token'); print(lock is not None, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert store.lock("token") is None
        holder.kill()
        holder.wait()
    lock = store.lock("token")
    assert lock is not None
    lock.release(for_good=True)


def test_one_that_cannot_be_finished_is_closed(store: IntentStore) -> None:
    store.put(replace(INTENT, resource_id="vol-1"))
    with taken_up(store, "digest", NOW, lambda _: Sighting(ended=True)) as (found, _lock):
        assert found is None
    closed = store.get("token")
    assert closed is not None
    assert closed.state is IntentState.GONE


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "intents").write_text("a file")
    with pytest.raises(StateError, match="intents") as caught:
        IntentStore(Database(tmp_path / "state.db"), tmp_path / "intents").lock("token")
    assert "nothing was created" in caught.value.hint
