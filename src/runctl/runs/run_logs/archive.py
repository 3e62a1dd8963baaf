"""Logs that were followed on this computer, kept here: pieces of bytes that say where in the log they begin."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.agent.encoding import dumps, from_json, loads
from runctl.agent.spec import EndRecord
from runctl.core.files import data_folder
from runctl.core.ids import is_run_id

LIMIT_BYTES = 1 << 30
"""Of all logs on this computer together."""
PIECE_BYTES = 8 << 20
"""A piece ends there and the next one begins, so that the oldest can be given up."""
_READ_BYTES = 1 << 20
_PIECE = re.compile(r"(\d{1,19})\.log")
_END = "end.json"


@dataclass(frozen=True)
class Span:
    """Bytes of a log, from ``start`` up to but not including ``stop``."""

    start: int
    stop: int


@dataclass(frozen=True)
class KeptRun:
    """What is kept of one run's logs."""

    run_id: str
    size_bytes: int
    changed_at: float
    """Seconds since the epoch, by this computer's clock."""


def merged(spans: Sequence[Span]) -> tuple[Span, ...]:
    """The same bytes in as few spans as possible, in order. Pure."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda entry: (entry.start, entry.stop)):
        if span.stop <= span.start:
            continue
        if found and span.start <= found[-1].stop:
            found[-1] = Span(found[-1].start, max(found[-1].stop, span.stop))
        else:
            found.append(span)
    return tuple(found)


def missing(spans: Sequence[Span], size: int) -> tuple[Span, ...]:
    """What of a log of ``size`` bytes is in none of these. Pure."""
    holes, at = [], 0
    for span in merged(spans):
        if span.start > at:
            holes.append(Span(at, min(span.start, size)))
        at = max(at, span.stop)
    if at < size:
        holes.append(Span(at, size))
    return tuple(hole for hole in holes if hole.start < hole.stop)


def log_archive() -> LogArchive:
    """The logs that are kept on this computer."""
    return LogArchive(data_folder() / "logs", LIMIT_BYTES)


class LogArchive:
    """A folder with ``RUN/ATTEMPT/OFFSET.log``, and ``RUN/ATTEMPT-RANK`` for the other machines than rank 0. What is in
    it can be deleted at any time; nothing depends on it."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        """Of all logs together ``limit_bytes`` are kept at most, the newest; a quarter of it of one attempt's."""
        self.folder = folder
        self.limit_bytes = limit_bytes

    def writer(
        self, run_id: str, attempt: int, on_trouble: Callable[[str], None], rank: int = 0
    ) -> LogWriter | None:
        """Keeps what is followed from now on, of one of the run's machines; ``None`` where nothing is to be kept."""
        if self.limit_bytes <= 0 or not _is_name(run_id, attempt):
            return None
        self._make_room(run_id)
        return LogWriter(self._of(run_id, attempt, rank), self.limit_bytes // 4, on_trouble)

    def spans(self, run_id: str, attempt: int, rank: int = 0) -> tuple[Span, ...]:
        """Which bytes are here."""
        return merged([span for span, _ in self._pieces(run_id, attempt, rank)])

    def end(self, run_id: str, attempt: int) -> EndRecord | None:
        """How the attempt ended, if that was heard while it was followed."""
        if not _is_name(run_id, attempt):
            return None
        try:
            return from_json(EndRecord, loads((self._of(run_id, attempt) / _END).read_bytes()))
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def read(
        self, run_id: str, attempt: int, start: int = 0, *, rank: int = 0
    ) -> Iterator[tuple[int, bytes]]:
        """Every byte that is here from ``start`` on, once and in order, each with its place in the log."""
        at = start
        for span, path in self._pieces(run_id, attempt, rank):
            if span.stop <= at:
                continue
            at = max(at, span.start)
            with path.open("rb") as file:
                file.seek(at - span.start)
                while at < span.stop and (data := file.read(min(_READ_BYTES, span.stop - at))):
                    yield at, data
                    at += len(data)

    def runs(self) -> tuple[KeptRun, ...]:
        """What is kept, the longest untouched first."""
        found = []
        # A folder that cannot be read has nothing for us; who writes there is told.
        with contextlib.suppress(OSError):
            for folder in self.folder.iterdir():
                facts = [path.stat() for path in folder.rglob("*") if path.is_file()]
                if facts and is_run_id(folder.name):
                    size, changed = (
                        sum(entry.st_size for entry in facts),
                        max(entry.st_mtime for entry in facts),
                    )
                    found.append(KeptRun(folder.name, size, changed))
        return tuple(sorted(found, key=lambda entry: (entry.changed_at, entry.run_id)))

    def remove(self, run_id: str) -> None:
        """Nothing of the run's logs is here. Raises `OSError`."""
        if is_run_id(run_id):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self.folder / run_id)

    def _make_room(self, run_id: str) -> None:
        kept = self.runs()
        total = sum(entry.size_bytes for entry in kept)
        for entry in kept:
            if total <= self.limit_bytes:
                return
            if entry.run_id != run_id:
                with contextlib.suppress(OSError):
                    self.remove(entry.run_id)
                    total -= entry.size_bytes

    def _pieces(self, run_id: str, attempt: int, rank: int = 0) -> list[tuple[Span, Path]]:
        return _pieces(self._of(run_id, attempt, rank)) if _is_name(run_id, attempt) else []

    def _of(self, run_id: str, attempt: int, rank: int = 0) -> Path:
        return self.folder / run_id / (f"{attempt}-{rank}" if rank else str(attempt))


class LogWriter:
    """Keeps one attempt's log as it is followed. A disk that refuses ends the keeping, not the following."""

    def __init__(self, folder: Path, limit_bytes: int, on_trouble: Callable[[str], None]) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._on_trouble = on_trouble
        self._piece: tuple[int, int] | None = None
        """Where it begins, and its file descriptor."""
        self._refused = False

    def write(self, offset: int, data: bytes) -> None:
        """These bytes, which stand at ``offset``, are kept.

        Two followers of one run write the same bytes to the same places.
        """
        self._try(lambda: self._write(offset, data))

    def end(self, end: EndRecord) -> None:
        """How the attempt ended is kept too."""
        self._try(lambda: self._write_end(end))

    def close(self) -> None:
        """The files are closed."""
        if self._piece is not None:
            os.close(self._piece[1])
            self._piece = None

    def _write(self, offset: int, data: bytes) -> None:
        while data:
            start, fd = self._piece_for(offset)
            taken = os.pwrite(fd, data[: start + PIECE_BYTES - offset], offset - start)
            offset, data = offset + taken, data[taken:]

    def _write_end(self, end: EndRecord) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = self._folder / f".{_END}.{os.getpid()}"
        partial.write_text(dumps(end))
        partial.replace(self._folder / _END)

    def _piece_for(self, offset: int) -> tuple[int, int]:
        if self._piece is not None:
            start, fd = self._piece
            if start <= offset < start + PIECE_BYTES and offset - start <= os.fstat(fd).st_size:
                return self._piece
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._drop_oldest()
        # One that has the byte before is gone on with, if it has room.
        start = next(
            (
                span.start
                for span, _ in _pieces(self._folder)
                if span.start <= offset <= span.stop and offset < span.start + PIECE_BYTES
            ),
            offset,
        )
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        self._piece = start, os.open(self._folder / f"{start}.log", flags, 0o600)
        return self._piece

    def _drop_oldest(self) -> None:
        pieces = _pieces(self._folder)
        total = sum(span.stop - span.start for span, _ in pieces)
        for span, path in pieces:
            if total + PIECE_BYTES <= max(self._limit_bytes, 2 * PIECE_BYTES):
                return
            path.unlink(missing_ok=True)
            total -= span.stop - span.start

    def _try(self, keep: Callable[[], None]) -> None:
        if self._refused:
            return
        try:
            keep()
        except OSError as error:
            self._refused = True
            self._on_trouble(f"the log is not kept here: {self._folder}: {error.strerror or error}")


def _pieces(folder: Path) -> list[tuple[Span, Path]]:
    """In the order of their beginnings."""
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in folder.iterdir():
            if match := _PIECE.fullmatch(path.name):
                start = int(match.group(1))
                found.append((Span(start, start + path.stat().st_size), path))
    return sorted(found, key=lambda entry: (entry[0].start, entry[0].stop))


def _is_name(run_id: str, attempt: int) -> bool:
    """A machine may call its runs what it likes: a path is made of nothing but a run's id."""
    return is_run_id(run_id) and attempt >= 1
