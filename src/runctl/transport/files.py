"""Files of a machine, read in pieces by its agent, over whatever transport."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runctl.agent.spec import loads
from runctl.core.errors import MachineError, Unreachable
from runctl.transport.agent import AgentClient
from runctl.transport.answers import count, mapping
from runctl.transport.log_reader import agent_error

_LONGEST_HEADER = 1 << 16

Span = tuple[int, int]
"""Offset and length of a piece, in bytes."""


class MachineFiles:
    """The files of one machine. Raises what `AgentClient.call` raises."""

    def __init__(self, agent: AgentClient) -> None:
        self._agent = agent

    def size(self, path: str) -> int | None:
        """Bytes of the file at an absolute path; ``None`` where there is no file."""
        answer = mapping(self._agent.call("file", {"path": path}))
        return count(answer, "size") if answer.get("kind") == "file" else None

    def fetch(self, path: str, pieces: Sequence[Span], on_bytes: Callable[[int, bytes], None]) -> None:
        """Hand over every byte of the pieces with its place in the file; of a shorter file, what there is.

        Raises `Unreachable` where the stream breaks off.
        """
        reader = _PieceReader(pieces, on_bytes)
        self._agent.pour("file-fetch", {"path": path, "pieces": [list(one) for one in pieces]}, reader.feed)
        if not reader.done:
            raise Unreachable("the connection broke in the middle of a file")


class _PieceReader:
    """Takes the agent's stream, whatever pieces it arrives in."""

    def __init__(self, pieces: Sequence[Span], on_bytes: Callable[[int, bytes], None]) -> None:
        self._pieces = list(pieces)
        self._on_bytes = on_bytes
        self._header = b""
        self._at = self._left = 0
        self.done = False

    def feed(self, data: bytes) -> None:
        """Raises `MachineError` for the agent's own error, and for what was not asked for."""
        while data:
            if self._left:
                fresh, data = data[: self._left], data[self._left :]
                self._left -= len(fresh)
                self._on_bytes(self._at, fresh)
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
        if "length" not in answer or self.done or not self._pieces or length > self._pieces[0][1]:
            raise _not_a_piece(header)
        self._at, _ = self._pieces.pop(0)
        self._left = length


def _not_a_piece(header: bytes) -> MachineError:
    return MachineError(f"the agent sent {header[:200]!r} where a file belongs", code="bad-answer")
