"""The logs of all machines of a run are kept: on this computer, and beside its results."""

from __future__ import annotations

from pathlib import Path

from runctl.core.errors import RunctlError
from runctl.machines.session import Session
from runctl.runs.nodes.asking import nodes_of
from runctl.runs.nodes.following import lines_of
from runctl.runs.records.run_record import RunRecord
from runctl.runs.run_logs.archive import log_archive


def keep_logs(session: Session, record: RunRecord) -> RunRecord:
    """What the machines have written up to now is here, as far as they can be asked; the record with what they say.

    What is not is told.
    """
    try:
        followed = lines_of(session, record, lambda _rank, _offset, _line: None, to_the_end=record.has_ended)
    except RunctlError as error:
        session.progress.warn(f"not every log of {record.id} is here: {error.message}")
        return record
    for rank in followed.cut_short:
        session.progress.warn(f"the log of node {rank} is not complete: its machine cannot be asked any more")
    return followed.record


def other_logs(session: Session, record: RunRecord, folder: Path) -> tuple[int, int]:
    """The logs of all machines but rank 0's are files of the folder, ``1-2.log`` of rank 2's first attempt; how many
    files, and their bytes.

    Each is as far here as it is whole from its beginning. Raises `OSError`.
    """
    keep_logs(session, record)
    archive, files, total = log_archive(), 0, 0
    for node in nodes_of(record).nodes:
        if node.rank == 0:
            continue
        path = folder / f"{record.attempt}-{node.rank}.log"
        partial, at = path.with_name(f".{path.name}.part"), 0
        try:
            with partial.open("wb") as file:
                for offset, data in archive.read(record.id, record.attempt, rank=node.rank):
                    if offset != at:
                        break
                    file.write(data)
                    at += len(data)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        files, total = files + 1, total + at
    return files, total
