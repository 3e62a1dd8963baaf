"""One of the processes that fetch: its threads get objects and pieces, write them, and prove them."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable

from runctl._dataclasses import dataclass
from runctl.agent.cloud.checksums import SIZE, Check, Digest, check_for, likely_part_sizes, of_parts, proves
from runctl.agent.cloud.credentials import Credentials
from runctl.agent.cloud.s3 import S3, Location, Object, Refusal, Sink
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
    digest: str = ""
    """Of a piece, by its check's algorithm, in hexadecimal."""
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
            return refused(job, refusal)
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
                check, digest = self._fetch(job, part)
                if self._proven(part, job.object, check, digest):
                    part.replace(target)
                    return Done(job, proof=check.name, modified_ns=target.stat().st_mtime_ns)
                self._add(-job.size)
        finally:
            with suppress(FileNotFoundError):
                part.unlink()
        return _corrupt(job)

    def _fetch(self, job: Job, part: Path) -> tuple[Check, str]:
        """The object is in the file; by what it is to be proven, and that checksum of what came."""
        with open(part, "wb", buffering=0, opener=opener) as out:
            coming = _Coming(out.fileno(), 0, self._add)

            def receive(headers: Mapping[str, str]) -> Sink:
                out.truncate(0)
                return coming.begin(check_for(job.object.etag, headers))

            self.s3.get(job.object.key, job.object.etag, receive)
        return coming.check, coming.digest.hex()

    def _proven(self, file: Path, found: Object, check: Check, digest: str) -> bool:
        """Whether the file is the object, of whose bytes as they came ``digest`` is the checksum."""
        if file.stat().st_size != found.size:
            return False
        if check == SIZE or proves(check, check.algorithm, [(digest, found.size)]):
            return True
        return self._proven_by_reading(file, found, check)

    def _proven_by_reading(self, file: Path, found: Object, check: Check) -> bool:
        """By the file as it lies on the disk, cut as the object's parts are."""
        if not check.parts:
            return _digests(file, check.algorithm, [found.size]) == [check.value]
        first = self.s3.part_size(found.key, check.parts, 1)
        for size in dict.fromkeys([*([first] if first else []), *likely_part_sizes(found.size, check.parts)]):
            if (
                of_parts(check.algorithm, _digests(file, check.algorithm, [size] * check.parts))
                == check.value
            ):
                return True
        exact = [self.s3.part_size(found.key, check.parts, number + 1) or 0 for number in range(check.parts)]
        digests = _digests(file, check.algorithm, exact)
        return sum(exact) == found.size and of_parts(check.algorithm, digests) == check.value

    def _piece(self, job: Job) -> Done:
        descriptor = opener(str(self.partial / partial_name(job.object)), os.O_WRONLY)
        try:
            coming = _Coming(descriptor, job.begin, self._add)
            span = (job.begin, job.end)
            self.s3.get(job.object.key, job.object.etag, lambda _: coming.begin(job.check), span=span)
        finally:
            os.close(descriptor)
        if coming.at != job.end:
            return _corrupt(job)
        return Done(job, digest=coming.digest.hex())

    def finish(self, job: Job, stretches: Sequence[tuple[str, int]]) -> Done:
        """All pieces of a large object are on the disk, with these checksums: it is proven, and has its name."""
        return self._caught(job, lambda: self._finish(job, stretches))

    def _finish(self, job: Job, stretches: Sequence[tuple[str, int]]) -> Done:
        found, check = job.object, job.check
        file = self.partial / partial_name(found)
        proven = check == SIZE or proves(check, check.algorithm, stretches)
        if not proven and not self._proven_by_reading(file, found, check):
            return _corrupt(job)
        target = self.into / job.path
        self._make_folder(target.parent)
        file.replace(target)
        return Done(job, proof=check.name, modified_ns=target.stat().st_mtime_ns)

    def _make_folder(self, folder: Path) -> None:
        """With every folder above it. Raises `AgentError` where something else is in the way."""
        if str(folder) in self._folders:
            return
        make_folder(self.into, str(folder.relative_to(self.into)))
        self._folders.add(str(folder))

    def _add(self, count: int) -> None:
        with self._lock:
            self._moved.value += count


class _Coming:
    """Bytes on their way into a file: written, counted, and hashed as they come."""

    def __init__(self, descriptor: int, begin: int, count: Callable[[int], None]) -> None:
        self._descriptor = descriptor
        self._begin = begin
        self._count = count
        self.at = begin
        self.check = SIZE
        self.digest = Digest("size")

    def begin(self, check: Check) -> Sink:
        """They come from the beginning; what came before does not count."""
        self._count(self._begin - self.at)
        self.at, self.check, self.digest = self._begin, check, Digest(check.algorithm)
        return self._take

    def _take(self, data: memoryview) -> None:
        _write(self._descriptor, data, self.at)
        self.digest.add(data)
        self.at += len(data)
        self._count(len(data))


def partial_name(found: Object) -> str:
    """The unfinished file of a large object."""
    identity = f"{found.key}\0{found.etag}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(identity).hexdigest()[:32]


def _write(descriptor: int, data: memoryview, at: int) -> None:
    while data:
        count = os.pwrite(descriptor, data, at)
        data = data[count:]
        at += count


def _digests(file: Path, algorithm: str, sizes: Sequence[int]) -> list[str]:
    """The checksum of each stretch of the file, one after the other."""
    found = []
    with file.open("rb", buffering=0) as data:
        for size in sizes:
            digest, left = Digest(algorithm), size
            while left:
                piece = data.read(min(_READ, left))
                if not piece:
                    break
                digest.add(piece)
                left -= len(piece)
            found.append(digest.hex())
    return found


def _corrupt(job: Job) -> Done:
    message = f"{job.object.key} is not what S3's checksum says, {TIMES} times over"
    return Done(job, failure="corrupt", message=message)


def refused(job: Job, refusal: Refusal) -> Done:
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


def finish(job: Job, stretches: Sequence[tuple[str, int]]) -> list[Done]:
    """In a worker's process."""
    assert _worker is not None  # noqa: S101 (begin was called)
    return [_worker.finish(job, stretches)]
