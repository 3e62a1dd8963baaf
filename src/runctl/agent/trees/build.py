"""Turns a folder that holds one tree's files into one that holds another's: links, copies, and what a pack brings."""

# Names need not be UTF-8, so paths are bytes here, which pathlib does not take.
# ruff: noqa: PTH102, PTH106, PTH108, PTH123, PTH211

from __future__ import annotations

import errno
import os
from typing import BinaryIO, Dict, List, Set, Tuple

from runctl.agent.trees.files import (
    CHUNK,
    NO_LINKS,
    Entries,
    contents,
    discard,
    encoded,
    flush,
    flush_file_system,
    folders,
    limited,
    write_file,
)

FEW = 100
"""Up to so many new files are flushed one by one; above, the file system is flushed as a whole."""


class Builder:
    """Turns a folder that holds ``previous`` into one that holds ``entries``."""

    def __init__(self, folder: str, entries: Entries, previous: Entries) -> None:
        self.root = os.fsencode(folder) + b"/"
        self.folder = folder
        self.entries = entries
        self.previous = previous
        self.added = [path for path, entry in entries.items() if previous.get(path) != entry]
        self.same_paths = previous.keys() == entries.keys()
        self.gone = self.added
        if not self.same_paths:
            self.gone = [path for path, entry in previous.items() if entries.get(path) != entry]

    def wanted(self) -> Set[str]:
        """The contents that are needed and are not where they belong yet."""
        return contents(self.entries[path] for path in self.added)

    def start(self) -> None:
        """What does not stay is gone, the folders are there, and so are the symlinks.

        Raises `OSError` where the folder does not hold ``previous``.
        """
        for path in self.gone:
            os.unlink(self.root + encoded(path))
        if not self.same_paths:
            before, after = folders(self.previous), folders(self.entries)
            for path in sorted(before - after, key=len, reverse=True):
                os.rmdir(self.root + encoded(path))
            for path in sorted(after - before, key=len):
                os.mkdir(self.root + encoded(path), 0o755)
        for path in self.added:
            if self.entries[path][0] == "l":
                os.symlink(encoded(self.entries[path][1]), self.root + encoded(path))
            elif self.previous and os.path.lexists(self.root + encoded(path)):
                raise FileExistsError(errno.EEXIST, "it is there already", path)

    def place_known(self, sources: Dict[str, Dict[int, bytes]]) -> List[bytes]:
        """The files whose content this machine has are there; returns those that had to be copied."""
        written = []
        for path in self.added:
            kind, *rest = self.entries[path]
            places = sources.get(rest[2]) if kind == "f" else None
            if places and self.place(path, places):
                written.append(self.root + encoded(path))
        return written

    def place_packed(self, pack: BinaryIO, packed: List[Tuple[str, int]]) -> List[bytes]:
        """The files whose content is in the pack are there, each checked against its hash."""
        waiting: Dict[str, List[str]] = {}
        for path in self.added:
            if self.entries[path][0] == "f":
                waiting.setdefault(self.entries[path][3], []).append(path)
        written = []
        for sha, size in packed:
            paths = [path for path in waiting.get(sha, ()) if not os.path.lexists(self.root + encoded(path))]
            if not paths:
                discard(pack, size)
                continue
            first = self.root + encoded(paths[0])
            executable = self.entries[paths[0]][1]
            write_file(first, executable, limited(pack, size), sha)
            written.append(first)
            for path in paths[1:]:
                if self.place(path, {executable: first}):
                    written.append(self.root + encoded(path))
        return written

    def place(self, path: str, places: Dict[int, bytes]) -> bool:
        """Link the file, or copy it where its mode is another or links are not to be had; says if it copied."""
        target, (_, executable, _, sha) = self.root + encoded(path), self.entries[path]
        if executable in places:
            try:
                os.link(places[executable], target)
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
            else:
                return False
        with open(next(iter(places.values())), "rb") as source:
            write_file(target, executable, iter(lambda: source.read(CHUNK), b""), sha)
        return True

    def flush(self, written: List[bytes]) -> None:
        """What is new is on the disk before the tree gets its name.

        Contents only: file systems keep the order of names and links, so that whoever finds the tree under its name
        after a power cut finds them all.
        """
        if len(written) > FEW:
            flush_file_system(self.folder)
            return
        for path in written:
            flush(path)
