"""What is to be fetched, in which pieces and in which order: decisions on plain data, without I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Callable

from runctl._dataclasses import dataclass
from runctl.agent.cloud.checksums import SIZE, Check, likely_part_sizes
from runctl.agent.cloud.s3 import Object
from runctl.agent.errors import AgentError
from runctl.agent.fill.objects import Wanted
from runctl.agent.fill.record import Known

MIB = 1 << 20
WHOLE = 16 * MIB
"""Objects up to this size are fetched in one request each."""
PIECE = 16 * MIB
"""What a large object is cut into where its parts do not say."""
BATCH_FILES = 384
BATCH_BYTES = 128 * MIB
"""A worker gets at most this much at a time."""
SPARE = 64 * MIB
"""Room that a file system must have beyond the files themselves."""
BLOCK = 4096


@dataclass(frozen=True)
class Local:
    """What lies at a path now."""

    size: int
    modified_ns: int
    blocks: int
    """Bytes that it takes up."""


@dataclass(frozen=True)
class Differences:
    """The plan of one call."""

    fetch: tuple[tuple[str, Object], ...]
    """Large ones first: the last to end should be a small one."""
    same: int
    """Files that are there already."""
    same_bytes: int
    extra: tuple[str, ...]
    """Files that were filled from this source and that it no longer has."""

    @property
    def bytes(self) -> int:
        """To fetch."""
        return sum(found.size for _, found in self.fetch)


def differences(
    wanted: Wanted, known: Mapping[str, Known], local: Callable[[str], Local | None], source: str
) -> Differences:
    """Compare what S3 has at ``source`` with what the record and the disk say.

    A file counts as there if it was filled from an object of the same ETag and size, and nobody wrote to it since.
    """
    fetch: list[tuple[str, Object]] = []
    same = same_bytes = 0
    for path, found in wanted.files.items():
        before = known.get(path)
        if before is not None and before.etag == found.etag and before.size == found.size:
            here = local(path)
            if here is not None and here.size == found.size and here.modified_ns == before.modified_ns:
                same += 1
                same_bytes += found.size
                continue
        fetch.append((path, found))
    fetch.sort(key=lambda pair: (-pair[1].size, pair[0]))
    extra = tuple(
        sorted(path for path, file in known.items() if file.source == source and path not in wanted.files)
    )
    return Differences(tuple(fetch), same, same_bytes, extra)


def room_needed(plan: Differences, local: Callable[[str], Local | None], partial: int = 0) -> int:
    """Bytes that must be free. A new file has its place beside the old one, which goes when the new one is complete."""
    need = sum(-(-found.size // BLOCK) * BLOCK for _, found in plan.fetch)
    # Only one old file at a time is needed twice; what is overwritten counts as given back, but for the largest.
    old = [here.blocks for path, _ in plan.fetch for here in [local(path)] if here is not None]
    return max(0, need - (sum(old) - max(old, default=0)) - partial) + SPARE


def check_room(free: int, need: int, free_files: int, files: int, folder: str) -> None:
    """Raises `AgentError` (``disk-full``) before anything is fetched."""
    if free < need:
        raise AgentError(
            "disk-full",
            f"{folder} has {_gib(free)} free, and {_gib(need)} are needed",
            "make the volume larger",
        )
    if 0 < free_files < files:
        raise AgentError(
            "disk-full",
            f"{folder} has room for {free_files:,} more files, and {files:,} are needed",
            "use a volume with XFS, or pack small files together",
        )


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / MIB:.0f} MiB"


def piece_size(found: Object, parts: int, first_part: int | None) -> int:
    """Into what a large object is cut: its own ``parts``, if they prove it and their size is known or likely."""
    if parts > 1:
        if first_part is not None and -(-found.size // first_part) == parts:
            return first_part
        likely = likely_part_sizes(found.size, parts)
        if likely:
            return likely[0]
    return PIECE


def pieces(size: int, each: int) -> Iterator[tuple[int, int]]:
    """Begin and end of every piece, without gaps."""
    for begin in range(0, size, each):
        yield begin, min(size, begin + each)


@dataclass(frozen=True)
class Job:
    """One request: a whole object, or a piece of a large one."""

    path: str
    object: Object
    begin: int = 0
    end: int = -1
    """-1 for a whole object."""
    check: Check = SIZE
    """Of a large object: what it is to be proven by."""

    @property
    def size(self) -> int:
        """Bytes."""
        return (self.object.size if self.end < 0 else self.end) - self.begin


def batches(jobs: Sequence[Job], workers: int) -> Iterator[list[Job]]:
    """The jobs in their order, in lots of which each worker takes one at a time; small enough that all have some."""
    files = max(1, min(BATCH_FILES, -(-len(jobs) // (workers * 2))))
    total = sum(job.size for job in jobs)
    most = max(PIECE, min(BATCH_BYTES, total // (workers * 2)))
    lot: list[Job] = []
    size = 0
    for job in jobs:
        if lot and (len(lot) >= files or size + job.size > most):
            yield lot
            lot, size = [], 0
        lot.append(job)
        size += job.size
    if lot:
        yield lot


def jobs_of(
    plan: Differences,
    prepared: Mapping[str, tuple[Check, int]],
    finished: Mapping[tuple[str, str], dict[int, str]],
) -> list[Job]:
    """Every request that is needed; pieces that are on the disk already are not.

    ``prepared`` has the check and the size of the pieces of each large object that can be fetched.
    """
    found: list[Job] = []
    for path, wanted in plan.fetch:
        if wanted.size <= WHOLE:
            found.append(Job(path, wanted))
            continue
        if path not in prepared:
            continue
        check, each = prepared[path]
        done = finished.get((path, wanted.etag), {})
        found += [
            Job(path, wanted, begin, end, check)
            for begin, end in pieces(wanted.size, each)
            if begin not in done
        ]
    return found
