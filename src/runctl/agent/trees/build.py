"""Turns a folder that holds one tree's files into one that holds another's: links, copies, and what a pack brings."""

# Names need not be UTF-8, so paths are bytes here, which pathlib does not take.
# ruff: noqa: PTH102, PTH106, PTH108, PTH123, PTH211

from __future__ import annotations

import errno
import hashlib
import os
from typing import BinaryIO

from runctl.agent.trees.files import discard, limited
from runctl.agent.trees.manifest import EMPTY, Entry, Manifest, contents, folders
from runctl.agent.trees.on_disk import CHUNK, NO_LINKS, encoded, write_file


class Builder:
    """Turns a folder that holds ``before`` into one that holds ``after``."""

    def __init__(self, folder: str, after: Manifest, before: Manifest) -> None:
        self.root = os.fsencode(folder) + b"/"
        self.folder = folder
        self.after = after
        self.before = before
        differences = before.differences(after)
        self.added: dict[str, Entry] = {
            path: new for path, (_, new) in differences.items() if new is not None
        }
        self.gone = [path for path, (old, _) in differences.items() if old is not None]
        self.new_paths = [path for path, (old, _) in differences.items() if old is None]
        self.lost_paths = [path for path, (_, new) in differences.items() if new is None]

    def wanted(self) -> set[str]:
        """The contents that are needed and are not where they belong yet."""
        return set(contents(self.added.values()))

    def start(self) -> None:
        """What does not stay is gone, the folders are there, and so are the symlinks.

        Raises `OSError` where the folder does not hold ``before``.
        """
        for path in self.gone:
            os.unlink(self.root + encoded(path))
        for path in sorted(folders(self.lost_paths), key=len, reverse=True):
            if not self.after.has_folder(path):
                os.rmdir(self.root + encoded(path))
        for path in sorted(folders(self.new_paths), key=len):
            if self.before is EMPTY or not self.before.has_folder(path):
                os.mkdir(self.root + encoded(path), 0o755)
        for path in self.added:
            if self.added[path][0] == "l":
                os.symlink(encoded(self.added[path][1]), self.root + encoded(path))
            elif self.before is not EMPTY and os.path.lexists(self.root + encoded(path)):
                raise FileExistsError(errno.EEXIST, "it is there already", path)

    def write_known(self, sources: dict[str, dict[int, bytes]]) -> list[bytes]:
        """The files whose content this machine has are there; returns those that had to be copied."""
        written = []
        for path in self.added:
            kind, *rest = self.added[path]
            copies = sources.get(rest[2]) if kind == "f" else None
            if copies and self._link_or_copy(path, copies):
                written.append(self.root + encoded(path))
        return written

    def write_packed(self, pack: BinaryIO, packed: list[tuple[str, int]]) -> list[bytes]:
        """The files whose content is in the pack are there, each checked against its hash."""
        waiting: dict[str, list[str]] = {}
        for path in self.added:
            if self.added[path][0] == "f":
                waiting.setdefault(self.added[path][3], []).append(path)
        written = []
        for sha, size in packed:
            paths = [path for path in waiting.get(sha, ()) if not os.path.lexists(self.root + encoded(path))]
            if not paths:
                discard(pack, size)
                continue
            first = self.root + encoded(paths[0])
            executable = self.added[paths[0]][1]
            write_file(first, executable, limited(pack, size), sha, hashlib.sha256)
            written.append(first)
            for path in paths[1:]:
                if self._link_or_copy(path, {executable: first}):
                    written.append(self.root + encoded(path))
        return written

    def _link_or_copy(self, path: str, copies: dict[int, bytes]) -> bool:
        """Link the file, or copy it where its mode is another or links are not to be had; says if it copied."""
        target, (_, executable, _, sha) = self.root + encoded(path), self.added[path]
        if executable in copies:
            try:
                os.link(copies[executable], target)
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
            else:
                return False
        with open(next(iter(copies.values())), "rb") as source:
            write_file(target, executable, iter(lambda: source.read(CHUNK), b""), sha, hashlib.sha256)
        return True
