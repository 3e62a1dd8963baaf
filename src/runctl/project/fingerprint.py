"""How a project's files looked when it was described last, so that only what was touched is looked into again.

With thousands of files, an object for each of them costs more than a look at the file. So here all times, sizes and
inodes are one array, the names are one string, and the manifest stays the text that it is; what differs is found by
comparing, and a new manifest is made by putting what has changed into the old one's text.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runctl.project.atomic import write_atomically
from runctl.project.manifest import Entry, HashCache, Manifest, describe, is_settled, spliced
from runctl.project.selection import Selection

_VERSION = 1
_ROW = 5
"""Numbers for each file: modification and change time, size, inode, mode."""
_ROW_BYTES = _ROW * 8
_BLOCK_ROWS = 256
_LONGEST_ENTRY = 1 << 16
"""Above what a link's target can have: 4,096 bytes, each escaped."""
_FEW = 50
"""So many touched files are looked into; with more, describing all is as quick."""


@dataclass(frozen=True)
class Snapshot:
    """A selection and its manifest."""

    root: str
    names: bytes
    rows: bytes
    """Of each file, in the order of the names. Of a file that was just being written it is zeros, which are like
    no file's: see `runctl.project.manifest.HashCache`."""
    text: bytes
    """The manifest's."""
    digest: str
    """Of the text."""
    files: int
    size_bytes: int

    @classmethod
    def load(cls, path: Path) -> Snapshot | None:
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
                rest[rows:],
                facts["digest"],
                facts["files"],
                facts["size_bytes"],
            )
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def save(self, path: Path) -> None:
        """Replace what was saved there; what cannot be written is not missed."""
        rest = self.names + self.rows + self.text
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


@dataclass(frozen=True)
class Look:
    """What a selection looks like now, to be compared."""

    selection: Selection
    root: str
    names: bytes
    rows: bytes
    taken_ns: int

    @classmethod
    def at(cls, selection: Selection) -> Look | None:
        """``None`` where a number is out of range: some file systems have inodes above 2 ** 63."""
        numbers: list[int] = []
        for found in selection.found.values():
            numbers += (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_mode)
        try:
            rows = array("q", numbers).tobytes()
        except OverflowError:
            return None
        names = "\0".join(selection.found).encode("utf-8", "surrogateescape")
        return cls(selection, str(selection.root), names, rows, time.time_ns())

    def touched(self, before: Snapshot) -> list[str] | None:
        """The paths that may have changed since; ``None`` if some came or went, or there are many."""
        if (self.root, self.names) != (before.root, before.names) or len(self.rows) != len(before.rows):
            return None
        if self.rows == before.rows:
            return []
        paths = list(self.selection.found)
        found = []
        for number in _differing(self.rows, before.rows):
            found.append(paths[number])
            if len(found) > _FEW:
                return None
        return found

    def snapshot(self, manifest: Manifest, settled: HashCache) -> Snapshot | None:
        """To be saved; ``None`` if a file vanished between the look and the manifest."""
        entries = manifest.entries
        if entries.keys() != self.selection.found.keys():
            return None
        rows = bytearray(self.rows)
        for number, (path, found) in enumerate(self.selection.found.items()):
            is_link = entries[path][0] == "l"
            if not (is_settled(found, self.taken_ns) if is_link else path in settled.known):
                _forget(rows, number)
        size = sum(entry[2] for entry in entries.values() if entry[0] == "f")
        return Snapshot(
            self.root, self.names, bytes(rows), manifest.text, manifest.digest, len(entries), size
        )

    def renewed(self, before: Snapshot, touched: Sequence[str]) -> tuple[Snapshot, dict[str, Entry]] | None:
        """The snapshot now, and the entries that are not as in the one before.

        ``None`` if a file vanished since the look. Raises what `runctl.project.manifest.describe` raises.
        """
        rows = bytearray(self.rows)
        text, size, changed = before.text, before.size_bytes, {}
        positions = {path: number for number, path in enumerate(self.selection.found)} if touched else {}
        for path in touched:
            entry, stamp = describe(self.selection.root, path, self.selection.found[path])
            old = entry_in(text, path)
            if entry is None or old is None:
                return None
            if stamp is None:
                _forget(rows, positions[path])
            if entry != old:
                changed[path] = entry
                text = spliced(text, path, old, entry)
                size += _size(entry) - _size(old)
        digest = hashlib.sha256(text).hexdigest() if changed else before.digest
        return replace(before, rows=bytes(rows), text=text, digest=digest, size_bytes=size), changed


def entry_in(text: bytes, path: str) -> list[Any] | None:
    """The entry of ``path`` in a manifest's text."""
    key = json.dumps(path).encode("ascii") + b":"
    # A quote behind an unescaped comma or brace begins a path: inside of one it would be escaped.
    for before in (b",", b"{"):
        start = text.find(before + key)
        if start >= 0:
            start += len(before + key)
            entry, _ = json.JSONDecoder().raw_decode(text[start : start + _LONGEST_ENTRY].decode("ascii"))
            return entry if isinstance(entry, list) else None
    return None


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


def _size(entry: Entry) -> int:
    return int(entry[2]) if entry[0] == "f" else 0
