"""Files of a machine, read and written in pieces by its agent, over whatever transport."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from runctl._dataclasses import dataclass
from runctl.agent.encoding import loads
from runctl.core.errors import MachineError, Unreachable
from runctl.transport.agent import AgentClient
from runctl.transport.answers import count, mapping, sequence
from runctl.transport.log_reader import agent_error

_LONGEST_HEADER = 1 << 16


Span = tuple[int, int]
"""Offset and length, in bytes."""


@dataclass(frozen=True)
class Entry:
    """A file, folder or link below the folder that was asked about."""

    path: str
    """With forward slashes, never leading out."""
    type: str
    """``f``, ``d`` or ``l``."""
    mode: int
    size: int
    mtime_ns: int
    text: str = ""
    """A file's SHA-256, where it was asked for; a link's target."""


@dataclass(frozen=True)
class Listing:
    """What there is at a path of the machine."""

    kind: str
    """``file``, ``folder`` or ``missing``."""
    path: str
    """Absolute."""
    entries: tuple[Entry, ...] = ()
    """Of a file: itself, under its own name."""
    skipped: tuple[str, ...] = ()
    """Neither files nor folders nor links, and links that lead out of the folder."""


@dataclass(frozen=True)
class Piece:
    """Bytes of one file. When it is written, the rest says what the whole file is."""

    path: str
    offset: int
    length: int
    size: int = 0
    sha256: str = ""
    mode: int = 0o644
    mtime_ns: int = 0


class MachineFiles:
    """The files of one machine. Raises what `AgentClient.call` raises."""

    def __init__(self, agent: AgentClient) -> None:
        self._agent = agent

    def listing(self, path: str, *, checksums: bool = False, shallow: bool = False) -> Listing:
        """What is there; a relative path counts from the login user's home. ``shallow``: without a folder's entries."""
        answer = mapping(self._agent.call("files", {"path": path, "hash": checksums, "shallow": shallow}))
        entries = tuple(_entry(item) for item in sequence(answer, "entries"))
        skipped = tuple(str(entry) for entry in sequence(answer, "skipped"))
        return Listing(str(answer.get("kind")), str(answer.get("path")), entries, skipped)

    def have(self, root: str, files: Sequence[Entry]) -> tuple[str, tuple[int, ...]]:
        """What ``root`` is, and how many bytes of each file are there: all of them where it is the same."""
        request = {"root": root, "files": [[file.path, file.size, file.text] for file in files]}
        answer = mapping(self._agent.call("files-have", request))
        numbers: list[Any] = list(sequence(answer, "have"))
        found = tuple(count({"have": number}, "have") for number in numbers)
        if len(found) != len(files) or any(n > item.size for n, item in zip(found, files, strict=True)):
            raise MachineError("the agent's answer about files cannot be used", code="bad-answer")
        return str(answer.get("kind")), found

    def fetch(
        self, root: str, pieces: Sequence[Piece], on_bytes: Callable[[Piece, int, bytes], None]
    ) -> None:
        """Hand over every byte of the pieces with its piece and its place in the file.

        An empty path is ``root`` itself. A file that is shorter gives fewer bytes. Raises `Unreachable` where the
        stream breaks off.
        """
        reader = _PieceReader(pieces, on_bytes)
        asked = [{"path": piece.path, "offset": piece.offset, "length": piece.length} for piece in pieces]
        self._agent.pour("files-fetch", {"root": root, "pieces": asked}, reader.feed)
        if not reader.done:
            raise Unreachable("the connection broke in the middle of a file")

    def size(self, path: str) -> int | None:
        """Bytes of the file at a path; ``None`` where there is no file."""
        found = self.listing(path)
        return found.entries[0].size if found.kind == "file" else None

    def fetch_file(self, path: str, pieces: Sequence[Span], on_bytes: Callable[[int, bytes], None]) -> None:
        """`fetch` of one file: every byte of the spans, with its place."""
        asked = [Piece("", offset, length) for offset, length in pieces]
        self.fetch(path, asked, lambda _, at, data: on_bytes(at, data))

    def store(self, root: str, pieces: Sequence[Piece], data: BinaryIO) -> None:
        """The machine has these bytes, which follow each other in ``data``; files that are whole are in their place."""
        self._agent.call(
            "files-store", {"root": root, "pieces": [asdict(piece) for piece in pieces]}, payload=data
        )

    def finish(self, root: str, folders: Sequence[Entry], links: Sequence[Entry]) -> None:
        """Folders have their modes, links are there, and everything is on the machine's disk."""
        request = {
            "root": root,
            "folders": [[folder.path, folder.mode] for folder in folders],
            "links": [[link.path, link.text] for link in links],
        }
        self._agent.call("files-finish", request)


class _PieceReader:
    """Takes the agent's stream, whatever pieces it arrives in."""

    def __init__(self, pieces: Sequence[Piece], on_bytes: Callable[[Piece, int, bytes], None]) -> None:
        self._pieces = list(pieces)
        self._on_bytes = on_bytes
        self._header = b""
        self._piece: Piece | None = None
        self._left = 0
        self._at = 0
        self.done = False

    def feed(self, data: bytes) -> None:
        """Raises `MachineError` for the agent's own error, and for what was not asked for."""
        while data:
            if self._left:
                assert self._piece is not None  # noqa: S101 - bytes are left of it
                fresh, data = data[: self._left], data[self._left :]
                self._left -= len(fresh)
                self._on_bytes(self._piece, self._at, fresh)
                self._at += len(fresh)
                continue
            line, newline, data = data.partition(b"\n")
            self._header += line
            if len(self._header) > _LONGEST_HEADER:
                raise _not_a_piece(self._header)
            if newline:
                header, self._header = self._header, b""
                self._begin(header)

    def _begin(self, header: bytes) -> None:
        try:
            answer = mapping(loads(header))
        except ValueError as error:
            raise _not_a_piece(header) from error
        if "error" in answer:
            raise agent_error(answer["error"])
        if answer.get("done") is True and not self._pieces:
            self.done = True
            return
        length = count(answer, "length")
        if "length" not in answer or self.done or not self._pieces or length > self._pieces[0].length:
            raise _not_a_piece(header)
        self._piece = self._pieces.pop(0)
        self._left, self._at = length, self._piece.offset


def _not_a_piece(header: bytes) -> MachineError:
    return MachineError(f"the agent sent {header[:200]!r} where a file belongs", code="bad-answer")


def _entry(value: Any) -> Entry:
    """Raises `MachineError` for what is not an entry, and for a path that leads out of its folder."""
    wrong = MachineError(f"the agent answered {value!r:.100} and not a file", code="bad-answer")
    if not isinstance(value, list) or len(value) != 6:
        raise wrong
    path, kind, mode, size, mtime_ns, text = value
    if not isinstance(path, str) or not isinstance(text, str) or kind not in ("f", "d", "l"):
        raise wrong
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path + text:
        raise wrong
    # A file may be older than 1970.
    numbers = {"mode": mode, "size": size, "mtime": abs(mtime_ns) if isinstance(mtime_ns, int) else mtime_ns}
    checked = {name: count(numbers, name) for name in numbers}
    return Entry(path, kind, checked["mode"] & 0o777, checked["size"], mtime_ns, text)
