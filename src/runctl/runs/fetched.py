"""Results on this computer: noted when all of them have come, looked at again when their machine is gone."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.agent.encoding import from_json, loads
from runctl.agent.spec import EndRecord
from runctl.core.clock import SystemClock
from runctl.core.run_models import FetchedResults
from runctl.core.text import size
from runctl.machines.session import Session
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store

FOLDERS = ("output", "checkpoints")
LOGS = "logs"
"""As on a volume: ``logs/1.log`` and ``logs/1.end.json`` of the first attempt, and ``logs/1-2.log`` of its rank 2."""
_END = ".end.json"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class ResultsHere:
    """What is in a run's folder of results now."""

    folder: Path
    is_there: bool
    files: int = 0
    bytes: int = 0
    problem: str = ""
    """Why that is not all of it, in words."""

    @property
    def is_whole(self) -> bool:
        """Whether everything is there that the run has left."""
        return self.is_there and not self.problem


def note_fetched(session: Session, record: RunRecord, folder: Path) -> None:
    """All that the run wrote is in the folder, and what is remembered of the run says so."""
    files, total = _counted(folder)
    now = SystemClock().now()
    run_store(session).note_fetched(record.id, FetchedResults(str(folder), record.attempt, files, total, now))


def with_fetched(session: Session, record: RunRecord) -> RunRecord:
    """The record, which was read before, with where its results have been brought to meanwhile."""
    known = run_store(session).find(record.id)
    return record if known is None else replace(record, fetched=known.fetched)


def fetched_folder(record: RunRecord) -> Path | None:
    """The folder that has what the newest attempt wrote, if that has ended, was brought here, and is still there."""
    known = record.fetched
    if known is None or known.attempt != record.attempt or not record.has_ended:
        return None
    return Path(known.folder) if Path(known.folder).is_dir() else None


def look_at(record: RunRecord, folder: Path) -> ResultsHere:
    """Whether everything that the newest attempt has left is in the folder.

    Its end record is written there last, with the log's checksum. Files are only counted: of one that the user has
    changed since, nothing is said.
    """
    if not folder.is_dir():
        return ResultsHere(folder, False, problem=f"{folder} is not there")
    end = _end_record(folder / LOGS / f"{record.attempt}{_END}")
    files, total = _counted(folder)

    def but(problem: str) -> ResultsHere:
        return ResultsHere(folder, True, files, total, f"{folder} {problem}")

    if end is None:
        return but("is of an earlier moment of the run")
    if end.log_sha256 and _sha256(folder / LOGS / f"{record.attempt}.log") != end.log_sha256:
        return but("has not the whole log")
    known = record.fetched
    if known is not None and known.attempt == record.attempt:
        if files < known.files:
            return but(f"has {files} of the {known.files} files that were brought")
        if total < known.bytes:
            return but(f"has {size(total)} of the {size(known.bytes)} that were brought")
    return ResultsHere(folder, True, files, total)


def what_was_fetched(known: FetchedResults) -> str:
    """Where the results were brought to, in words."""
    gone = "" if Path(known.folder).is_dir() else ", which is not there any more"
    return f"its results were brought to {known.folder}{gone}"


def what_is_left(record: RunRecord) -> str:
    """Where what a run wrote may be when its machine is gone, in words."""
    left = [what_was_fetched(record.fetched)] if record.fetched is not None else []
    if record.saved_volume is not None:
        left.append(f"{record.saved_volume} has what it wrote in {record.saved_folder}")
    if record.store is not None:
        left.append(f"{record.store}/{record.id} has its checkpoints and its log")
    left.append(f"runctl runs logs {record.id} shows what is kept of its log")
    return "; ".join(left)


def _counted(folder: Path) -> tuple[int, int]:
    """How many files a run's folder has, links among them, and their bytes; end records are ours."""
    files = total = 0
    for name in (*FOLDERS, LOGS):
        for parent, folders, found in os.walk(folder / name):
            links = [each for each in folders if Path(parent, each).is_symlink()]
            for each in (*found, *links):
                if name == LOGS and each.endswith(_END):
                    continue
                with suppress(OSError):
                    total += os.lstat(Path(parent, each)).st_size
                    files += 1
    return files, total


def _end_record(path: Path) -> EndRecord | None:
    with suppress(OSError, ValueError, TypeError, AttributeError):
        return from_json(EndRecord, loads(path.read_text(encoding="utf-8")))
    return None


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with suppress(OSError), path.open("rb") as file:
        while data := file.read(_CHUNK):
            found.update(data)
    return found.hexdigest()
