"""Objects of a store, read in ranges, many at once: into files that take their place when they are right."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import field
from functools import partial
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.agent.checkpoints.folders import sha256_of
from runctl.agent.checkpoints.layout import StoredFile, data_key
from runctl.core.clock import Clock, SystemClock
from runctl.core.errors import Conflict, Unreachable
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.object_storage import ObjectStorage

RANGE_BYTES = 16 << 20
"""What is asked for at once, and again when a connection breaks."""
THREADS = 8
TRIES = 5
"""Broken connections of one range in a row, after which it gives up."""
PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Prefix:
    """A run's own folder in a bucket."""

    storage: ObjectStorage
    bucket: str
    prefix: str
    """Without slashes at either end."""

    def key(self, below: str) -> str:
        """Of an object below it."""
        return f"{self.prefix}/{below}" if self.prefix else below

    def __str__(self) -> str:
        return f"{self.storage.scheme}://{self.bucket}/{self.prefix}".rstrip("/")


@dataclass
class _Part:
    """One file that is arriving; which of its ranges are there is written down beside it."""

    file: StoredFile
    target: Path
    done: set[int]
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def path(self) -> Path:
        return self.target.with_name(f".{self.target.name}.runctl-part")

    @property
    def record(self) -> Path:
        return self.target.with_name(f".{self.target.name}.runctl-ranges")

    @property
    def ranges(self) -> range:
        return range(max(1, -(-self.file.size // RANGE_BYTES)))


def download(
    source: Prefix,
    files: Sequence[StoredFile],
    folder: Path,
    progress: Progress = SILENT,
    clock: Clock | None = None,
) -> tuple[int, int]:
    """Each of the files is below the folder, compared with its SHA-256; how many files and bytes had to come.

    What is there already, as a file or as ranges of one, is not fetched again. Raises `Conflict` (code
    ``broken-checkpoint``) for a file whose bytes are not those that its manifest names, `Unreachable` after `TRIES`.
    """
    clock = clock or SystemClock()
    total = sum(file.size for file in files)
    parts = [part for file in files if (part := _begun(file, folder / file.path)) is not None]
    missing = [(part, index) for part in parts for index in part.ranges if index not in part.done]
    sent = sum(_span(part.file, index)[1] - _span(part.file, index)[0] for part, index in missing)
    counter = Counter(progress, total, total - sent)

    def bring(part: _Part, index: int) -> None:
        start, stop = _span(part.file, index)
        _fetch_range(source, part, start, stop, counter, clock)
        with part.lock:
            _note(part, index)
            whole = len(part.done) == len(part.ranges)
        if whole:
            _finish(part)

    # A file whose last range had come, and which was not compared yet.
    in_parallel([partial(_finish, part) for part in parts if len(part.done) == len(part.ranges)])
    in_parallel([partial(bring, *job) for job in missing])
    return len({part.target for part, _ in missing}), sent


def compare(
    source: Prefix,
    checksums: Collection[tuple[str, int]],
    progress: Progress = SILENT,
    clock: Clock | None = None,
) -> dict[str, str]:
    """What is wrong with which of these data (SHA-256, size), after all of them were read."""
    clock = clock or SystemClock()
    wrong: dict[str, str] = {}
    counter = Counter(progress, sum(size for _, size in checksums))

    def read(sha256: str, size: int) -> None:
        checksum, at = hashlib.sha256(), 0

        def take(data: bytes) -> None:
            nonlocal at
            checksum.update(data)
            at += len(data)
            counter.add(len(data))

        def fetch() -> None:
            source.storage.fetch(source.bucket, source.key(data_key(sha256)), take, start=at)

        if size:
            _resumed(fetch, lambda: at, clock)
        if at != size or checksum.hexdigest() != sha256:
            wrong[sha256] = f"data/{sha256} does not match the SHA-256 in its name"

    in_parallel([partial(read, *pair) for pair in sorted(checksums, key=lambda pair: -pair[1])])
    return wrong


class Counter:
    """Bytes of many threads, told as one."""

    def __init__(self, progress: Progress, total: int, done: int = 0) -> None:
        self._progress, self._total, self._done = progress, total, done
        self._lock = threading.Lock()
        progress.update(done=done, total=total)

    def add(self, count: int) -> None:
        """So many more."""
        with self._lock:
            self._done += count
            self._progress.update(done=self._done, total=self._total)


def in_parallel(jobs: Sequence[Callable[[], object]]) -> None:
    """All of them have ended, `THREADS` at once. The first failure is raised; after it no other job begins."""
    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begun(file: StoredFile, target: Path) -> _Part | None:
    """What of the file has arrived; ``None`` where all of it has."""
    if target.is_file() and target.stat().st_size == file.size and sha256_of(target) == file.sha256:
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(file, target, set())
    # The record says which content its ranges are of: another checkpoint may have begun here.
    lines = part.record.read_text().split() if part.path.is_file() and part.record.is_file() else []
    if lines[:1] == [file.sha256] and part.path.stat().st_size == file.size:
        part.done.update(int(line) for line in lines[1:] if line.isdigit() and int(line) in part.ranges)
    else:
        part.record.unlink(missing_ok=True)
        with part.path.open("wb") as opened:
            opened.truncate(file.size)
        part.record.write_text(f"{file.sha256}\n")
    return part


def _span(file: StoredFile, index: int) -> tuple[int, int]:
    return index * RANGE_BYTES, min(file.size, (index + 1) * RANGE_BYTES)


def _fetch_range(source: Prefix, part: _Part, start: int, stop: int, counter: Counter, clock: Clock) -> None:
    at = start
    with part.path.open("r+b") as opened:

        def write(data: bytes) -> None:
            nonlocal at
            view = memoryview(data)[: stop - at]
            while view:
                written = os.pwrite(opened.fileno(), view, at)
                at, view = at + written, view[written:]
                counter.add(written)

        def fetch() -> None:
            key = source.key(data_key(part.file.sha256))
            source.storage.fetch(source.bucket, key, write, start=at, stop=stop)

        if start < stop:
            _resumed(fetch, lambda: at, clock)
    if at != stop:
        raise _wrong(part.file)


def _resumed(fetch: Callable[[], None], reached: Callable[[], int], clock: Clock) -> None:
    """Until it has come to its end; raises `Unreachable` after `TRIES` without a byte in between."""
    failures = 0
    while True:
        before = reached()
        try:
            return fetch()
        except Unreachable:
            failures = 1 if reached() > before else failures + 1
            if failures >= TRIES:
                raise
            clock.sleep(PAUSE_SECONDS * failures)


def _note(part: _Part, index: int) -> None:
    with part.record.open("a") as opened:
        opened.write(f"{index}\n")
    part.done.add(index)


def _finish(part: _Part) -> None:
    if sha256_of(part.path) != part.file.sha256:
        part.path.unlink()
        part.record.unlink()
        raise _wrong(part.file)
    with part.path.open("rb") as opened:
        os.fsync(opened.fileno())
    part.path.chmod(part.file.mode & 0o777)
    part.path.replace(part.target)
    part.record.unlink()


def _wrong(file: StoredFile) -> Conflict:
    return Conflict(
        f"{file.path} does not match the SHA-256 in its manifest",
        hint="runctl checkpoint verify says which checkpoints are broken; --name takes another one",
        code="broken-checkpoint",
    )
