"""What ended runs still keep, on this computer and on machines, and what of it may go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from runctl.core.ids import InstanceId
from runctl.runs.records import RunRecord
from runctl.runs.run_logs.archive import KeptRun


class Kept(StrEnum):
    """What is kept of a run."""

    LOG = "log"
    """A copy of its log, on this computer."""
    WORK = "work"
    """Its log, environment and copy of the project, on the machine."""
    RESULTS = "results"
    """Checkpoints and output that are on the machine's own disk."""
    RECORD = "record"
    """What ``runs show`` knows."""


@dataclass(frozen=True)
class MachineRun:
    """What a machine keeps of one run."""

    run_id: str
    ended: bool
    work_bytes: int
    result_bytes: int


@dataclass(frozen=True)
class Prunable:
    """One thing that may go."""

    run_id: str
    kept: Kept
    where: str
    """The instance's id, or ``here``."""
    size_bytes: int
    ended_at: datetime | None


HERE = "here"


def prunable(
    records: Sequence[RunRecord],
    archive: Sequence[KeptRun],
    machines: Mapping[InstanceId, Sequence[MachineRun]],
    *,
    before: datetime,
    results: bool = False,
    record: bool = False,
) -> tuple[Prunable, ...]:
    """What ended ``before`` a moment, by run. Pure.

    Never what goes on, and never what this computer knows no run of: somebody else's. Checkpoints and output only with
    ``results``, and then only those of a machine's own disk; the record only with ``record``.
    """
    found: list[Prunable] = []
    logs = {kept.run_id: kept for kept in archive}
    for run in records:
        if not run.has_ended or run.ended_at is None or run.ended_at >= before:
            continue
        log = logs.pop(run.id, None)
        if log is not None:
            found.append(Prunable(run.id, Kept.LOG, HERE, log.size_bytes, run.ended_at))
        for there in machines.get(run.instance_id, ()):
            if there.run_id != run.id or not there.ended:
                continue
            where = str(run.instance_id)
            if there.work_bytes:
                found.append(Prunable(run.id, Kept.WORK, where, there.work_bytes, run.ended_at))
            if results and there.result_bytes:
                found.append(Prunable(run.id, Kept.RESULTS, where, there.result_bytes, run.ended_at))
        if record:
            found.append(Prunable(run.id, Kept.RECORD, HERE, 0, run.ended_at))
    known = {run.id for run in records}
    for kept in logs.values():
        # Its record is gone: the log is all that is known of it.
        changed = datetime.fromtimestamp(kept.changed_at, UTC)
        if kept.run_id not in known and changed < before:
            found.append(Prunable(kept.run_id, Kept.LOG, HERE, kept.size_bytes, None))
    return tuple(found)
