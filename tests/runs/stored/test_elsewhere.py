"""The attempts that others have started, by what they and their machines have written into the store."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.checkpoints.layout import end_key
from runctl.agent.encoding import dumps
from runctl.agent.spec import AttemptStatus, EndReason, EndRecord, RunSpec, RunState
from runctl.agent.stored_run import StoredMachine, machine_key, status_key
from runctl.checkpoints.download import Prefix
from runctl.core.errors import InstanceEnded
from runctl.core.ids import InstanceId
from runctl.core.run_models import RunPhase
from runctl.runs.records.run_record import RunRecord, attempts_of, planned, with_end
from runctl.runs.stored.elsewhere import attempts_in_store, told_by_store
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
