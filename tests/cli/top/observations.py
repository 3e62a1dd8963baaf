"""What a dashboard is told, made by the functions that make it from the ledger and from machines' answers."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from runctl.agent.deadline_spec import ProgressStatus
from runctl.agent.end_reason import EndReason
from runctl.agent.spec import AttemptStatus, RunState
from runctl.core.ids import InstanceId
from runctl.core.run_models import RunPhase
from runctl.costs.budget import BudgetUse, Limit, Period
from runctl.costs.entries import EntryState
from runctl.runs.observing import Observation, watched
from runctl.runs.records.run_record import RunRecord, as_known
from runctl.runs.records.shown_run import as_run
from runctl.runs.records.updates import from_status
from runctl.runs.status import status_of
from tests.costs.entries import an_entry, at, interval
from tests.runs.sample_runs import a_record

NOW = at("2026-06-11 12:00")


def machine(identifier: str, **changes: object) -> Any:
    given = {"shape": "g5.xlarge", "market": "spot", "state": EntryState.OPEN, "ended_at": None, **changes}
    return an_entry(identifier, interval("2026-06-11 10:00", None, "0.50"), **given)


def told(**changes: Any) -> AttemptStatus:
    """A machine's answer about a run that it works on, an hour after the script began."""
    status = AttemptStatus(
        "run-a",
        1,
        RunState.RUNNING,
        started_at=at("2026-06-11 11:00").timestamp(),
        now=NOW.timestamp(),
        pid=7,
        cpu_percent=180.0,
        cpu_seconds=6480.0,
        rss_bytes=3 << 30,
        gpu_percent=91.0,
        progress=ProgressStatus(420, 1000, NOW.timestamp(), 0, at("2026-06-11 11:00").timestamp()),
    )
    return replace(status, **changes)


def interrupted_before(record: RunRecord) -> RunRecord:
    """Its first attempt was taken back."""
    first = replace(
        record,
        instance_id=InstanceId("i-0"),
        ended_at=at("2026-06-11 10:55"),
        end_reason=EndReason.INTERRUPTED,
    )
    return replace(record, attempt=2, past=(as_known(first),))


def an_observation(*, problems: tuple[str, ...] = ()) -> Observation:
    """Two machines, one with a run that is about to lose it; and a run that failed."""
    going = interrupted_before(a_record("run-a", "i-1", "2026-06-11 10:58", None, instance_name="box"))
    answer = told(attempt=2, machine_ends_at=NOW.timestamp() + 110)
    failed = a_record(
        "run-b",
        "i-9",
        "2026-06-11 08:00",
        "2026-06-11 09:30",
        started_at=at("2026-06-11 08:01"),
        end_reason=EndReason.FAILED,
        exit_code=1,
        state=RunPhase.ENDED,
    )
    status = status_of(
        [
            machine("i-1", name="box"),
            machine("i-2", market="on-demand", region="eu-west-1", zone="eu-west-1b"),
        ],
        {"i-1": "run-a"},
        NOW,
        today=Decimal("7.10"),
        month=Decimal("70.25"),
        budget=[BudgetUse(Limit(Period.DAY, Decimal(10)), Decimal(7), Decimal(0))],
    )
    runs = (
        watched(as_run(from_status(going, answer, NOW), NOW), answer),
        watched(as_run(failed, NOW), None),
    )
    return Observation(status, runs, problems)


class Fixed:
    """Tells the same each time, and counts how often everything was asked for."""

    def __init__(self, *found: Observation) -> None:
        self.found = list(found) or [an_observation()]
        self.asked: list[bool] = []

    def known(self) -> Observation:
        return self.found[0]

    def observe(self, *, everything: bool = False) -> Observation:
        self.asked.append(everything)
        return self.found.pop(0) if len(self.found) > 1 else self.found[0]
