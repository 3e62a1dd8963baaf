"""A second copy of an attempt's log, where it outlives the machine: beside the run's checkpoints."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from runctl.agent.checkpoints import layout
from runctl.agent.encoding import dumps
from runctl.agent.spec import EndRecord

if TYPE_CHECKING:
    from runctl.agent.checkpoints.stores import Store

LOGS = "logs"
"""The folder below the run's own, on the volume: ``logs/1.log`` and ``logs/1.end.json`` of the first attempt."""
INTERVAL_SECONDS = 1.0
FLUSH_SECONDS = 5.0
"""What may be missing from the copy when the machine is gone without a word."""
TROUBLE_SECONDS = 10.0
"""Between two tries at a store that refuses."""
END_SECONDS = 15.0
"""How long the end of an attempt waits for the copy to be complete."""
BLOCK = 1 << 20


class LogStore(Protocol):
    """Where a copy of one attempt's log is kept. Every method may raise `OSError`."""

    def size(self) -> int:
        """How many bytes of the log it has: the copy is taken up from there."""
        ...

    def write(self, offset: int, data: bytes) -> None:
        """They are at this place of the copy; it has all before."""
        ...

    def flush(self) -> None:
        """What it has survives the loss of the machine."""
        ...

    def seal(self, end: EndRecord) -> None:
        """The log is complete, and its end record, with length and checksum, is kept beside it."""
        ...

    def close(self) -> None:
        """Nothing is held open."""
        ...


class FolderStore:
    """On a file system that is mounted here, such as a volume's.

    No link is followed: the run's folder is open to what the run starts, this program's rights are not.
    """

    def __init__(self, run_folder: Path, attempt: int, *, create: bool = True) -> None:
        """Raises `FileNotFoundError` while there is no folder of the run, or without ``create`` no copy."""
        self._name = str(attempt)
        directory = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        above = os.open(run_folder, directory)
        try:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(LOGS, 0o755, dir_fd=above)
            self._folder = os.open(LOGS, directory, dir_fd=above)
        finally:
            os.close(above)
        try:
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
            self._file = os.open(self._name + ".log", flags, 0o600, dir_fd=self._folder)
        except OSError:
            os.close(self._folder)
            raise
        if create and os.fstat(self._file).st_size == 0:
            os.fsync(self._folder)

    def size(self) -> int:
        """See `LogStore`."""
        return os.fstat(self._file).st_size

    def write(self, offset: int, data: bytes) -> None:
        """See `LogStore`. Two who copy the same log at once write the same bytes to the same place."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file, view, offset)
            offset, view = offset + written, view[written:]

    def flush(self) -> None:
        """See `LogStore`."""
        os.fsync(self._file)

    def seal(self, end: EndRecord) -> None:
        """See `LogStore`."""
        self.flush()
        name = self._name + ".end.json"
        partial = f".{name}.{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(partial, flags, 0o600, dir_fd=self._folder)
        try:
            os.write(fd, dumps(end).encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(partial, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        os.fsync(self._folder)

    def close(self) -> None:
        """See `LogStore`."""
        os.close(self._file)
        os.close(self._folder)


class StoredLog:
    """In a run's prefix, as pieces that are named by where they begin."""

    def __init__(self, store: Store, attempt: int, rank: int = 0) -> None:
        """``rank`` is this machine's, of several."""
        self._store, self._attempt, self._rank = store, attempt, rank
        self._size: int | None = None

    def size(self) -> int:
        """See `LogStore`. Asked of the store once. Raises `AgentError`, as the other methods do."""
        if self._size is None:
            pieces = [
                (layout.log_offset(key), key)
                for key in self._store.keys(layout.log_prefix(self._attempt, self._rank))
            ]
            last = max(((offset, key) for offset, key in pieces if offset is not None), default=None)
            self._size = 0 if last is None else last[0] + len(self._store.read(last[1]))
        return self._size

    def write(self, offset: int, data: bytes) -> None:
        """See `LogStore`."""
        self._store.put(layout.log_key(self._attempt, offset, self._rank), data)
        self._size = offset + len(data)

    def flush(self) -> None:
        """See `LogStore`: it is as soon as it is written."""

    def seal(self, end: EndRecord) -> None:
        """See `LogStore`."""
        self._store.put(layout.end_key(self._attempt, self._rank), dumps(end).encode())

    def close(self) -> None:
        """See `LogStore`: the store is its owner's."""


class LogCopier:
    """Copies a log, while it grows, in a thread of its own: a volume that hangs does not hold up the supervisor."""

    def __init__(self, log: Path, run_folder: Path, attempt: int) -> None:
        self._log = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
        self._run_folder, self._attempt = run_folder, attempt
        self._end: EndRecord | None = None
        self._over, self._done = threading.Event(), threading.Event()
        self._copied = self._flushed = 0
        self.trouble = ""
        """Why the copy is not up to date, in words; empty if it is."""
        self.complete = False
        """The store has the whole log and its end record."""
        self._thread = threading.Thread(target=self._run, name="log-copy", daemon=True)

    def start(self) -> None:
        """From now on the copy follows the log, as soon as the run has a folder."""
        self._thread.start()

    def finish(self, end: EndRecord, seconds: float = END_SECONDS) -> bool:
        """Whether the copy is complete, with the end record; waits that long at most."""
        self._end = end
        self._over.set()
        self._done.wait(seconds)
        return self.complete

    def _run(self) -> None:
        flushed_at = time.monotonic()
        while not self._over.wait(TROUBLE_SECONDS if self.trouble else INTERVAL_SECONDS):
            due = time.monotonic() - flushed_at >= FLUSH_SECONDS
            if self._try(flush=due) and due:
                flushed_at = time.monotonic()
        if self._end is not None:
            self._try(flush=True, end=self._end)
        self._done.set()

    def _try(self, *, flush: bool, end: EndRecord | None = None) -> bool:
        """Bring the copy up to date. It is open only meanwhile: a volume that nobody uses can be detached."""
        if end is None and self._flushed == self._copied == os.fstat(self._log).st_size:
            return True
        try:
            store = FolderStore(self._run_folder, self._attempt)
            try:
                self._copied = copy(self._log, store)
                if flush:
                    store.flush()
                    self._flushed = self._copied
                if end is not None and self._copied == end.log_bytes:
                    store.seal(end)
                    self.complete = True
            finally:
                store.close()
        except FileNotFoundError:
            # The run's folder is made when the run is set up.
            return False
        except OSError as error:
            self.trouble = error.strerror or str(error)
            return False
        self.trouble = ""
        return True


def copy(log: int, store: LogStore) -> int:
    """The store has what the open file ``log`` has now; returns how many bytes that are. Raises `OSError`."""
    size = store.size()
    while True:
        data = os.pread(log, BLOCK, size)
        if not data:
            return size
        store.write(size, data)
        size += len(data)


def complete_copy(log: Path, run_folder: Path, attempt: int, end: EndRecord) -> bool:
    """Whether a copy that a dead supervisor began is complete now, with the end record. Begins none."""
    try:
        store = FolderStore(run_folder, attempt, create=False)
    except OSError:
        return False
    try:
        fd = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if copy(fd, store) != end.log_bytes:
                return False
        finally:
            os.close(fd)
        store.seal(end)
    except OSError:
        return False
    finally:
        store.close()
    return True
