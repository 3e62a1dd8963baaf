"""What this computer remembers of its runs. The machines hold the truth."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from runctl.agent.after_run import MachineEnd
from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.deadline_spec import DeadlineSpec, ProgressStatus
from runctl.agent.encoding import dumps, from_json, loads
from runctl.agent.end_reason import RETRIED, EndReason
from runctl.agent.interruption import HandOff
from runctl.core.clock import parse_rfc3339
from runctl.core.database import Database
from runctl.core.errors import NotFound, UsageError
from runctl.core.ids import RunId, VolumeId
from runctl.core.machine_models import Mount
from runctl.core.names import LATEST, did_you_mean
from runctl.core.run_models import (
    FetchedResults,
    GitState,
    MovedVolume,
    RunPhase,
    SpotFallback,
    UnattendedRun,
)
from runctl.runs.records.node_records import KnownNodes
from runctl.runs.records.run_record import KnownAttempt, RunRecord

if TYPE_CHECKING:
    from runctl.machines.session import Session

_COLUMNS = tuple(field.name for field in fields(RunRecord))
_WRITTEN = tuple(name for name in _COLUMNS if name != "fetched")
"""Those that a record is written to: whoever has read it before its results came does not take their place away."""

_AGENT_DOCUMENTS: Mapping[str, type[CheckpointStatus | ProgressStatus | DeadlineSpec]] = {
    "checkpoint": CheckpointStatus,
    "resumed": CheckpointStatus,
    "progress": ProgressStatus,
    "deadline": DeadlineSpec,
}
"""What the agent's contract has, kept as its JSON."""


def run_store(session: Session) -> RunStore:
    """The runs that the session's computer remembers; the file is opened when it is first needed."""
    return RunStore(session.database)


class RunStore:
    """Runs in the local state file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, record: RunRecord) -> None:
        """The record is what the file holds for its id."""
        with self._database.transaction() as connection:
            self._write(connection, record)
        self._note_end(record)

    def put_unless_followed(self, record: RunRecord) -> None:
        """As `put`, unless the file has a later attempt of the run: another one has been started meanwhile."""
        with self._database.transaction() as connection:
            row = connection.execute("SELECT attempt FROM runs WHERE id = ?", (record.id,)).fetchone()
            if row is not None and row["attempt"] > record.attempt:
                return
            self._write(connection, record)
        self._note_end(record)

    def _note_end(self, record: RunRecord) -> None:
        if record.end_reason is EndReason.INTERRUPTED and record.ended_at is not None:
            rehearsed = record.hand_off is not None and record.hand_off.is_rehearsal
            of_one = () if rehearsed else record.machines
            taken_back = of_one if record.nodes is None else record.nodes.taken_back
            for instance_id in taken_back:
                from runctl.machines.pool_record import note_interrupted

                note_interrupted(self._database, instance_id, record.ended_at)

    def _write(self, connection: sqlite3.Connection, record: RunRecord) -> None:
        names = ", ".join(_WRITTEN)
        marks = ", ".join("?" * len(_WRITTEN))
        changes = ", ".join(f"{name} = excluded.{name}" for name in _WRITTEN if name != "id")
        connection.execute(
            f"INSERT INTO runs ({names}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {changes}",  # noqa: S608 (names are constants)
            _to_row(record),
        )
        if record.machine_end is not None:
            for instance_id in record.machines:
                from runctl.costs.ledger import note_run

                note_run(connection, instance_id, record.id, record.attempt)
        if record.has_ended and record.end_reason not in RETRIED:
            # It has ended for good: nobody needs its variables' values any more.
            connection.execute("DELETE FROM recipes WHERE run_id = ?", (record.id,))

    def replace(self, record: RunRecord, before: RunRecord) -> bool:
        """The record is what the file holds, unless the attempt or the end there is another one than ``before`` has."""
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT attempt, end_reason FROM runs WHERE id = ?", (record.id,)
            ).fetchone()
            reason = before.end_reason.value if before.end_reason is not None else None
            if row is None or (row["attempt"], row["end_reason"]) != (before.attempt, reason):
                return False
            self._write(connection, record)
        self._note_end(record)
        return True

    def note_fetched(self, run_id: RunId, fetched: FetchedResults) -> None:
        """All that the run wrote is on this computer, and its record says where."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE runs SET fetched = ? WHERE id = ?", (msgspec.json.encode(fetched).decode(), run_id)
            )

    def forget(self, run_id: RunId) -> None:
        """There is no record of the run."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM runs WHERE id = ?", (run_id,))
            connection.execute("DELETE FROM recipes WHERE run_id = ?", (run_id,))

    def get(self, reference: str) -> RunRecord:
        """The run that a user means: by its id, an unambiguous beginning of it, its name, or `LATEST`.

        Raises `NotFound`, and `UsageError` (code ``ambiguous``) when several are meant.
        """
        if not reference.strip():
            # Of the empty text everything is a beginning, and an unset shell variable is one.
            raise UsageError("a run is needed here, and an empty text was given", hint="runctl runs list")
        found = self._latest() if reference == LATEST else self._meant_by(reference)
        if not found:
            raise self._unknown(reference)
        if len(found) > 1:
            ids = [record.id for record in found]
            shown = ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
            what = "the name" if found[0].name == reference else "the beginning"
            raise UsageError(
                f"{reference} is {what} of several runs: {shown}", hint="use its id", code="ambiguous"
            )
        return found[0]

    def _latest(self) -> Sequence[RunRecord]:
        return self.list(limit=1)

    def _meant_by(self, reference: str) -> Sequence[RunRecord]:
        """By the id, else by the name, else by the beginning of the id; newest first."""
        with self._database.reading() as connection:
            for condition in ("id = :text", "name = :text", "substr(id, 1, length(:text)) = :text"):
                rows = connection.execute(
                    f"SELECT * FROM runs WHERE {condition} ORDER BY created_at DESC, id",  # noqa: S608 (constants)
                    {"text": reference},
                ).fetchall()
                if rows:
                    return [_from_row(row) for row in rows]
        return []

    def _unknown(self, reference: str) -> NotFound:
        if reference == LATEST:
            return NotFound(
                "this computer has started no run yet",
                hint="runctl PROVIDER train starts one",
                code="run-not-found",
            )
        with self._database.reading() as connection:
            known = [text for row in connection.execute("SELECT id, name FROM runs") for text in row if text]
        return NotFound(
            f"this computer knows no run {reference}",
            hint=did_you_mean(reference, known)
            or "runctl runs list shows those it knows; a machine's own: runctl PROVIDER processes INSTANCE",
            code="run-not-found",
        )

    def find(self, run_id: str) -> RunRecord | None:
        """One run by its whole id, or ``None``."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
        return _from_row(row) if row is not None else None

    def list(
        self,
        *,
        instance: str | None = None,
        project: str | None = None,
        name: str | None = None,
        limit: int | None = None,
    ) -> Sequence[RunRecord]:
        """Newest first; of one instance (by id or name), one project, one name, where these are given.

        A run on several machines is of each of them.
        """
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM runs WHERE (:instance IS NULL OR :instance IN (instance_id, instance_name)"
                "   OR EXISTS (SELECT 1 FROM json_each(nodes, '$.nodes') AS node WHERE :instance IN"
                "     (json_extract(node.value, '$.instance_id'), json_extract(node.value, '$.name'))))"
                " AND (:project IS NULL OR :project IN (project, substr(project, 1, length(project) - 9)))"
                " AND (:name IS NULL OR name = :name)"
                " ORDER BY created_at DESC, id LIMIT :limit",
                {
                    "instance": instance,
                    "project": project,
                    "name": name,
                    "limit": -1 if limit is None else limit,
                },
            ).fetchall()
        return [_from_row(row) for row in rows]


def _to_row(record: RunRecord) -> tuple[object, ...]:
    values = {
        **{name: getattr(record, name) for name in _WRITTEN},
        "args": json.dumps(record.args),
        "state": record.state.value,
        "end_reason": record.end_reason.value if record.end_reason is not None else None,
        "created_at": record.created_at.isoformat(),
        "started_at": record.started_at.isoformat() if record.started_at else None,
        "ended_at": record.ended_at.isoformat() if record.ended_at else None,
        "search_began_at": record.search_began_at.isoformat() if record.search_began_at else None,
        "mounts": json.dumps([asdict(mount) for mount in record.mounts]),
        "price_per_hour": str(record.price_per_hour) if record.price_per_hour is not None else None,
        "interpreter": json.dumps(record.interpreter),
        "variables": json.dumps(record.variables),
        "git": json.dumps(asdict(record.git)) if record.git is not None else None,
        "hand_off": dumps(record.hand_off) if record.hand_off is not None else None,
        "machine_end": dumps(record.machine_end) if record.machine_end is not None else None,
    }
    for column in _AGENT_DOCUMENTS:
        values[column] = dumps(values[column]) if values[column] is not None else None
    for column in ("past", "moved_volumes"):
        values[column] = msgspec.json.encode(values[column]).decode()
    if record.fallback is not None:
        values["fallback"] = msgspec.json.encode(record.fallback).decode()
    if record.nodes is not None:
        values["nodes"] = msgspec.json.encode(record.nodes).decode()
    if record.unattended is not None:
        values["unattended"] = msgspec.json.encode(record.unattended).decode()
    return tuple(values[name] for name in _WRITTEN)


def _from_row(row: sqlite3.Row) -> RunRecord:
    values = {name: row[name] for name in _COLUMNS}
    values["args"] = tuple(json.loads(row["args"]))
    values["state"] = RunPhase(row["state"])
    values["end_reason"] = EndReason(row["end_reason"]) if row["end_reason"] else None
    values["created_at"] = parse_rfc3339(row["created_at"])
    values["started_at"] = parse_rfc3339(row["started_at"]) if row["started_at"] else None
    values["ended_at"] = parse_rfc3339(row["ended_at"]) if row["ended_at"] else None
    searched = row["search_began_at"]
    values["search_began_at"] = parse_rfc3339(searched) if searched else None
    values["mounts"] = tuple(
        Mount(
            source=mount["source"],
            target=mount["target"],
            read_only=mount["read_only"],
            volume_id=VolumeId(mount["volume_id"]) if mount["volume_id"] else None,
            origin=mount["origin"],
        )
        for mount in json.loads(row["mounts"])
    )
    values["price_per_hour"] = Decimal(row["price_per_hour"]) if row["price_per_hour"] else None
    values["interpreter"] = tuple(json.loads(row["interpreter"]))
    values["variables"] = tuple(json.loads(row["variables"]))
    git = json.loads(row["git"]) if row["git"] else None
    values["git"] = GitState(**{**git, "changed": tuple(git["changed"])}) if git else None
    values["hand_off"] = from_json(HandOff, loads(row["hand_off"])) if row["hand_off"] else None
    ends = row["machine_end"]
    values["machine_end"] = from_json(MachineEnd, loads(ends)) if ends else None
    for column, kind in _AGENT_DOCUMENTS.items():
        values[column] = from_json(kind, loads(row[column])) if row[column] else None
    values["past"] = msgspec.json.decode(row["past"], type=tuple[KnownAttempt, ...])
    values["moved_volumes"] = msgspec.json.decode(row["moved_volumes"], type=tuple[MovedVolume, ...])
    fallback = row["fallback"]
    values["fallback"] = msgspec.json.decode(fallback, type=SpotFallback) if fallback else None
    unattended = row["unattended"]
    values["unattended"] = msgspec.json.decode(unattended, type=UnattendedRun) if unattended else None
    fetched = row["fetched"]
    values["fetched"] = msgspec.json.decode(fetched, type=FetchedResults) if fetched else None
    nodes = row["nodes"]
    values["nodes"] = msgspec.json.decode(nodes, type=KnownNodes) if nodes else None
    return RunRecord(**values)
