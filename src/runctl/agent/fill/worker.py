"""One of the processes that fetch: its threads get objects and pieces, write them, and prove them."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from runctl.agent.cloud.checksums import (
    Check,
    Digest,
    check_for,
    etag_of_parts,
    likely_part_sizes,
    parts_of,
)
from runctl.agent.cloud.credentials import Credentials
from runctl.agent.cloud.s3 import S3, Location, Object, Refusal
from runctl.agent.errors import AgentError
from runctl.agent.fill.inside import make_folder, opener
from runctl.agent.fill.objects import OWN_FOLDER
from runctl.agent.fill.planning import Job
from runctl.agent.fill.record import PARTIAL

THREADS = 32
TIMES = 3
"""How often an object is fetched whose checksum is wrong."""
_READ = 1 << 20
_DIE_WITH_PARENT = 1


@dataclass(frozen=True)
class Setting:
    """What every worker needs to know."""

    bucket: str
    location: Location
    into: str
    variables: Any
    """The keys' variables, where there are some."""


@dataclass(frozen=True)
class Done:
    """How a job ended."""

    job: Job
    md5: str = ""
    """Of a piece."""
    proof: str = ""
    """The check that a whole file has passed."""
    modified_ns: int = 0
    failure: str = ""
    """``changed``, ``corrupt``, ``denied``, ``disk-full``, ``cannot-write``, ``s3-refused``, …"""
    message: str = ""
    hint: str = ""


class Worker:
    """Fetches for one folder."""

    def __init__(self, setting: Setting, moved: Any) -> None:
        self.s3 = S3(setting.bucket, setting.location, Credentials(setting.variables))
        self.into = Path(setting.into)
        self.partial = self.into / OWN_FOLDER / PARTIAL
        self._moved = moved
        self._lock = threading.Lock()
        self._count = 0
        self._folders = {str(self.into)}
        self._pool: ThreadPoolExecutor | None = None

    def lot(self, jobs: Sequence[Job]) -> list[Done]:
        """Every job has been done, or has failed; none is left out."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS)
        return list(self._pool.map(self._guarded, jobs))

    def _guarded(self, job: Job) -> Done:
        return self._caught(job, lambda: self._whole(job) if job.end < 0 else self._piece(job))

    @staticmethod
    def _caught(job: Job, action: Callable[[], Done]) -> Done:
        """Every way to fail is a value: a lot goes on when one of its jobs cannot."""
        try:
            return action()
        except Refusal as refusal:
            return _refused(job, refusal)
        except AgentError as error:
            return Done(job, failure=error.code, message=error.message, hint=error.hint)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return Done(job, failure="disk-full", message=f"{job.path}: {error.strerror}")
            return Done(job, failure="cannot-write", message=f"{job.path}: {error.strerror or error}")

    def _whole(self, job: Job) -> Done:
        target = self.into / job.path
        self._make_folder(target.parent)
        with self._lock:
            self._count += 1
            part = self.partial / f"{os.getpid()}-{self._count}"
        try:
            for _ in range(TIMES):
                check, hexadecimal = self._fetch(job, part)
                if self.proven(part, job.object, check, hexadecimal):
                    part.replace(target)
                    return Done(job, proof=check.kind, modified_ns=target.stat().st_mtime_ns)
                self._count_back(job.size)
        finally:
            with suppress(FileNotFoundError):
                part.unlink()
        return _corrupt(job)

    def _fetch(self, job: Job, part: Path) -> Any:
        digest = hashlib.md5()  # noqa: S324 (S3's own choice)
        moved = 0
        with open(part, "wb", buffering=0, opener=opener) as out:

            def take(piece: memoryview) -> None:
                nonlocal moved
                _write(out.fileno(), piece)
                digest.update(piece)
                moved += len(piece)
                self._add(len(piece))

            def again() -> None:
                nonlocal digest, moved
                out.seek(0)
                out.truncate()
                digest = hashlib.md5()  # noqa: S324 (see above)
                self._count_back(moved)
                moved = 0

            headers = self.s3.get(job.object.key, job.object.etag, take, again)
        return check_for(job.object.etag, headers), digest.hexdigest()

    def proven(self, file: Path, found: Object, check: Check, md5: str) -> bool:
        """Whether the file is the object. ``md5`` may be empty: it is read then."""
        if file.stat().st_size != found.size:
            return False
        if check.kind == "size":
            return True
        if check.kind == "etag":
            return self._proven_by_parts(file, found)
        if check.kind == "md5" and md5:
            return md5 == check.value
        return _digest(file, check.kind) == check.value

    def _proven_by_parts(self, file: Path, found: Object) -> bool:
        parts = parts_of(found.etag)
        first = self.s3.part_size(found.key, parts, 1)
        sizes = likely_part_sizes(found.size, parts)
        for size in dict.fromkeys([*([first] if first else []), *sizes]):
            if etag_of_parts(_part_digests(file, [size] * parts)) == found.etag:
                return True
        exact = [self.s3.part_size(found.key, parts, number + 1) or 0 for number in range(parts)]
        return sum(exact) == found.size and etag_of_parts(_part_digests(file, exact)) == found.etag

    def _piece(self, job: Job) -> Done:
        digest = hashlib.md5()  # noqa: S324 (S3's own choice)
        at = job.begin
        descriptor = opener(str(self.partial / partial_name(job.object)), os.O_WRONLY)
        try:

            def take(piece: memoryview) -> None:
                nonlocal at
                _write(descriptor, piece, at)
                digest.update(piece)
                at += len(piece)
                self._add(len(piece))

            def again() -> None:
                nonlocal at, digest
                self._count_back(at - job.begin)
                at, digest = job.begin, hashlib.md5()  # noqa: S324 (see above)

            self.s3.get(job.object.key, job.object.etag, take, again, span=(job.begin, job.end))
        finally:
            os.close(descriptor)
        if at != job.end:
            return _corrupt(job)
        return Done(job, md5=digest.hexdigest())

    def finish(self, job: Job, md5s: Sequence[str]) -> Done:
        """All pieces of a large object are on the disk: it is proven, and has its name."""
        return self._caught(job, lambda: self._finish(job, md5s))

    def _finish(self, job: Job, md5s: Sequence[str]) -> Done:
        found = job.object
        file = self.partial / partial_name(found)
        check = Check("size")
        if parts_of(found.etag) > 1 and etag_of_parts([bytes.fromhex(md5) for md5 in md5s]) == found.etag:
            check = Check("etag", found.etag)
        else:
            # The headers that the proof depends on come with the first byte.
            headers = self.s3.get(found.key, found.etag, lambda _: None, lambda: None, span=(0, 1))
            check = check_for(found.etag, headers)
            if not self.proven(file, found, check, ""):
                return _corrupt(job)
        target = self.into / job.path
        self._make_folder(target.parent)
        file.replace(target)
        return Done(job, proof=check.kind, modified_ns=target.stat().st_mtime_ns)

    def _make_folder(self, folder: Path) -> None:
        """With every folder above it. Raises `AgentError` where something else is in the way."""
        if str(folder) in self._folders:
            return
        make_folder(self.into, str(folder.relative_to(self.into)))
        self._folders.add(str(folder))

    def _add(self, count: int) -> None:
        with self._lock:
            self._moved.value += count

    def _count_back(self, count: int) -> None:
        self._add(-count)


def partial_name(found: Object) -> str:
    """The unfinished file of a large object."""
    words = f"{found.key}\0{found.etag}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(words).hexdigest()[:32]


def _write(descriptor: int, data: memoryview, at: int | None = None) -> None:
    while data:
        count = os.write(descriptor, data) if at is None else os.pwrite(descriptor, data, at)
        data = data[count:]
        if at is not None:
            at += count


def _digest(file: Path, kind: str) -> str:
    digest = Digest(kind)
    with file.open("rb", buffering=0) as data:
        while True:
            piece = data.read(_READ)
            if not piece:
                return digest.hex()
            digest.add(piece)


def _part_digests(file: Path, sizes: Sequence[int]) -> list[bytes]:
    """The MD5 of each stretch of the file."""
    found = []
    with file.open("rb", buffering=0) as data:
        for size in sizes:
            digest, left = hashlib.md5(), size  # noqa: S324 (S3's own choice)
            while left:
                piece = data.read(min(_READ, left))
                if not piece:
                    break
                digest.update(piece)
                left -= len(piece)
            found.append(digest.digest())
    return found


def _corrupt(job: Job) -> Done:
    words = f"{job.object.key} is not what S3's checksum says, {TIMES} times over"
    return Done(job, failure="corrupt", message=words)


def _refused(job: Job, refusal: Refusal) -> Done:
    if refusal.status == 412 or refusal.s3_code in ("NoSuchKey", "PreconditionFailed", "InvalidRange"):
        return Done(job, failure="changed", message=f"{job.object.key} changed while it was read")
    code = "denied" if refusal.status == 403 else "s3-refused"
    if refusal.s3_code == "InvalidObjectState":
        code = "archived"
    return Done(job, failure=code, message=f"{job.object.key}: {refusal}")


# A pool passes functions to its processes by name, so these are the module's.

_worker: Worker | None = None


def begin(setting: Setting, moved: Any) -> None:
    """This process is a worker, and ends with the one that made it."""
    global _worker  # noqa: PLW0603 (a process is one worker)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    _worker = Worker(setting, moved)


def work(jobs: Sequence[Job]) -> list[Done]:
    """In a worker's process."""
    assert _worker is not None  # noqa: S101 (begin was called)
    return _worker.lot(jobs)


def finish(job: Job, md5s: Sequence[str]) -> list[Done]:
    """In a worker's process."""
    assert _worker is not None  # noqa: S101 (begin was called)
    return [_worker.finish(job, md5s)]
