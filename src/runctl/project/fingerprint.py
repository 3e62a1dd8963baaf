"""How a project's files looked when it was described last, so that only what has changed since is read.

With thousands of files, an object for each of them costs more than an lstat. So all times, sizes and inodes are one
array, the names are one string, and the manifest stays the text that it is; what differs is found by comparing, and a
new manifest is the old one's text, edited.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import time
from array import array
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.agent.trees.manifest import Entry, Manifest
from runctl.project.caches import write_atomically
from runctl.project.manifest import HashCache, describe, is_settled
from runctl.project.selection import Selection

_VERSION = 2
_ROW = 5
"""Numbers for each file: modification and change time, size, inode, mode."""
_NUMBERS = attrgetter("st_mtime_ns", "st_ctime_ns", "st_size", "st_ino", "st_mode")
_ROW_BYTES = _ROW * 8
_BLOCK_ROWS = 256
_FEW = 50
"""So many changed files are read one by one; with more, describing all is as quick."""


@dataclass(frozen=True)
class Fingerprint:
    """A selection as it was, and its manifest."""

    root: str
    names: bytes
    rows: bytes
    """Of each file, in the order of the names. Of a file that was just being written it is zeros, which are like
    no file's: see `runctl.project.manifest.HashCache`."""
    text: str
    """The manifest's."""
    digest: str
    """Of the text."""
    files: int
    size_bytes: int

    @classmethod
    def load(cls, path: Path) -> Fingerprint | None:
        """What was saved there, or nothing."""
        try:
            data = path.read_bytes()
            head, _, rest = data.partition(b"\n")
            facts = json.loads(head)
            if facts["version"] != _VERSION or facts["sha256"] != hashlib.sha256(rest).hexdigest():
                return None
            names, rows = facts["names"], facts["names"] + facts["rows"]
            return cls(
                facts["root"],
                rest[:names],
                rest[names:rows],
                rest[rows:].decode("ascii"),
                facts["digest"],
                facts["files"],
                facts["size_bytes"],
            )
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def save(self, path: Path) -> None:
        """Replace what was saved there; what cannot be written is not missed."""
        rest = self.names + self.rows + self.text.encode("ascii")
        facts = {
            "version": _VERSION,
            "sha256": hashlib.sha256(rest).hexdigest(),
            "root": self.root,
            "names": len(self.names),
            "rows": len(self.rows),
            "digest": self.digest,
            "files": self.files,
            "size_bytes": self.size_bytes,
        }
        with contextlib.suppress(OSError):
            write_atomically(path, json.dumps(facts).encode("ascii") + b"\n" + rest)

    @property
    def paths(self) -> list[str]:
        """The names, each by itself."""
        return self.names.decode("utf-8", "surrogateescape").split("\0")

    @property
    def manifest(self) -> Manifest:
        """What the files were."""
        return Manifest(text=self.text, digest=self.digest)


@dataclass(frozen=True)
class Changes:
    """What may be different from a fingerprint."""

    touched: tuple[str, ...] = ()
    """New files, and files whose times, size, inode or mode differ."""
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.touched or self.removed)


@dataclass(frozen=True)
class FileStats:
    """A selection's files as they are now, to be compared."""

    selection: Selection
    root: str
    names: bytes
    rows: bytes
    taken_ns: int

    @classmethod
    def of(cls, selection: Selection) -> FileStats | None:
        """``None`` where a number is out of range: some file systems have inodes above 2 ** 63."""
        numbers = itertools.chain.from_iterable(map(_NUMBERS, selection.found.values()))
        try:
            rows = array("q", numbers).tobytes()
        except OverflowError:
            return None
        names = "\0".join(selection.found).encode("utf-8", "surrogateescape")
        return cls(selection, str(selection.root), names, rows, time.time_ns())

    def changes_since(self, before: Fingerprint) -> Changes | None:
        """``None`` for another project, and where there are many."""
        if self.root != before.root:
            return None
        if self.names == before.names and len(self.rows) == len(before.rows):
            if self.rows == before.rows:
                return Changes()
            paths = list(self.selection.found)
            touched = tuple(paths[number] for number in _differing(self.rows, before.rows))
            return Changes(touched) if len(touched) <= _FEW else None
        old = before.paths
        if len(before.rows) != len(old) * _ROW_BYTES or abs(len(old) - len(self.selection.found)) > _FEW:
            return None
        rows = {path: _row(before.rows, number) for number, path in enumerate(old)}
        touched = tuple(
            path
            for number, path in enumerate(self.selection.found)
            if rows.pop(path, None) != _row(self.rows, number)
        )
        return Changes(touched, tuple(rows)) if len(touched) + len(rows) <= _FEW else None

    def fingerprint(self, manifest: Manifest, settled: HashCache) -> Fingerprint | None:
        """To be saved; ``None`` if a file has vanished since."""
        entries = manifest.entries
        if entries.keys() != self.selection.found.keys():
            return None
        rows = bytearray(self.rows)
        for number, (path, found) in enumerate(self.selection.found.items()):
            is_link = entries[path][0] == "l"
            if not (is_settled(found, self.taken_ns) if is_link else path in settled.known):
                _forget(rows, number)
        size = sum(_size(entry) for entry in entries.values())
        return Fingerprint(
            self.root, self.names, bytes(rows), manifest.text, manifest.digest, len(entries), size
        )

    def updated(
        self, before: Fingerprint, changes: Changes
    ) -> tuple[Fingerprint, Manifest, dict[str, Entry]] | None:
        """The fingerprint now, its manifest, and the entries that are not as in the one before.

        ``None`` if a file has vanished since. Raises what `runctl.project.manifest.describe` raises.
        """
        rows = bytearray(self.rows)
        manifest, size, changed = before.manifest, before.size_bytes, {}
        paths = list(self.selection.found)
        for path in changes.touched:
            entry, stamp = describe(self.selection.root, path, self.selection.found[path])
            if entry is None:
                return None
            if stamp is None:
                _forget(rows, paths.index(path))
            old = manifest.get(path)
            if entry != old:
                changed[path] = entry
                size += _size(entry) - _size(old)
        size -= sum(_size(manifest.get(path)) for path in changes.removed)
        if changed or changes.removed:
            manifest = manifest.with_changes(changed, changes.removed)
        now = replace(
            before,
            names=self.names,
            rows=bytes(rows),
            text=manifest.text,
            digest=manifest.digest,
            files=len(self.selection.found),
            size_bytes=size,
        )
        return now, manifest, changed


def _row(rows: bytes, number: int) -> bytes:
    return rows[number * _ROW_BYTES : (number + 1) * _ROW_BYTES]


def _differing(new: bytes, old: bytes) -> Sequence[int]:
    """Numbers of the rows that are not the same."""
    found = []
    block = _ROW_BYTES * _BLOCK_ROWS
    for start in range(0, len(new), block):
        if new[start : start + block] == old[start : start + block]:
            continue
        for at in range(start, min(start + block, len(new)), _ROW_BYTES):
            if new[at : at + _ROW_BYTES] != old[at : at + _ROW_BYTES]:
                found.append(at // _ROW_BYTES)
    return found


def _forget(rows: bytearray, number: int) -> None:
    rows[number * _ROW_BYTES : (number + 1) * _ROW_BYTES] = bytes(_ROW_BYTES)


def _size(entry: Entry | None) -> int:
    return int(entry[2]) if entry is not None and entry[0] == "f" else 0
