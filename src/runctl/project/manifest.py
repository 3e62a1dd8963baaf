"""What exactly a project is at this moment: every file's path, mode, size and hash, and one digest of it all."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import stat
import time
import zlib
from collections.abc import Collection, Mapping
from dataclasses import field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final

from runctl._dataclasses import dataclass
from runctl.agent.trees.manifest import Entry, Manifest
from runctl.core.errors import ProjectError
from runctl.project.caches import write_atomically
from runctl.project.inside import open_file
from runctl.project.selection import Selection, link_target

_RACY_NS = 2 * 10**9
"""A file written so shortly before it was hashed may be written again without a change of its times (some file
systems count in seconds or two), so that its hash is not remembered."""
_ATTEMPTS = 3
_CHUNK = 1 << 20
_CACHE_VERSION: Final = 1
_BYTES_LIKE_A_FILE = 1 << 14
"""To read and hash so many takes about as long as to open one more file."""
_NOT_WORTH_IT = 0.01
"""Below this share of news the cache is not written anew: to hash these files once more is quicker."""


class FileChanged(ProjectError):
    """A file was written to while it was being read."""

    code = "file-changed"


@dataclass
class HashCache:
    """Hashes of files that have not been touched since, by path, times, size and inode.

    One file per project. A cache that cannot be read counts as empty, one that cannot be written is not missed.
    """

    path: Path
    known: dict[str, list[Any]] = field(default_factory=dict)
    """The manifest's path to the file's modification and change time, size, inode and hash."""
    news: int = 0
    """What has changed since it was loaded or saved, in files of the usual size."""

    @classmethod
    def load(cls, path: Path) -> HashCache:
        """What was saved there, or nothing."""
        try:
            saved = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return cls(path)
        if not isinstance(saved, dict) or saved.get("version") != _CACHE_VERSION:
            return cls(path)
        files = saved.get("files")
        return cls(path, files if isinstance(files, dict) else {})

    def save(self) -> None:
        """Write what is known, unless to hash what is new once more is quicker."""
        if self.news <= _NOT_WORTH_IT * len(self.known):
            return
        self.news = 0
        saved = {"version": _CACHE_VERSION, "files": self.known}
        with contextlib.suppress(OSError):
            write_atomically(self.path, json.dumps(saved, separators=(",", ":")).encode("ascii"))


def build_manifest(selection: Selection, cache: HashCache | None = None) -> Manifest:
    """Hash what was selected, reading only what is new or touched since the last time.

    ``cache`` knows the hashes afterwards, and is not saved. A file that vanishes meanwhile is not in the result.
    Raises `ProjectError` for one that cannot be read, and `FileChanged` for one that is written to faster than it can
    be read.
    """
    before = cache.known if cache is not None else {}
    known: dict[str, list[Any]] = {}
    entries: dict[str, Entry] = {}
    news = 0
    for path, found in selection.found.items():
        remembered = before.get(path)
        if (
            remembered is not None
            and remembered[0] == found.st_mtime_ns
            and remembered[1] == found.st_ctime_ns
            and remembered[2] == found.st_size
            and remembered[3] == found.st_ino
        ):
            known[path] = remembered
            entries[path] = ["f", 1 if found.st_mode & 0o100 else 0, found.st_size, remembered[4]]
            continue
        entry, stamp = describe(selection.root, path, found)
        if entry is None:
            continue
        entries[path] = entry
        if entry[0] == "f" and stamp is not None:
            known[path] = [*stamp, entry[3]]
            news += 1 + entry[2] // _BYTES_LIKE_A_FILE
    if cache is not None:
        cache.news += news + len(before.keys() - known.keys())
        cache.known = known
    return Manifest(entries)


def describe(root: Path, path: str, found: os.stat_result) -> tuple[Entry | None, list[int] | None]:
    """The entry of what was found there, and what a `HashCache` knows it again by.

    No entry if it has vanished, or is a link that leads out now; nothing to know it by if it was written so lately
    that it may be written again unnoticed. Raises as `build_manifest` does.
    """
    started = time.time_ns()
    if stat.S_ISLNK(found.st_mode):
        with contextlib.suppress(OSError):
            target = link_target(root, path)
            if target is not None:
                return ["l", target], _stamp(found) if is_settled(found, started) else None
        return None, None
    try:
        read, digest = _hash(root, path)
    except FileNotFoundError:
        return None, None
    entry = ["f", 1 if read.st_mode & 0o100 else 0, read.st_size, digest]
    return entry, _stamp(read) if is_settled(read, started) else None


def is_settled(found: os.stat_result, now_ns: int) -> bool:
    """Whether it was written so long before ``now_ns`` that writing it again shows in its times."""
    return max(found.st_mtime_ns, found.st_ctime_ns) < now_ns - _RACY_NS


def write_pack(root: Path, entries: Mapping[str, Entry], wanted: Collection[str], sink: BinaryIO) -> int:
    """Write the wanted contents (SHA-256s) of these files as one gzip stream; returns how many went in.

    The stream is one JSON line, ``[[sha256, size], …]``, and the contents in that order. Each is checked while it is
    read: what arrives is what the entry says, or `FileChanged` is raised.
    """
    packed: dict[str, tuple[str, int]] = {}
    for path, entry in entries.items():
        if entry[0] == "f" and entry[3] in wanted:
            packed.setdefault(entry[3], (path, entry[2]))
    header = [[sha, size] for sha, (_, size) in packed.items()]
    # No name and no time in it: the same contents are the same bytes.
    with gzip.GzipFile(filename="", fileobj=sink, mode="wb", compresslevel=3, mtime=0) as stream:
        stream.write(json.dumps(header, separators=(",", ":")).encode("ascii") + b"\n")
        for sha, (path, size) in packed.items():
            _pack_file(root, path, size, sha, stream)
    return len(packed)


def pack_of(root: Path, entries: Mapping[str, Entry]) -> bytes:
    """Each content of these files once, in the order of their paths, by zlib. Raises as `write_pack` does."""
    packed: dict[str, bytes] = {}
    for path in sorted(entries):
        entry = entries[path]
        if entry[0] == "f" and entry[3] not in packed:
            sink = BytesIO()
            _pack_file(root, path, entry[2], entry[3], sink)
            packed[entry[3]] = sink.getvalue()
    return zlib.compress(b"".join(packed.values()), 3)


def _hash(root: Path, path: str) -> tuple[os.stat_result, str]:
    """The file's status and hash, which belong together: it was the same before and after reading."""
    for _ in range(_ATTEMPTS):
        with open_file(root, path) as file:
            before = os.fstat(file.fileno())
            digest = hashlib.sha256()
            length = 0
            # No more than was there: a file that grows faster than it is read has no end.
            while data := file.read(min(_CHUNK, before.st_size - length)):
                digest.update(data)
                length += len(data)
            after = os.fstat(file.fileno())
        if length == after.st_size and _stamp(before) == _stamp(after):
            return after, digest.hexdigest()
    raise _changed(path)


def _pack_file(root: Path, path: str, size: int, sha: str, stream: BinaryIO | gzip.GzipFile) -> None:
    digest = hashlib.sha256()
    left = size
    try:
        with open_file(root, path) as file:
            while left > 0 and (data := file.read(min(left, _CHUNK))):
                digest.update(data)
                stream.write(data)
                left -= len(data)
    except FileNotFoundError:
        raise _changed(path) from None
    if left or digest.hexdigest() != sha:
        raise _changed(path)


def _stamp(found: os.stat_result) -> list[int]:
    return [found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino]


def _changed(path: str) -> FileChanged:
    return FileChanged(
        f"{path} is being written to while it is read",
        hint="sync again when it is finished, or put it into .runctlignore",
    )
