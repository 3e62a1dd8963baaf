"""The attempts that others have started, by what they and their machines have written into the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.checkpoints.layout import Manifest, StoredFile, encode, end_key, manifest_key
from runctl.agent.encoding import dumps
from runctl.agent.end_reason import EndReason
from runctl.agent.spec import AttemptStatus, EndRecord, RunSpec, RunState
from runctl.agent.stored_run import StoredMachine, StoredNode, StoredNodes, machine_key, nodes_key, status_key
from runctl.checkpoints.download import Prefix
from runctl.core.errors import InstanceEnded
from runctl.core.ids import InstanceId
from runctl.core.run_models import RunPhase
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.shown_run import attempts_of
from runctl.runs.records.updates import planned, with_end
from runctl.runs.stored.elsewhere import attempts_in_store, read_attempt, told_by_store, with_newest
from tests.runs.memory_storage import MemoryStorage
from tests.runs.mounts.machine import an_instance

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def caught_up(at: Prefix, record: RunRecord) -> RunRecord:
    def unknown(_: InstanceId) -> InstanceEnded | None:
        return None

    return told_by_store(record, attempts_in_store(at, record.attempt, 4), unknown)


def test_attempts_that_followed_elsewhere_are_in_the_record_with_their_ends() -> None:
    at = Prefix(MemoryStorage(), "mine", "runs/run-1")
    began = NOW.timestamp()

    def put(key: str, value: object) -> None:
        at.storage.put(at.bucket, at.key(key), dumps(value).encode())

    put(end_key(1), EndRecord(EndReason.INTERRUPTED, began + 60))
    # Nobody has come to renting for attempt 2.
    put(machine_key(3), StoredMachine("i-3", began + 100, "g5.xlarge", "us-east-1b", "spot", "0.5"))
    resumed = CheckpointStatus("/c/step-7.pt", began + 50, 7)
    put(status_key(3), AttemptStatus("run-1", 3, RunState.RUNNING, started_at=began + 130, resumed=resumed))
    put(end_key(3), EndRecord(EndReason.LOST, began + 300))
    put(machine_key(4), StoredMachine("i-4", began + 400, "g5.xlarge", "us-east-1c", "on-demand"))

    record = caught_up(at, planned(RunSpec("run-1", "train.py"), an_instance(), NOW, None))

    assert (record.attempt, record.instance_id, record.state) == (4, "i-4", RunPhase.PENDING)
    shown = attempts_of(record)
    assert [each.attempt for each in shown] == [1, 3, 4]
    assert [each.end_reason for each in shown] == ["INTERRUPTED", "LOST", None]
    assert (shown[1].zone, shown[1].market, str(shown[1].price_per_hour)) == ("us-east-1b", "spot", "0.5")
    assert shown[1].resumed_step == 7


def test_an_attempt_that_has_not_told_its_end_is_lost_where_another_one_followed() -> None:
    at = Prefix(MemoryStorage(), "mine", "runs/run-1")
    at.storage.put(
        at.bucket, at.key(machine_key(2)), dumps(StoredMachine("i-2", NOW.timestamp() + 9)).encode()
    )
    before = planned(RunSpec("run-1", "train.py"), an_instance(), NOW, None)

    assert caught_up(at, before).past[0].end_reason is EndReason.LOST
    known = with_end(before, EndRecord(EndReason.INTERRUPTED, NOW.timestamp()))
    assert caught_up(at, known).past[0].end_reason is EndReason.INTERRUPTED
    assert caught_up(at, replace(known, attempt=2)).attempt == 2


def test_what_was_published_is_known_before_the_machine_has_told_of_it() -> None:
    at, began = Prefix(MemoryStorage(), "mine", "runs/run-1"), NOW.timestamp()
    status = AttemptStatus(
        "run-1",
        1,
        RunState.RUNNING,
        started_at=began,
        checkpoint=CheckpointStatus("/c/a", began + 9, 1),
        checkpoint_dir="/c",
    )
    at.storage.put(at.bucket, at.key(status_key(1)), dumps(status).encode())
    file = StoredFile("step-2.pt", 1, "0" * 64)
    for number, step in ((1, 1), (2, 2)):
        made = Manifest("run-1", 1, number, "step-2.pt", began + 10 * step, (file,), step)
        at.storage.put(at.bucket, at.key(made.key), encode(made))
    at.storage.put(at.bucket, at.key(manifest_key(1, 3)), b"{}")
    at.storage.put(at.bucket, at.key(manifest_key(2, 1)), encode(replace(made, attempt=2, step=9)))
    lost = with_end(
        planned(RunSpec("run-1", "train.py"), an_instance(), NOW, None), EndRecord(EndReason.LOST, began + 60)
    )

    stored = with_newest(at, read_attempt(at, 1))
    newest = told_by_store(lost, [stored], lambda _: None).checkpoint

    assert newest is not None
    assert (newest.path, newest.step, newest.saved_at) == ("/c/step-2.pt", 2, began + 20)
    assert newest.published_at is not None


def test_a_machine_that_died_in_silence_has_told_the_store_how_far_it_was() -> None:
    at, began = Prefix(MemoryStorage(), "mine", "runs/run-1"), NOW.timestamp()
    status = AttemptStatus(
        "run-1",
        1,
        RunState.RUNNING,
        started_at=began + 9,
        resumed=CheckpointStatus("/c/step-7.pt", began - 50, 7),
        checkpoint=CheckpointStatus("/c/step-20.pt", began + 50, 20),
        log_bytes=5,
    )
    at.storage.put(at.bucket, at.key(status_key(1)), dumps(status).encode())
    lost = with_end(
        planned(RunSpec("run-1", "train.py"), an_instance(), NOW, None),
        EndRecord(EndReason.LOST, began + 60, log_bytes=9, log_sha256="0"),
    )

    told = caught_up(at, lost)

    (attempt,) = attempts_of(told)
    assert (attempt.resumed_step, attempt.step, attempt.end_reason) == (7, 20, "LOST")
    assert (told.state, told.log_bytes) == (RunPhase.ENDED, 9)
    assert caught_up(at, told) == told
    later = replace(told, checkpoint=CheckpointStatus("/c/step-30.pt", began + 55, 30))
    assert caught_up(at, later).checkpoint == later.checkpoint, "its machine was asked after it wrote that"
    stopped = replace(told, end_reason=EndReason.STOPPED)
    at.storage.put(at.bucket, at.key(end_key(1)), dumps(EndRecord(EndReason.INTERRUPTED, began)).encode())
    assert caught_up(at, stopped).end_reason is EndReason.STOPPED
    assert caught_up(at, told).end_reason is EndReason.INTERRUPTED


NODES = StoredNodes(
    "none", "t", 2, (StoredNode(0, "i-0", "10.0.0.4", "digits-0"), StoredNode(1, "i-1", "10.0.0.5"))
)


@pytest.mark.parametrize(
    ("ends", "reason"),
    [
        ({}, None),
        ({0: EndReason.COMPLETED}, None),
        ({0: EndReason.COMPLETED, 1: EndReason.COMPLETED}, "COMPLETED"),
        ({0: EndReason.COMPLETED, 1: EndReason.FAILED}, "FAILED"),
        ({0: EndReason.INTERRUPTED, 1: EndReason.COMPLETED}, "INTERRUPTED"),
    ],
)
def test_a_run_on_several_machines_has_ended_when_all_have_written_their_ends(
    ends: Mapping[int, EndReason], reason: str | None
) -> None:
    at, began = Prefix(MemoryStorage(), "mine", "runs/run-1"), NOW.timestamp()

    def put(key: str, value: object) -> None:
        at.storage.put(at.bucket, at.key(key), dumps(value).encode())

    put(nodes_key(1), NODES)
    put(status_key(1), AttemptStatus("run-1", 1, RunState.ENDED if 0 in ends else RunState.RUNNING))
    for rank, each in ends.items():
        put(end_key(1, rank), EndRecord(each, began + 60, script_ended_at=began + 50))

    record = caught_up(at, planned(RunSpec("run-1", "train.py"), an_instance(), NOW, None))

    assert record.machines == ("i-0", "i-1")
    assert (record.end_reason and record.end_reason.value, record.has_ended) == (reason, reason is not None)


def test_an_attempt_on_several_machines_that_followed_elsewhere_is_known_with_all_of_them() -> None:
    at, began = Prefix(MemoryStorage(), "mine", "runs/run-1"), NOW.timestamp()

    def put(key: str, value: object) -> None:
        at.storage.put(at.bucket, at.key(key), dumps(value).encode())

    later = replace(
        NODES, token="u", nodes=tuple(replace(each, instance_id=f"i-{each.rank + 2}") for each in NODES.nodes)
    )
    put(nodes_key(1), NODES)
    put(end_key(1), EndRecord(EndReason.LOST, began + 60, message="node 1 is silent", caused_by=1))
    put(machine_key(2), StoredMachine("i-2", began + 100))
    put(nodes_key(2), later)

    record = caught_up(at, planned(RunSpec("run-1", "train.py"), an_instance(), NOW, None))

    assert (record.attempt, record.machines, record.end_reason) == (2, ("i-2", "i-3"), None)
    (past,) = record.past
    assert (past.machines, past.nodes_token, past.end_reason) == (("i-0", "i-1"), "t", EndReason.LOST)
