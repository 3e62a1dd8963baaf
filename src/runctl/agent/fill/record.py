"""What this program has put into a folder, kept in that folder: who calls again gets only what lacks or changed.

``.runctl/prewarm.jsonl`` is appended to while files arrive and written anew at the end. A line is there only once
the file it speaks of is on the disk (see `Record.flush`), so that it can be believed after a crash. The last line about
a path counts; a last line that was cut short is not read. Several sources may fill one folder: a line that names a
source says from where the files of the lines after it are.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from runctl._dataclasses import dataclass
from runctl.agent.fill.inside import is_plain, make_folder, opener
from runctl.agent.fill.objects import OWN_FOLDER

FILE = "prewarm.jsonl"
PARTIAL = "partial"
VERSION = 2


@dataclass(frozen=True)
class Known:
    """A file that was filled before."""

    size: int
    etag: str
    modified_ns: int
    """The file's own time when it was finished: one that somebody wrote to since is not trusted."""
    proof: str
    """The kind of check it has passed."""
    source: str = ""
    """Where it was filled from last; empty: an older runctl has not written that down."""


class Record:
    """The record of one folder. For one thread."""

    def __init__(self, folder: Path, source: str) -> None:
        self.folder = folder / OWN_FOLDER
        self.partial = self.folder / PARTIAL
        self._path = self.folder / FILE
        self._source = source
        self._pending: list[str] = []
        self._told = ""
        """The source that the lines of the file are of at its end."""
        self.files: dict[str, Known] = {}
        self.pieces: dict[tuple[str, str], dict[int, str]] = {}
        """By path and ETag: where the pieces begin that are on the disk, with a digest such as ``crc32:8c28bffb``."""

    def load(self) -> None:
        """What the file says; a record that cannot be read is one of nothing."""
        with (
            suppress(FileNotFoundError),
            open(self._path, encoding="ascii", errors="replace", opener=opener) as lines,
        ):
            for line in lines:
                # Damaged, or not ours: what it does not know is copied again.
                with suppress(ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
                    if line.endswith("\n"):
                        self._take(json.loads(line))

    def make_folders(self) -> None:
        """Where it lies exists, and is not a link. Raises `AgentError`, `OSError`."""
        make_folder(self.folder.parent, f"{OWN_FOLDER}/{PARTIAL}")

    def done(self, path: str, known: Known) -> None:
        """The file is complete and has its name."""
        self.files[path] = replace(known, source=self._source)
        self.pieces.pop((path, known.etag), None)
        if self._told != self._source:
            self._say({"source": self._source})
            self._told = self._source
        self._say({"p": path, "s": known.size, "e": known.etag, "m": known.modified_ns, "c": known.proof})

    def piece(self, path: str, etag: str, begin: int, digest: str) -> None:
        """A piece of a large file is in its unfinished file."""
        self.pieces.setdefault((path, etag), {})[begin] = digest
        self._say({"p": path, "e": etag, "b": begin, "h": digest})

    def forget(self, path: str) -> None:
        """The file is not there any more, or is not to be trusted."""
        self.files.pop(path, None)
        self._say({"p": path, "gone": True})

    def drop_pieces(self, path: str, etag: str) -> None:
        """What there is of an unfinished file is worth nothing."""
        if self.pieces.pop((path, etag), None) is not None:
            self._say({"p": path, "e": etag, "b": -1, "h": ""})

    def flush(self) -> None:
        """Everything that was said is on the disk: first the files, then what the record says of them."""
        if not self._pending:
            return
        sync_file_system(self.folder)
        with open(self._path, "ab", opener=opener) as out:
            if out.tell() and not _ends_line(self._path):
                # A line that was cut short is not to run into ours.
                out.write(b"\n")
            out.write("".join(self._pending).encode("ascii"))
            out.flush()
            os.fsync(out.fileno())
        self._pending.clear()

    def rewrite(self, here: set[str], *, delete: bool) -> None:
        """The file has one line for each of the files, and nothing is unfinished; the switch is atomic.

        ``here`` are those that the source has now; with ``delete`` none of its others are left.
        """
        self.files = {
            path: replace(known, source=self._source) if path in here else known
            for path, known in self.files.items()
            if path in here or not delete or known.source != self._source
        }
        self._pending.clear()
        self.pieces.clear()
        sync_file_system(self.folder)
        new = self._path.with_suffix(".new")
        with suppress(FileNotFoundError):
            new.unlink()
        with open(new, "w", encoding="ascii", opener=opener) as out:
            told = None
            for path, known in sorted(self.files.items(), key=lambda pair: (pair[1].source, pair[0])):
                if known.source != told:
                    out.write(_line({"version": VERSION, "source": known.source}))
                    told = known.source
                out.write(
                    _line(
                        {
                            "p": path,
                            "s": known.size,
                            "e": known.etag,
                            "m": known.modified_ns,
                            "c": known.proof,
                        }
                    )
                )
            out.flush()
            os.fsync(out.fileno())
        new.replace(self._path)
        self._told = told or ""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _say(self, entry: Mapping[str, Any]) -> None:
        self._pending.append(_line(entry))

    def _take(self, entry: Mapping[str, Any]) -> None:
        if "source" in entry and "p" not in entry:
            # The first line of what an older runctl wrote names the source that was used last, not that of each file.
            older = "version" in entry and entry["version"] < VERSION
            self._told = "" if older else str(entry["source"])
        if not is_plain(entry.get("p")):
            # What this program writes is always plain: somebody else wrote it.
            return
        path = entry["p"]
        if entry.get("gone"):
            self.files.pop(path, None)
        elif "b" in entry:
            if entry["b"] < 0:
                self.pieces.pop((path, entry["e"]), None)
            else:
                self.pieces.setdefault((path, entry["e"]), {})[int(entry["b"])] = str(entry["h"])
        else:
            known = Known(int(entry["s"]), str(entry["e"]), int(entry["m"]), str(entry["c"]), self._told)
            self.files[path] = known
            self.pieces.pop((path, known.etag), None)


def sync_file_system(folder: Path) -> None:
    """What was written to the file system of ``folder`` is on its disk; others' disks are left alone where that can be.

    Raises `OSError` where the disk refused some of it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        call = _syncfs()
        if call is None:
            os.sync()
        elif call(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def _syncfs() -> Any | None:
    with suppress(OSError, AttributeError):
        return ctypes.CDLL(None, use_errno=True).syncfs
    return None


def _line(entry: Mapping[str, Any]) -> str:
    # ASCII with escapes: a path that is not UTF-8 comes back as it was.
    return json.dumps(entry, separators=(",", ":")) + "\n"


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
