"""S3 that is slow, or away: what the store of a run may be at any time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from runctl.sandbox.api.http_server import FileRegion, Start, Wsgi
from runctl.sandbox.s3.request import REQUEST_KEY
from runctl.sandbox.store_trouble import WELL, StoreTrouble

PIECE_BYTES = 16 << 10
LONGEST_PAUSE = 0.5
"""Seconds after which whoever waits for their turn looks whether S3 is slow still."""
_AWAY = (
    b"<Error><Code>ServiceUnavailable</Code><Message>Service is unable to handle request.</Message></Error>"
)


class TroubledStore:
    """WSGI middleware around what answers for S3."""

    def __init__(self, application: Wsgi, trouble: Callable[[], StoreTrouble]) -> None:
        self._application = application
        self._trouble = trouble
        self._lock = threading.Lock()
        self._free_at = 0.0

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """One request."""
        trouble = self._trouble()
        if trouble == WELL or REQUEST_KEY not in environ:
            return self._application(environ, start)
        if trouble.away:
            start("503 Service Unavailable", [("Content-Type", "application/xml")])
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [_AWAY]
        environ["wsgi.input"] = _Paced(environ["wsgi.input"], self.pace)
        answer = self._application(environ, start)
        size = answer.size if isinstance(answer, FileRegion) else sum(map(len, answer := list(answer)))
        self.pace(size)
        return answer

    def pace(self, size: int) -> None:
        """It is the turn of whoever has moved so many bytes; all take turns."""
        rate = self._trouble().bytes_per_second
        if not rate:
            return
        with self._lock:
            self._free_at = turn = max(self._free_at, time.monotonic()) + size / rate
        while (left := turn - time.monotonic()) > 0:
            time.sleep(min(left, LONGEST_PAUSE))
            if not self._trouble().bytes_per_second:
                self._free_at = 0.0
                return


class _Paced:
    """A request's body that arrives slowly."""

    def __init__(self, stream: BinaryIO, pace: Callable[[int], None]) -> None:
        self._stream, self._pace = stream, pace

    def read(self, size: int = -1) -> bytes:
        pieces: list[bytes] = []
        left = size
        while left:
            piece = self._stream.read(PIECE_BYTES if size < 0 else min(PIECE_BYTES, left))
            if not piece:
                break
            self._pace(len(piece))
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def readline(self, size: int = -1) -> bytes:
        return self._stream.readline(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
