"""Which run an instance works for, and worked for: read from the records without making anything of the rest of them,
so that a command that only sums costs need not load what a run is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from runctl.core.clock import parse_rfc3339
from runctl.core.database import Database
from runctl.core.ids import RunId
from runctl.core.run_models import RunPhase
from runctl.costs.report import RunTime


def run_times(database: Database) -> Sequence[RunTime]:
    """When each run worked on which instance, attempt by attempt. Raises `StateError`."""
    with database.reading() as connection:
        rows = connection.execute(
            "SELECT id, attempt, instance_id, created_at, ended_at, past FROM runs"
        ).fetchall()
    found = []
    for row in rows:
        began = parse_rfc3339(row["created_at"])
        found.append(RunTime(row["id"], row["instance_id"], began, _moment(row["ended_at"]), row["attempt"]))
        for past in json.loads(row["past"]):
            end = _moment(past["ended_at"]) or began
            start = parse_rfc3339(past["created_at"])
            found.append(RunTime(row["id"], past["instance_id"], start, end, past["attempt"]))
    return found


def working(database: Database) -> Mapping[str, RunId]:
    """The run that has not ended, by the instance that it works on; of several, that which began first.

    Raises `StateError`.
    """
    with database.reading() as connection:
        rows = connection.execute(
            "SELECT instance_id, id FROM runs WHERE state != ? ORDER BY created_at DESC",
            (RunPhase.ENDED.value,),
        ).fetchall()
    return {row["instance_id"]: RunId(row["id"]) for row in rows}


def _moment(text: str | None) -> datetime | None:
    return parse_rfc3339(text) if text else None
