"""One HTTP connection that stays open: a request goes out, an answer's head and body come back.

Our own, as the standard library's client spends more time on an answer's headers than a small object needs in all.
This one knows no more of HTTP/1.1 than S3 and the metadata service speak: lengths, chunks, and bodies up to the end.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping

from runctl._dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from typing import Union

    Bytes = Union[bytes, bytearray, memoryview]
    Body = Union[bytes, bytearray, memoryview, "FilePart"]

_MOST_PAUSE_SECONDS = 20.0
_HEAD_LIMIT = 1 << 16
_ROOM = 1 << 18
"""Bytes of a body that are handed on at a time."""


class Broken(OSError):
    """The connection ended, or what came is not HTTP; the same request may be sent again on a new one."""


def pause_before_try(number: int) -> None:
    """Sleep before a request is sent again: twice as long each time, 20 s at most, and not all machines at once."""
    import random

    seconds = min(_MOST_PAUSE_SECONDS, 0.25 * 2.0**number)
    time.sleep(seconds * (0.5 + random.random() / 2))  # noqa: S311 (a pause)


@dataclass(frozen=True)
class FilePart:
    """A stretch of an open file as a body: read while it is sent, so that memory never holds it."""

    descriptor: int
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin

    def pieces(self) -> Iterator[bytes]:
        """Its bytes, in order. Raises `EOFError` where they cannot be read, or the file is shorter now."""
        position = self.begin
        while position < self.end:
            try:
                data = os.pread(self.descriptor, min(_ROOM, self.end - position), position)
            except OSError as error:
                # Not one of the connection's: the request cannot be sent again.
                raise EOFError(str(error)) from error
            if not data:
                raise EOFError("the file became shorter while it was read")
            position += len(data)
            yield data


@dataclass(frozen=True)
class Head:
    """The beginning of an answer."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""


class Connection:
    """To one server. Not safe to use from several threads."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, timeout: float) -> None:
        self._address = (host, port)
        self._tls = tls
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._rest = b""
        self._buffer = bytearray(_ROOM)

    def close(self) -> None:
        """The next request makes a new connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._rest = None, b""

    def ask(self, method: str, target: str, headers: Mapping[str, str], body: Body = b"") -> Head:
        """Send it, and read the answer's head; the answer's body must be read before the next one. Raises `Broken`."""
        lines = [f"{method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        data = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        reused = self._socket is not None
        try:
            return self._answer(data, body)
        except Broken:
            # A server ends connections that were idle for long; that is seen only when one is used the next time.
            if not reused:
                raise
            self.close()
            return self._answer(data, body)

    def body(self, method: str, head: Head) -> Iterator[memoryview]:
        """The body, piece by piece; each is good until the next is asked for. Raises `Broken` where it is cut short."""
        if method != "HEAD" and head.status not in (204, 304):
            if head.headers.get("transfer-encoding", "").lower() == "chunked":
                yield from self._chunks()
            elif "content-length" in head.headers:
                yield from self._exactly(int(head.headers["content-length"]))
            else:
                yield from self._rest_of_it()
        if head.headers.get("connection", "").lower() == "close":
            self.close()

    def _answer(self, data: bytes, body: Body) -> Head:
        if self._socket is None:
            self._socket = self._connected()
        try:
            self._socket.sendall(data)
            if isinstance(body, FilePart):
                for piece in body.pieces():
                    self._socket.sendall(piece)
            elif body:
                self._socket.sendall(body)
        except OSError as error:
            if not body:
                raise Broken(str(error)) from error
            # Who refuses a request need not read all of its body: the answer may be there.
        head = self._head()
        while head.status < 200:
            head = self._head()
        return head

    def _connected(self) -> socket.socket:
        try:
            plain = socket.create_connection(self._address, timeout=self._timeout)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self._tls.wrap_socket(plain, server_hostname=self._address[0]) if self._tls else plain
        except OSError as error:
            raise Broken(str(error)) from error

    def _receive(self, into: memoryview) -> int:
        if self._socket is None:
            raise Broken("the connection is closed")
        try:
            count = self._socket.recv_into(into)
        except OSError as error:
            raise Broken(str(error)) from error
        if not count:
            raise Broken("the server ended the connection")
        return count

    def _more(self) -> bytes:
        view = memoryview(self._buffer)
        return bytes(view[: self._receive(view)])

    def _until(self, mark: bytes) -> bytes:
        data = self._rest
        while mark not in data:
            if len(data) > _HEAD_LIMIT:
                raise Broken("what came is not HTTP")
            data += self._more()
        found, _, self._rest = data.partition(mark)
        return found

    def _head(self) -> Head:
        first, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        parts = first.split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/") or not parts[1].isdigit():
            raise Broken(f"what came is not HTTP: {first[:80]!r}")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return Head(int(parts[1]), headers)

    def _exactly(self, length: int) -> Iterator[memoryview]:
        taken = self._rest[:length]
        self._rest = self._rest[length:]
        if taken:
            yield memoryview(taken)
        left = length - len(taken)
        view = memoryview(self._buffer)
        while left:
            count = self._receive(view[: min(left, _ROOM)])
            left -= count
            yield view[:count]

    def _rest_of_it(self) -> Iterator[memoryview]:
        """Up to the end of the connection, which is the body's own (RFC 9112, 6.3)."""
        if self._rest:
            yield memoryview(self._rest)
        view = memoryview(self._buffer)
        assert self._socket is not None  # noqa: S101 (a head has come over it)
        try:
            while count := self._socket.recv_into(view):
                yield view[:count]
        except OSError as error:
            raise Broken(str(error)) from error
        self.close()

    def _chunks(self) -> Iterator[memoryview]:
        while True:
            length = int(self._until(b"\r\n").split(b";")[0], 16)
            if not length:
                while self._until(b"\r\n"):
                    pass
                return
            yield from self._exactly(length)
            self._until(b"\r\n")
