"""The HTTP server below the API and the metadata service: WSGI, a thread for each connection, answers from files.

Our own, because what is kept gives up what the sandbox is measured by. With the same small application it answers 5,600
requests a second of one client; cheroot 2,600, waitress 1,500, http.server 1,000. werkzeug closes each connection after
its answer. cheroot and waitress have a fixed number of threads, which requests that wait for machines would use up, and
drop headers with underscores, which S3's metadata may have. Chunked bodies are werkzeug's.
"""

from __future__ import annotations

import io
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from moto.core.request import (
    PRESERVED_HEADER_NAMES_ENVIRON_KEY,
    environ_key_for_header,
    should_preserve_original_header_name,
)
from werkzeug.serving import DechunkedInput

from runctl.sandbox.api.listener import Listener

Start = Callable[..., Any]
Wsgi = Callable[[dict[str, Any], Start], Iterable[bytes]]

CONNECTION = "runctl.connection"
"""In WSGI's environment: the socket, for whoever answers nothing."""
_MOST_HEADERS = 200
_MOST_LINE_BYTES = 1 << 16
_MOST_DRAINED_BYTES = 1 << 20
"""A body that an answer did not wait for is read to its end if no more than this is left; else the connection ends."""
_SEND_BYTES = 1 << 30

log = logging.getLogger("runctl.sandbox")


class FileRegion:
    """An answer's body that is a part of an open file; the file descriptor is its own."""

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self.descriptor = descriptor
        self.offset = offset
        self.size = size

    def __iter__(self) -> Iterator[bytes]:
        """For callers that cannot send it otherwise."""
        done = 0
        while done < self.size:
            data = os.pread(self.descriptor, min(1 << 20, self.size - done), self.offset + done)
            if not data:
                return
            done += len(data)
            yield data

    def send(self, connection: socket.socket) -> None:
        """Sends all of it. Raises `OSError`, also when the file is shorter."""
        done = 0
        while done < self.size:
            count = os.sendfile(
                connection.fileno(), self.descriptor, self.offset + done, min(_SEND_BYTES, self.size - done)
            )
            if count == 0:
                raise OSError("the file has ended")
            done += count

    def close(self) -> None:
        """Closes the descriptor."""
        os.close(self.descriptor)


class HttpServer:
    """Answers on one listening socket, in a thread per connection, until `stop`."""

    host: str
    port: int

    def __init__(self, application: Wsgi, listening: socket.socket, name: str = "http") -> None:
        """``listening`` may be of another network namespace; it is closed by `stop`. ``name`` is for the log."""
        self._application = application
        self.host, self.port = listening.getsockname()[:2]
        self._listener = Listener(listening, self._serve, name)

    def stop(self) -> None:
        """Stops listening."""
        self._listener.stop()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        with connection.makefile("rb", buffering=1 << 16) as stream:
            reading = cast("io.BufferedReader[Any]", stream)
            while True:
                head = _read_head(reading)
                if head is None:
                    return
                exchange = _Exchange(connection, head, _environ(head, reading, connection, self))
                if not exchange.run(self._application):
                    return


@dataclass(frozen=True)
class _Head:
    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...]


class _Body(io.RawIOBase):
    """The next bytes of a connection, of a known number."""

    def __init__(self, reading: io.BufferedReader[Any], size: int) -> None:
        self._reading = reading
        self.left = size

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As files do it. Raises `ConnectionError` when the client goes before the end."""
        view = memoryview(buffer)[: self.left]
        if not view:
            return 0
        count: int = self._reading.readinto(view)
        if count == 0:
            raise ConnectionAbortedError("the client has gone")
        self.left -= count
        return count


class _Exchange:
    """One request and its answer."""

    def __init__(self, connection: socket.socket, head: _Head, environ: dict[str, Any]) -> None:
        self._connection = connection
        self._head = head
        self._environ = environ
        self._status = ""
        self._headers: list[tuple[str, str]] = []
        self._begun = False

    def run(self, application: Wsgi) -> bool:
        """Whether the connection can be used for another one."""
        body: bytes | _Body | DechunkedInput = self._environ["wsgi.input"].raw
        if self._environ.get("HTTP_EXPECT", "").lower() == "100-continue":
            self._connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            answer = application(self._environ, self._start)
            try:
                keeps = self._send(answer)
            finally:
                close = getattr(answer, "close", None)
                if close is not None:
                    close()
        except ConnectionError:
            return False
        except Exception:
            log.exception("%s %s", self._head.method, self._head.target)
            if not self._begun:
                with suppress(OSError):
                    self._connection.sendall(
                        b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n\r\n"
                    )
            return False
        return keeps and self._drained(body)

    def _start(self, status: str, headers: list[tuple[str, str]], _exc: Any = None) -> None:
        self._status, self._headers = status, headers

    def _send(self, answer: Iterable[bytes]) -> bool:
        if isinstance(answer, FileRegion):
            self._send_head(answer.size)
            answer.send(self._connection)
            return self._keeps()
        pieces = [piece for piece in answer if piece]
        has_body = self._head.method != "HEAD" and self._status[:3] not in {"204", "304"}
        content = b"".join(pieces) if has_body else b""
        self._send_head(len(content) if has_body else None, content)
        return self._keeps()

    def _send_head(self, size: int | None, content: bytes = b"") -> None:
        headers = [(name, value) for name, value in self._headers if name.lower() not in _OURS]
        stated = [value for name, value in self._headers if name.lower() == "content-length"]
        if size is not None:
            headers.append(("Content-Length", str(size)))
        elif stated and self._head.method == "HEAD":
            headers.append(("Content-Length", stated[0]))
        headers.append(("Date", formatdate(usegmt=True)))
        if not self._keeps():
            headers.append(("Connection", "close"))
        lines = [f"HTTP/1.1 {self._status}", *(f"{name}: {value}" for name, value in headers), "", ""]
        head = "\r\n".join(lines).encode("latin-1")
        self._begun = True
        if len(content) > _MOST_DRAINED_BYTES:
            self._connection.sendall(head)
            self._connection.sendall(content)
        else:
            self._connection.sendall(head + content)

    def _keeps(self) -> bool:
        asked = self._environ.get("HTTP_CONNECTION", "").lower()
        return self._head.version == "HTTP/1.1" and asked != "close"

    def _drained(self, body: Any) -> bool:
        if isinstance(body, _Body):
            if body.left > _MOST_DRAINED_BYTES:
                return False
            while body.left:
                body.read(body.left)
            return True
        # Chunks: whatever reads them stops at their end; what nobody has read is not looked for.
        return not body.read(1)


_OURS = frozenset({"content-length", "connection", "date", "transfer-encoding"})


def _read_head(reading: io.BufferedReader[Any]) -> _Head | None:
    """The next request's; ``None`` when there is none, or none that can be read."""
    first = reading.readline(_MOST_LINE_BYTES)
    parts = first.decode("latin-1").split()
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        return None
    headers: list[tuple[str, str]] = []
    for _ in range(_MOST_HEADERS):
        line = reading.readline(_MOST_LINE_BYTES).decode("latin-1")
        if line in {"\r\n", "\n"}:
            return _Head(parts[0], parts[1], parts[2], tuple(headers))
        name, colon, value = line.partition(":")
        if not colon:
            return None
        headers.append((name, value.strip()))
    return None


def _environ(
    head: _Head, reading: io.BufferedReader[Any], connection: socket.socket, server: HttpServer
) -> dict[str, Any]:
    target = urlsplit(head.target if not head.target.startswith("//") else f"/.{head.target}")
    path = target.path if not head.target.startswith("//") else target.path[2:]
    environ: dict[str, Any] = {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "REQUEST_METHOD": head.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(path).encode().decode("latin-1"),
        "QUERY_STRING": target.query,
        "REQUEST_URI": head.target,
        "RAW_URI": head.target,
        CONNECTION: connection,
        "REMOTE_ADDR": connection.getpeername()[0],
        "SERVER_NAME": server.host,
        "SERVER_PORT": str(server.port),
        "SERVER_PROTOCOL": head.version,
    }
    _add_headers(environ, head.headers)
    raw: Any
    if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
        environ["wsgi.input_terminated"] = True
        raw = DechunkedInput(reading)
    else:
        raw = _Body(reading, int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BufferedReader(raw, 1 << 16)
    return environ


def _add_headers(environ: dict[str, Any], headers: Iterable[tuple[str, str]]) -> None:
    """Those with underscores are left out, but for S3's own metadata, whose spelling moto wants to know."""
    kept: dict[str, str] = {}
    for name, value in headers:
        if "_" in name and not should_preserve_original_header_name(name):
            continue
        key = environ_key_for_header(name)
        if "_" in name:
            kept[key] = name
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    environ[PRESERVED_HEADER_NAMES_ENVIRON_KEY] = kept
