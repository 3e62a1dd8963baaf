"""Serialise writes to one key, so that a condition and the write that depends on it are one step.

moto looks whether ``If-None-Match`` or ``If-Match`` holds, and writes later: there two writers at once both succeed,
where S3 refuses one of them.

A request has its turn once its body is here. A client that stops in the middle of one would keep others waiting for as
long as its connection lives: those who write to the same key, and all whose keys share its lock.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable
from typing import Any

from runctl.sandbox.api.http_server import Start, Wsgi
from runctl.sandbox.s3.request import REQUEST_KEY, S3Request

_LOCKS = 64


class SerialWrites:
    """WSGI middleware around moto."""

    def __init__(self, application: Wsgi) -> None:
        self._application = application
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """One request."""
        request: S3Request | None = environ.get(REQUEST_KEY)
        if request is None or not request.key or request.method not in {"PUT", "POST", "DELETE"}:
            return self._application(environ, start)
        if "partNumber" in request.query:
            # A part is no object yet.
            return self._application(environ, start)
        if "wsgi.input_terminated" in environ:
            body = environ["wsgi.input"].read()
        else:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        with self._locks[hash((request.bucket, request.key)) % _LOCKS]:
            return list(self._application(environ, start))
