"""A run's log out of the agent's frames, whatever pieces they arrive in."""

from __future__ import annotations

from collections.abc import Callable

from runctl.agent.encoding import from_json, loads
from runctl.agent.spec import LogFrame
from runctl.core.errors import MachineError

_LONGEST_HEADER = 65536


class LogReader:
    """Takes a stream of frames (see `LogFrame`) and hands on each byte of the log once, in order.

    ``offset`` counts the log's bytes handed on so far: where to ask again from after a broken connection.
    """

    def __init__(
        self, offset: int, on_bytes: Callable[[bytes], None], on_heartbeat: Callable[[LogFrame], None]
    ) -> None:
        self.offset = offset
        self.frame: LogFrame | None = None
        """The newest frame that has arrived whole."""
        self._on_bytes = on_bytes
        self._on_heartbeat = on_heartbeat
        self._header = b""
        self._current: LogFrame | None = None
        self._missing = 0
        self._seen_before = 0

    @property
    def complete(self) -> bool:
        """Whether the agent has said that this was the last frame."""
        return self.frame is not None and self.frame.last

    def restart(self) -> None:
        """A new stream of frames follows, asked for from ``offset``; what was left of the old one is forgotten."""
        self._header = b""
        self._current = None
        self._missing = self._seen_before = 0
        self.frame = None

    def feed(self, data: bytes) -> None:
        """Take the next piece. Raises `MachineError` for the agent's own error and for what is no frame."""
        while data:
            if self._current is None:
                data = self._take_header(data)
            else:
                piece, data = data[: self._missing], data[self._missing :]
                self._missing -= len(piece)
                self._pass_on(piece)
            if self._current is not None and self._missing == 0:
                self._finish(self._current)

    def _take_header(self, data: bytes) -> bytes:
        line, newline, rest = data.partition(b"\n")
        self._header += line
        if len(self._header) > _LONGEST_HEADER:
            raise _no_frame(self._header)
        if not newline:
            return b""
        header, self._header = self._header, b""
        self._current = frame = _parse(header)
        if frame.offset > self.offset:
            raise MachineError(
                f"the agent skips from byte {self.offset} of the log to {frame.offset}", code="log-gap"
            )
        self._missing = frame.length
        self._seen_before = min(frame.length, self.offset - frame.offset)
        return rest

    def _pass_on(self, piece: bytes) -> None:
        skipped = min(self._seen_before, len(piece))
        self._seen_before -= skipped
        fresh = piece[skipped:]
        if fresh:
            # Counted first: a callback that raises has seen these bytes.
            self.offset += len(fresh)
            self._on_bytes(fresh)

    def _finish(self, frame: LogFrame) -> None:
        self._current = None
        self.frame = frame
        if frame.end is not None and frame.last and frame.end.log_bytes > self.offset:
            raise MachineError(
                f"the log has {frame.end.log_bytes} bytes, of which the agent sent {self.offset}",
                code="log-incomplete",
            )
        if frame.length == 0 and not frame.last:
            self._on_heartbeat(frame)


def _parse(header: bytes) -> LogFrame:
    try:
        data = loads(header)
    except ValueError as error:
        raise _no_frame(header) from error
    if not isinstance(data, dict):
        raise _no_frame(header)
    if "error" in data:
        raise agent_error(data["error"])
    try:
        return from_json(LogFrame, data)
    except ValueError as error:
        raise _no_frame(header) from error


def _no_frame(header: bytes) -> MachineError:
    return MachineError(f"the agent sent no log frame but {header[:200]!r}", code="bad-answer")


def agent_error(error: object) -> MachineError:
    """The agent's error as ours, with its code, message and hint."""
    if not isinstance(error, dict):
        return MachineError(f"the agent failed: {error}")
    return MachineError(
        str(error.get("message") or "the agent failed"),
        hint=str(error.get("hint") or ""),
        code=str(error.get("code") or "machine"),
    )
