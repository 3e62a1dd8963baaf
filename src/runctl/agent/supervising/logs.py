"""``logs``: the log from an offset on, as frames; the last one proves that the reader has everything."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, BinaryIO

from runctl.agent.encoding import dumps
from runctl.agent.errors import AgentError
from runctl.agent.records import AttemptFolder, find
from runctl.agent.spec import EndRecord, LogFrame, RunState
from runctl.agent.supervising.status import conclude_if_gone

FRAME_BYTES = 256 * 1024
POLL_SECONDS = 0.1
HEARTBEAT_SECONDS = 10.0
STATUS_SECONDS = 1.0
"""How often a follower looks whether the supervisor still lives; its end record is noticed at once."""


def logs(request: Mapping[str, Any], sink: BinaryIO) -> int:
    """Write frames to ``sink``: to the end of what there is, or with ``follow`` to the end of the attempt.

    ``max_bytes`` limits how much; ``wait_seconds`` waits that long for the first byte, or the end, before it
    answers that there is nothing.
    """
    folder = find(request)
    offset = int(request.get("offset") or 0)
    limit = request.get("max_bytes")
    reader = Reader(folder, sink, offset, None if limit is None else int(limit))
    reader.read(bool(request.get("follow")), float(request.get("wait_seconds") or 0.0))
    return 0


class Reader:
    """Reads one log for one follower."""

    def __init__(self, folder: AttemptFolder, sink: BinaryIO, offset: int, limit: int | None) -> None:
        self.folder = folder
        self.sink = sink
        self.offset = offset
        self.limit = limit
        self.state = RunState.PENDING
        self.end: EndRecord | None = None
        self._status_read = float("-inf")
        if offset < 0 or offset > folder.log_bytes():
            raise AgentError(
                "bad-offset",
                f"the log of {folder.run_id} has {folder.log_bytes()} bytes, not {offset}",
            )
        self._fd = os.open(folder.log, os.O_RDONLY | os.O_CLOEXEC)
        self._ended = folder.path / "end.json"

    def read(self, follow: bool, wait_seconds: float) -> None:
        """Write frames until the reader has what it asked for; always ends with a last frame."""
        began = time.monotonic()
        beat, sent = began, 0
        while True:
            self._read_status()
            wrote = self._write_new()
            sent += wrote
            now = time.monotonic()
            complete = self.end is not None and self.offset >= self.end.log_bytes
            enough = self.limit is not None and self.limit <= 0
            waited = not follow and (sent or now - began >= wait_seconds)
            if complete or enough or waited:
                self._frame(b"", last=True, end=self.end if complete else None)
                return
            if wrote:
                beat = now
            elif now - beat >= HEARTBEAT_SECONDS:
                beat = now
                self._frame(b"")
            time.sleep(POLL_SECONDS)

    def _read_status(self) -> None:
        """The state, before the log is read: what the end says the log holds is then there to be read."""
        now = time.monotonic()
        if self.end is None and (now - self._status_read >= STATUS_SECONDS or self._ended.exists()):
            self._status_read = now
            self.end, live, _ = conclude_if_gone(self.folder)
            self.state = RunState.ENDED if self.end is not None else live.state

    def _write_new(self) -> int:
        wrote = 0
        while self.limit is None or self.limit > 0:
            size = FRAME_BYTES if self.limit is None else min(FRAME_BYTES, self.limit)
            if self.end is not None:
                size = min(size, self.end.log_bytes - self.offset)
            data = os.pread(self._fd, size, self.offset) if size > 0 else b""
            if not data:
                return wrote
            self._frame(data)
            self.offset += len(data)
            wrote += len(data)
            if self.limit is not None:
                self.limit -= len(data)
        return wrote

    def _frame(self, data: bytes, *, last: bool = False, end: EndRecord | None = None) -> None:
        frame = LogFrame(offset=self.offset, length=len(data), state=self.state, end=end, last=last)
        self.sink.write(dumps(frame).encode() + b"\n" + data)
        self.sink.flush()
