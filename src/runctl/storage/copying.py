"""Files copied from one machine to another, this computer among them: in pieces, checked, taken up where they were.

Both sides are agents. The one that has the files says what there is, with checksums; the other says how much of that it
has already; what is missing goes over in pieces. A file takes its place when it is whole and its checksum is right, so
that the same copy given again goes on where it broke off, and sends nothing when all is there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import BinaryIO

from runctl._dataclasses import dataclass
from runctl.core.clock import Clock, SystemClock
from runctl.core.errors import Conflict, MachineError, NotFound, Unreachable
from runctl.core.progress import SILENT, Progress
from runctl.core.text import counted
from runctl.core.waiting import Backoff
from runctl.transport.files import Entry, Listing, MachineFiles, Piece

BATCH_BYTES = 8 << 20
"""What goes over at once, and again when a connection breaks."""
BATCH_FILES = 500
TRIES = 5
"""Broken connections in a row, without a byte in between, after which a copy gives up."""
LOOKS = 3
"""At a folder in which somebody writes meanwhile; then its files are copied one by one."""
CHANGED = frozenset({"file-changed", "cannot-read", "damaged"})
"""What a copy fails with where a file is another one than a moment ago, or is gone."""
FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 2.0, 8.0


@dataclass(frozen=True)
class Copied:
    """What a copy has done. All of it is at the target now, but for what was ``skipped`` or ``changed``."""

    source: str
    target: str
    """Absolute path of the file, or of the folder."""
    files: int
    bytes: int
    sent_files: int
    """Those of which something had to go over; the others were there."""
    sent_bytes: int
    skipped: tuple[str, ...] = ()
    """Neither files nor folders, and links that lead out of the folder."""
    changed: tuple[str, ...] = ()
    """Files that somebody wrote to whenever they were copied."""


@dataclass(frozen=True)
class _Want:
    """What is to be at the target, below a folder of it."""

    root: str
    files: tuple[Entry, ...]
    folders: tuple[Entry, ...]
    links: tuple[Entry, ...]
    skipped: tuple[str, ...]
    changed: tuple[str, ...] = ()


def copy(
    source: MachineFiles,
    source_path: str,
    target: MachineFiles,
    target_path: str,
    *,
    progress: Progress = SILENT,
    clock: Clock | None = None,
) -> Copied:
    """The file or folder ``source_path`` is at the target, with the same bytes, modes and times.

    A folder becomes ``target_path`` itself; a file goes into it where that is a folder, or ends with a slash. What is
    at the target and not in the source stays. A folder may be written to meanwhile: what is gone from it is not copied,
    and of a file that is another one by now, that one. Raises `NotFound` (nothing there), `Conflict` (a file is in a
    folder's place), `Unreachable` after `TRIES`, and what the agents raise; what has arrived stays for the next time.
    """
    sent: dict[str, int] = {}
    for look in range(1, LOOKS + 1):
        progress.step(f"looking at {source_path}")
        listing = source.listing(source_path, checksums=True)
        if listing.kind == "missing":
            raise NotFound(f"there is no {source_path}", hint="check the path", code="no-such-file")
        there = target.listing(target_path, shallow=True)
        want = _wanted(listing, there, target_path)
        progress.step(f"copying {counted(len(want.files), 'file')}")
        is_file = listing.kind == "file"
        try:
            copy_files(
                source,
                listing.path,
                target,
                want.root,
                want.files,
                # A file of its own is asked for by its own path.
                source_paths={entry.path: "" for entry in want.files} if is_file else None,
                sent=sent,
                progress=progress,
                clock=clock,
            )
            break
        except (Conflict, MachineError) as error:
            if error.code not in CHANGED or (is_file and look == LOOKS):
                raise
            progress.note(f"{error.message}; looking again")
            if look == LOOKS:
                want = _one_by_one(source, listing.path, target, want, sent, progress, clock)
    target.finish(want.root, want.folders, want.links)
    return Copied(
        source=listing.path,
        target=str(PurePosixPath(want.root) / want.files[0].path) if is_file else want.root,
        files=len(want.files),
        bytes=sum(entry.size for entry in want.files),
        sent_files=len(sent),
        sent_bytes=sum(sent.values()),
        skipped=want.skipped,
        changed=want.changed,
    )


def _wanted(listing: Listing, there: Listing, target_path: str) -> _Want:
    """Where everything belongs. Pure. Raises `Conflict`."""
    if listing.kind == "folder":
        if there.kind == "file":
            raise Conflict(
                f"{there.path} is a file, and {listing.path} is a folder",
                hint="name another place for it",
                code="file-in-the-way",
            )
        kinds = {
            kind: tuple(entry for entry in listing.entries if entry.type == kind) for kind in ("f", "d", "l")
        }
        return _Want(there.path, kinds["f"], kinds["d"], kinds["l"], listing.skipped)
    (entry,) = listing.entries
    into = there.kind == "folder" or target_path.endswith("/")
    path = PurePosixPath(there.path)
    root, name = (path, entry.path) if into else (path.parent, path.name)
    return _Want(str(root), (replace(entry, path=name),), (), (), ())


def _one_by_one(
    source: MachineFiles,
    source_root: str,
    target: MachineFiles,
    want: _Want,
    sent: dict[str, int],
    progress: Progress,
    clock: Clock | None,
) -> _Want:
    """What there was to be had of a folder in which somebody goes on writing.

    Raises what `copy_files` raises for a file that has not changed.
    """
    files: list[Entry] = []
    changed: list[str] = []
    for wanted in want.files:
        entry: Entry | None = wanted
        for _ in range(LOOKS):
            assert entry is not None  # noqa: S101 - left below otherwise
            try:
                copy_files(
                    source, source_root, target, want.root, [entry], sent=sent, progress=progress, clock=clock
                )
                files.append(entry)
                break
            except (Conflict, MachineError) as error:
                if error.code not in CHANGED:
                    raise
                now = source.listing(f"{source_root}/{entry.path}", checksums=True)
                if now.kind == "missing":
                    break
                before, entry = (
                    entry,
                    replace(now.entries[0], path=entry.path) if now.kind == "file" else None,
                )
                if entry == before:
                    raise
                if entry is None:
                    changed.append(before.path)
                    break
        else:
            changed.append(wanted.path)
    return replace(want, files=tuple(files), changed=tuple(changed))


def copy_files(
    source: MachineFiles,
    source_root: str,
    target: MachineFiles,
    target_root: str,
    files: Sequence[Entry],
    *,
    source_paths: Mapping[str, str] | None = None,
    sent: dict[str, int] | None = None,
    progress: Progress = SILENT,
    clock: Clock | None = None,
) -> tuple[int, int]:
    """Each of the files, whose SHA-256 is known, is below ``target_root`` as it is below ``source_root``.

    Returns how many files and bytes had to go over; ``sent`` has the bytes of each, also after an error.
    ``source_paths`` are those that have another name there. Raises as `copy` does, and `Conflict` or `MachineError`
    with a code of `CHANGED` where a file is another one than its entry says.
    """
    clock = clock or SystemClock()
    original = source_paths or {entry.path: entry.path for entry in files}
    total = sum(entry.size for entry in files)
    sent = {} if sent is None else sent
    failures = 0
    backoff = Backoff(clock, first=FIRST_PAUSE_SECONDS, most=MOST_PAUSE_SECONDS)
    while True:
        arrived = False
        try:
            _, have = target.have(target_root, files)
            done = sum(have)
            progress.update(done=done, total=total)
            for batch in batches(files, have):
                with tempfile.TemporaryFile() as data:
                    _take(source, source_root, batch, original, data)
                    target.store(target_root, batch, data)
                arrived = True
                for piece in batch:
                    sent[piece.path] = sent.get(piece.path, 0) + piece.length
                done += sum(piece.length for piece in batch)
                progress.update(done=done, total=total)
        except Unreachable as error:
            if arrived:
                failures = 0
                backoff.reset()
            failures += 1
            if failures >= TRIES:
                raise Unreachable(
                    error.message, hint="run the same command again to continue", code=error.code
                ) from error
            progress.note(f"{error.message}; trying again")
            backoff.sleep()
        else:
            return len(sent), sum(sent.values())


def batches(files: Sequence[Entry], have: Sequence[int]) -> Iterator[tuple[Piece, ...]]:
    """What is missing, in the order of the files, as much at once as goes over at once. Pure."""
    batch: list[Piece] = []
    room = BATCH_BYTES
    for entry, there in zip(files, have, strict=True):
        if there >= entry.size > 0:
            continue
        offset = there
        while True:
            length = min(room, entry.size - offset)
            batch.append(
                Piece(entry.path, offset, length, entry.size, entry.text, entry.mode, entry.mtime_ns)
            )
            offset, room = offset + length, room - length
            if room == 0 or len(batch) == BATCH_FILES:
                yield tuple(batch)
                batch, room = [], BATCH_BYTES
            if offset == entry.size:
                break
    if batch:
        yield tuple(batch)


def _take(
    source: MachineFiles, root: str, batch: Sequence[Piece], original: Mapping[str, str], data: BinaryIO
) -> None:
    """``data`` has the bytes of the batch. Raises `Conflict` for a file that has become shorter meanwhile."""
    asked = [replace(piece, path=original[piece.path]) for piece in batch]

    def write(_piece: Piece, _at: int, found: bytes) -> None:
        data.write(found)

    source.fetch(root, asked, write)
    if data.tell() != sum(piece.length for piece in batch):
        names = ", ".join(sorted({piece.path for piece in batch})[:3])
        raise Conflict(
            f"a file became shorter while it was copied: one of {names}",
            hint="copy it when nobody writes to it: the same command continues",
            code="file-changed",
        )
    data.seek(0)
