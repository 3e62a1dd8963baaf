"""Which run an instance works for, and worked for: read from the records without making anything of the rest of them,
so that a command that only sums costs need not load what a run is."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from runctl.core.clock import parse_rfc3339
from runctl.core.database import Database
from runctl.core.ids import RunId
from runctl.core.run_phase import RunPhase
from runctl.core.text import time_span
from runctl.costs.report import RunTime


def run_times(database: Database) -> Sequence[RunTime]:
    """When each run worked on which instance, attempt by attempt. Raises `StateError`."""
    with database.reading() as connection:
        rows = connection.execute(
            "SELECT id, attempt, instance_id, created_at, ended_at, past, nodes FROM runs"
        ).fetchall()
    found = []
    for row in rows:
        began = parse_rfc3339(row["created_at"])
        over = _moment(row["ended_at"])
        found += [RunTime(row["id"], machine, began, over, row["attempt"]) for machine in _machines(row)]
        for past in json.loads(row["past"]):
            end = _moment(past["ended_at"]) or began
            start = parse_rfc3339(past["created_at"])
            machines = past.get("machines") or [past["instance_id"]]
            found += [RunTime(row["id"], machine, start, end, past["attempt"]) for machine in machines]
    return found


def working(database: Database) -> Mapping[str, RunId]:
    """The run that has not ended, by the instance that it works on; of several, that which began first.

    Raises `StateError`.
    """
    with database.reading() as connection:
        rows = connection.execute(
            "SELECT instance_id, id, nodes FROM runs WHERE state != ? ORDER BY created_at DESC",
            (RunPhase.ENDED.value,),
        ).fetchall()
    return {machine: RunId(row["id"]) for row in rows for machine in _machines(row)}


def _machines(row: sqlite3.Row) -> Sequence[str]:
    """Those of the newest attempt."""
    if row["nodes"] is None:
        return [row["instance_id"]]
    return [node["instance_id"] for node in json.loads(row["nodes"])["nodes"]]


def checkpoint_alarms(database: Database) -> Mapping[str, str]:
    """What was wrong with the checkpoints of each run that has not ended, when its machine was last asked; in words.

    Raises `StateError`.
    """
    with database.reading() as connection:
        rows = connection.execute(
            "SELECT id, checkpoint FROM runs WHERE state != ? AND checkpoint IS NOT NULL",
            (RunPhase.ENDED.value,),
        ).fetchall()
    told = {row["id"]: json.loads(row["checkpoint"]) for row in rows}
    alarms = {
        run: checkpoint_alarm(each.get("late_seconds", 0.0), each.get("trouble", ""))
        for run, each in told.items()
    }
    return {run: alarm for run, alarm in alarms.items() if alarm}


def checkpoint_alarm(late_seconds: float, trouble: str) -> str:
    """What is wrong with a run's newest checkpoint; empty if nothing is. Pure."""
    late = f"is {time_span(timedelta(seconds=late_seconds))} older than it should be" if late_seconds else ""
    return "; ".join(filter(None, (late, f"is not published: {trouble}" if trouble else "")))


def _moment(text: str | None) -> datetime | None:
    return parse_rfc3339(text) if text else None
