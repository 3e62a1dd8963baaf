"""What of ended runs may go."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from runctl.agent.end_reason import EndReason
from runctl.core.ids import InstanceId
from runctl.core.run_models import RunPhase
from runctl.runs.pruning import HERE, Kept, MachineRun, left_in_stores, prunable
from runctl.runs.records.run_record import RunRecord
from runctl.runs.run_logs.archive import KeptRun
from tests.runs.nodes.records import on_machines
from tests.runs.sample_runs import a_run

NOW = datetime(2026, 5, 1, tzinfo=UTC)
BEFORE = NOW - timedelta(days=30)
OLD, NEW = BEFORE - timedelta(days=1), BEFORE + timedelta(days=1)


def ended(run_id: str, at: datetime) -> RunRecord:
    return a_run(run_id, state=RunPhase.ENDED, end_reason=EndReason.COMPLETED, ended_at=at)


def machine(run_id: str, *, ended: bool = True) -> MachineRun:
    return MachineRun(run_id, ended, work_bytes=10, result_bytes=5)


def test_only_what_ended_long_ago_goes_and_results_and_records_only_when_asked() -> None:
    old, new = ended("run-old", OLD), ended("run-new", NEW)
    living = a_run("run-living")
    on = InstanceId(old.instance_id)
    runs = [
        machine("run-old"),
        machine("run-new"),
        machine("run-living", ended=False),
        machine("run-of-another"),
    ]
    logs = [KeptRun("run-old", 7, OLD.timestamp()), KeptRun("run-new", 7, OLD.timestamp())]

    plain = prunable([old, new, living], logs, {on: runs}, before=BEFORE)
    everything = prunable([old, new, living], logs, {on: runs}, before=BEFORE, results=True, record=True)

    assert [(item.run_id, item.kept, item.where, item.size_bytes) for item in plain] == [
        ("run-old", Kept.LOG, HERE, 7),
        ("run-old", Kept.WORK, on, 10),
    ]
    assert [entry.kept for entry in everything] == [Kept.LOG, Kept.WORK, Kept.RESULTS, Kept.RECORD]
    assert {candidate.run_id for candidate in everything} == {"run-old"}


def test_a_run_that_the_machine_says_goes_on_stays_whatever_is_remembered() -> None:
    old = ended("run-old", OLD)
    on = InstanceId(old.instance_id)
    assert prunable([old], [], {on: [machine("run-old", ended=False)]}, before=BEFORE, results=True) == ()


def test_a_log_without_a_record_goes_by_its_age() -> None:
    logs = [KeptRun("run-a", 1, OLD.timestamp()), KeptRun("run-b", 1, NEW.timestamp())]
    assert [item.run_id for item in prunable([], logs, {}, before=BEFORE)] == ["run-a"]


def test_every_machine_of_a_run_may_keep_something_of_it() -> None:
    several = on_machines("run-a", "i-0", "i-1", logs=(b"", b""), ended_at=OLD)
    machines = {InstanceId(each): [machine("run-a")] for each in ("i-0", "i-1", "i-2")}
    found = prunable([several], [], machines, before=BEFORE)
    assert [(item.kept, item.where) for item in found] == [(Kept.WORK, "i-0"), (Kept.WORK, "i-1")]


def test_what_a_forgotten_run_has_published_is_said_to_stay() -> None:
    runs = [replace(ended(f"run-{each}", OLD), store="s3://mine/runs") for each in "abcd"]
    plain = replace(ended("run-plain", OLD), store=None)
    records = [*runs, plain]

    told = left_in_stores(records, prunable(records, [], {}, before=BEFORE, record=True))
    of_one = left_in_stores(runs[:1], prunable(runs[:1], [], {}, before=BEFORE, record=True))

    assert told == (
        "what is at s3://mine/runs/run-a, s3://mine/runs/run-b, s3://mine/runs/run-c and 1 more stays,"
        " and is billed as long as it is there"
    )
    assert of_one.startswith("what is at s3://mine/runs/run-a stays")
    assert left_in_stores(records, prunable(records, [], {}, before=BEFORE)) == ""
    assert left_in_stores([plain], prunable([plain], [], {}, before=BEFORE, record=True)) == ""
