"""From a plan to files on the disk that are proven and recorded."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import field
from typing import Any

from runctl._dataclasses import dataclass
from runctl.agent.cloud.checksums import Check, check_for
from runctl.agent.cloud.credentials import Credentials
from runctl.agent.cloud.s3 import S3, Object, Refusal
from runctl.agent.errors import AgentError
from runctl.agent.fill import worker
from runctl.agent.fill.planning import WHOLE, Differences, Job, batches, jobs_of, piece_size, pieces
from runctl.agent.fill.record import Known, Record
from runctl.agent.fill.report import Report
from runctl.agent.fill.worker import Done, Setting

FLUSH_SECONDS = 5.0
QUESTIONS = 32
"""To S3 at a time, about large objects."""
FATAL = ("denied", "disk-full", "s3-unreachable", "no-role")
"""What the next object would meet as well."""


@dataclass
class Outcome:
    """What a transfer came to."""

    files: int = 0
    bytes: int = 0
    proofs: dict[str, int] = field(default_factory=dict)
    """How many files have passed which check."""
    changed: set[str] = field(default_factory=set)
    """Keys that are not what they were when they were listed."""
    failures: list[Done] = field(default_factory=list)


class Transfer:
    """One pass over what is to be fetched."""

    def __init__(
        self, setting: Setting, record: Record, report: Report, plan: Differences, workers: int
    ) -> None:
        self.setting = setting
        self.record = record
        self.report = report
        self.plan = plan
        self.workers = workers
        self.outcome = Outcome()
        self._s3 = S3(setting.bucket, setting.location, Credentials(setting.variables))
        self._prepared: dict[str, tuple[Check, int]] = {}
        self._left: dict[str, int] = {}
        self._skipped = 0
        self._begun = time.monotonic()

    def run(self) -> Outcome:
        """Everything has been tried; what succeeded is on the disk and recorded.

        Raises `AgentError` for what stops it all: no right, no room, no S3.
        """
        large = [(path, found) for path, found in self.plan.fetch if found.size > WHOLE]
        if large:
            # One after the other, the questions would take longer than the answers of a large bucket.
            with ThreadPoolExecutor(min(QUESTIONS, len(large))) as pool:
                for (path, found), asked in zip(large, pool.map(self._ask, large)):
                    self._prepare(path, found, asked)
            # A connection is not for two processes.
            self._s3.close()
        jobs = jobs_of(self.plan, self._prepared, self.record.pieces)
        for job in jobs:
            if job.end >= 0:
                self._left[job.path] = self._left.get(job.path, 0) + 1
        self._skipped = self.plan.bytes - sum(job.size for job in jobs)
        ready = [(path, found) for path, found in large if path in self._prepared and path not in self._left]
        if jobs or ready:
            self._all(jobs, ready)
        self.record.flush()
        return self.outcome

    def _ask(self, wanted: tuple[str, Object]) -> tuple[Check, int] | Refusal:
        """How a large object is proven, and the size of its pieces."""
        _, found = wanted
        first = None
        try:
            check = check_for(found.etag, self._s3.head(found.key))
            if check.parts > 1:
                with suppress(Refusal):
                    first = self._s3.part_size(found.key, check.parts, 1)
        except Refusal as refusal:
            return refusal
        return check, piece_size(found, check.parts, first)

    def _prepare(self, path: str, found: Object, asked: tuple[Check, int] | Refusal) -> None:
        """A large object's unfinished file is there, at full length, and its pieces are decided."""
        if isinstance(asked, Refusal):
            self._take(worker.refused(Job(path, found), asked))
            return
        self._prepared[path] = asked
        check, each = asked
        file = self.record.partial / worker.partial_name(found)
        done = self.record.pieces.get((path, found.etag), {})
        whole = file.exists() and file.stat().st_size == found.size
        usable = all(digest.startswith(check.algorithm + ":") for digest in done.values())
        if done and not (whole and usable and not any(begin % each for begin in done)):
            self.record.drop_pieces(path, found.etag)
        if whole:
            return
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            # Room is taken now: running out of it in the last piece would cost all the others.
            os.posix_fallocate(descriptor, 0, found.size)
        finally:
            os.close(descriptor)

    def _all(self, jobs: list[Job], ready: list[tuple[str, Object]]) -> None:
        # Forked: nothing of ours runs in threads any more, and what has been imported need not be again.
        context = multiprocessing.get_context("fork")
        moved: Any = context.Value("q", 0)
        pool = ProcessPoolExecutor(
            self.workers, mp_context=context, initializer=worker.begin, initargs=(self.setting, moved)
        )
        try:
            self._feed(pool, batches(jobs, self.workers), ready, moved)
        except BrokenProcessPool:
            raise AgentError(
                "worker-died",
                "a worker process was killed, for want of memory perhaps",
                "use a larger machine",
            ) from None
        except BaseException:
            # Nobody waits for what is under way: the workers end now.
            for process in list((getattr(pool, "_processes", None) or {}).values()):
                process.kill()
            raise
        finally:
            pool.shutdown(wait=True)

    def _feed(
        self,
        pool: ProcessPoolExecutor,
        lots: Iterator[list[Job]],
        ready: list[tuple[str, Object]],
        moved: Any,
    ) -> None:
        running: set[Future[list[Done]]] = {self._finish(pool, path, found) for path, found in ready}
        flushed = time.monotonic()
        more = True
        while more or running:
            while more and len(running) < self.workers * 2:
                lot = next(lots, None)
                if lot is None:
                    more = False
                else:
                    running.add(pool.submit(worker.work, lot))
            ended, running = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in ended:
                for done in future.result():
                    if self._take(done):
                        running.add(self._finish(pool, done.job.path, done.job.object))
            self._progress(moved.value)
            if time.monotonic() - flushed >= FLUSH_SECONDS:
                self.record.flush()
                flushed = time.monotonic()
        self._progress(moved.value, last=True)

    def _finish(self, pool: ProcessPoolExecutor, path: str, found: Object) -> Future[list[Done]]:
        check, each = self._prepared[path]
        digests = self.record.pieces.get((path, found.etag), {})
        stretches = [
            (digests.get(begin, "").rpartition(":")[2], end - begin)
            for begin, end in pieces(found.size, each)
        ]
        return pool.submit(worker.finish, Job(path, found, check=check), stretches)

    def _progress(self, moved: int, *, last: bool = False) -> None:
        self.report.progress(
            last=last,
            bytes=self.plan.same_bytes + self._skipped + moved,
            of_bytes=self.plan.same_bytes + self.plan.bytes,
            files=self.plan.same + self.outcome.files,
            of_files=self.plan.same + len(self.plan.fetch),
            moved=moved,
            seconds=round(time.monotonic() - self._begun, 3),
        )

    def _take(self, done: Done) -> bool:
        """Note how a job ended; true when it was the last piece of a large object."""
        job = done.job
        if done.failure == "changed":
            self.outcome.changed.add(job.object.key)
            self._drop(job)
        elif done.failure in FATAL:
            raise AgentError(done.failure, done.message, done.hint)
        elif done.failure:
            self.outcome.failures.append(done)
            if done.failure == "corrupt":
                self._drop(job)
        elif job.end < 0:
            self._done(job.path, job.object, done)
        else:
            self.record.piece(job.path, job.object.etag, job.begin, f"{job.check.algorithm}:{done.digest}")
            self._left[job.path] -= 1
            return not self._left[job.path]
        return False

    def _drop(self, job: Job) -> None:
        """What there is of a large object is worth nothing."""
        self.record.drop_pieces(job.path, job.object.etag)
        with suppress(FileNotFoundError):
            (self.record.partial / worker.partial_name(job.object)).unlink()

    def _done(self, path: str, found: Object, done: Done) -> None:
        self.record.done(path, Known(found.size, found.etag, done.modified_ns, done.proof))
        self.outcome.files += 1
        self.outcome.bytes += found.size
        self.outcome.proofs[done.proof] = self.outcome.proofs.get(done.proof, 0) + 1
