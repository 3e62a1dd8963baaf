"""What exactly a project is at this moment: every file's path, mode, size and hash, and one digest of it all."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final

from runctl.core.errors import ProjectError
from runctl.project.selection import Selection, link_target

Entry = Sequence[Any]
"""``["f", executable (0 or 1), size, sha256]`` or ``["l", target]``: what goes over the wire, as it is. An object for
each of thousands of files would cost more time than reading them."""

_RACY_NS = 2 * 10**9
"""A file written so shortly before it was hashed may be written again without a change of its times (some file
systems count in seconds or two), so that its hash is not remembered."""
_ATTEMPTS = 3
_CHUNK = 1 << 20
_CACHE_VERSION: Final = 1


class FileChanged(ProjectError):
    """A file was written to while it was being read."""

    code = "file-changed"


@dataclass(frozen=True)
class Manifest:
    """The content of a tree: path from the root, with forward slashes, to `Entry`."""

    entries: Mapping[str, Entry]

    @cached_property
    def text(self) -> bytes:
        """The canonical form: JSON in ASCII with sorted keys and no spaces. Equal trees have equal texts."""
        return json.dumps(self.entries, sort_keys=True, separators=(",", ":")).encode("ascii")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `text`: the tree's name."""
        return hashlib.sha256(self.text).hexdigest()

    @cached_property
    def contents(self) -> Mapping[str, int]:
        """Each distinct content's hash and size."""
        return {entry[3]: entry[2] for entry in self.entries.values() if entry[0] == "f"}

    def changes_from(self, base: Manifest) -> dict[str, Any]:
        """What makes ``base`` into this: ``{"set": {path: entry}, "remove": [path]}``."""
        before = base.entries
        changed = {path: entry for path, entry in self.entries.items() if before.get(path) != entry}
        return {"set": changed, "remove": sorted(before.keys() - self.entries.keys())}

    @classmethod
    def from_text(cls, text: bytes) -> Manifest:
        """Read `text` back. Raises `ValueError`."""
        entries = json.loads(text)
        if not isinstance(entries, dict):
            raise ValueError("a manifest is a JSON object")
        return cls(entries)


@dataclass
class HashCache:
    """Hashes of files that have not been touched since, by path, times, size and inode.

    One file per project. A cache that cannot be read counts as empty, one that cannot be written is not missed.
    """

    path: Path
    known: dict[str, list[Any]] = field(default_factory=dict)

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

    def save(self, known: dict[str, list[Any]]) -> None:
        """Replace what is known, if it differs."""
        if known == self.known:
            return
        self.known = known
        with contextlib.suppress(OSError):
            write_atomically(
                self.path, json.dumps({"version": _CACHE_VERSION, "files": known}).encode("ascii")
            )


def build_manifest(selection: Selection, cache: HashCache | None = None) -> Manifest:
    """Hash what was selected, reading only what is new or touched since the last time.

    A file that vanishes meanwhile is not in the result. Raises `ProjectError` for one that cannot be read, and
    `FileChanged` for one that is written to faster than it can be read.
    """
    before = cache.known if cache is not None else {}
    known: dict[str, list[Any]] = {}
    entries: dict[str, Entry] = {}
    for path, found in selection.found.items():
        if stat.S_ISLNK(found.st_mode):
            with contextlib.suppress(OSError):
                target = link_target(selection.root, path)
                if target is not None:
                    entries[path] = ["l", target]
            continue
        stamp = _stamp(found)
        remembered = before.get(path)
        if remembered is not None and remembered[:4] == stamp:
            known[path] = remembered
            entries[path] = ["f", 1 if found.st_mode & 0o100 else 0, found.st_size, remembered[4]]
            continue
        started = time.time_ns()
        try:
            read, digest = _hash(selection.root, path)
        except FileNotFoundError:
            continue
        entries[path] = ["f", 1 if read.st_mode & 0o100 else 0, read.st_size, digest]
        if max(read.st_mtime_ns, read.st_ctime_ns) < started - _RACY_NS:
            known[path] = [*_stamp(read), digest]
    if cache is not None:
        cache.save(known)
    return Manifest(entries)


def write_pack(root: Path, manifest: Manifest, wanted: Collection[str], sink: BinaryIO) -> int:
    """Write the wanted contents (SHA-256s) as one gzip stream; returns how many files went in.

    The stream is one JSON line, ``[[sha256, size], …]``, and the contents in that order. Each is checked while it is
    read: what arrives is what the manifest says, or `FileChanged` is raised.
    """
    places: dict[str, str] = {}
    for path, entry in manifest.entries.items():
        if entry[0] == "f" and entry[3] in wanted:
            places.setdefault(entry[3], path)
    header = [[sha, manifest.contents[sha]] for sha in places]
    # No name and no time in it: the same contents are the same bytes.
    with gzip.GzipFile(filename="", fileobj=sink, mode="wb", compresslevel=3, mtime=0) as stream:
        stream.write(json.dumps(header, separators=(",", ":")).encode("ascii") + b"\n")
        for sha, path in places.items():
            _pack_file(root, path, manifest.contents[sha], sha, stream)
    return len(places)


def write_atomically(path: Path, data: bytes) -> None:
    """``path`` holds ``data``, private to the user, or is what it was. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123
            file.write(data)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _hash(root: Path, path: str) -> tuple[os.stat_result, str]:
    """The file's status and hash, which belong together: it was the same before and after reading."""
    for _ in range(_ATTEMPTS):
        with _opened(root, path) as file:
            before = os.fstat(file.fileno())
            digest = hashlib.sha256()
            length = 0
            while data := file.read(_CHUNK):
                digest.update(data)
                length += len(data)
            after = os.fstat(file.fileno())
        if length == after.st_size and _stamp(before) == _stamp(after):
            return after, digest.hexdigest()
    raise _changed(path)


def _pack_file(root: Path, path: str, size: int, sha: str, stream: gzip.GzipFile) -> None:
    digest = hashlib.sha256()
    left = size
    try:
        with _opened(root, path) as file:
            while left > 0 and (data := file.read(min(left, _CHUNK))):
                digest.update(data)
                stream.write(data)
                left -= len(data)
    except FileNotFoundError:
        raise _changed(path) from None
    if left or digest.hexdigest() != sha:
        raise _changed(path)


def _opened(root: Path, path: str) -> BinaryIO:
    def without_links(name: str, flags: int) -> int:
        # A file that has become a link or a pipe meanwhile must not be followed, or waited for.
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)

    try:
        return open(f"{root}/{path}", "rb", buffering=0, opener=without_links)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(path) from error
    except OSError as error:
        raise ProjectError(
            f"{path} cannot be read: {error.strerror}",
            hint="change its mode, or put it into .runctlignore",
            code="unreadable-file",
        ) from error


def _stamp(found: os.stat_result) -> list[int]:
    return [found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino]


def _changed(path: str) -> FileChanged:
    return FileChanged(
        f"{path} is being written to while it is read",
        hint="sync again when it is finished, or put it into .runctlignore",
    )
