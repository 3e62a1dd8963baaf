"""One HTTP connection that stays open: a request goes out, an answer's head and body come back.

The standard library's client spends more time on an answer's headers than a small object needs in all; this one
knows no more of HTTP/1.1 than S3 speaks: lengths, chunks, and connections that end.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import Dict, Iterator, Mapping, Optional

_HEAD_LIMIT = 1 << 16
_ROOM = 1 << 18


class Broken(OSError):
    """The connection ended, or what came is no HTTP; the same request may be sent again on a new one."""


@dataclass(frozen=True)
class Head:
    """The beginning of an answer."""

    status: int
    headers: Dict[str, str]
    """Names in lower case."""


class Connection:
    """To one server. Not safe to use from several threads."""

    def __init__(self, host: str, port: int, tls: Optional[ssl.SSLContext], timeout: float) -> None:
        self._address = (host, port)
        self._tls = tls
        self._timeout = timeout
        self._socket: Optional[socket.socket] = None
        self._rest = b""
        self._buffer = bytearray(_ROOM)

    def close(self) -> None:
        """The next request makes a new connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._rest = None, b""

    def ask(self, method: str, target: str, headers: Mapping[str, str]) -> Head:
        """Send it, and read the answer's head; the body must be read before the next one. Raises `OSError`."""
        lines = ["{} {} HTTP/1.1".format(method, target)]
        lines += ["{}: {}".format(name, value) for name, value in headers.items()]
        data = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        again = self._socket is not None
        try:
            self._send(data)
            return self._head()
        except (Broken, ConnectionError):
            # A server ends connections that were idle for long; that is seen only when one is used again.
            if not again:
                raise
            self.close()
            self._send(data)
            return self._head()

    def body(self, method: str, head: Head) -> Iterator[memoryview]:
        """The body, piece by piece; each is good until the next is asked for. Raises `Broken` where it is cut short."""
        if method != "HEAD" and head.status not in (204, 304):
            if head.headers.get("transfer-encoding", "").lower() == "chunked":
                yield from self._chunks()
            else:
                yield from self._exactly(int(head.headers.get("content-length", "0")))
        if head.headers.get("connection", "").lower() == "close":
            self.close()

    def _send(self, data: bytes) -> None:
        if self._socket is None:
            plain = socket.create_connection(self._address, timeout=self._timeout)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = (
                self._tls.wrap_socket(plain, server_hostname=self._address[0]) if self._tls else plain
            )
        self._socket.sendall(data)

    def _more(self) -> bytes:
        assert self._socket is not None  # noqa: S101 (a request has been sent)
        count = self._socket.recv_into(self._buffer)
        if not count:
            raise Broken("the server ended the connection")
        return bytes(memoryview(self._buffer)[:count])

    def _until(self, mark: bytes) -> bytes:
        data = self._rest
        while mark not in data:
            if len(data) > _HEAD_LIMIT:
                raise Broken("what came is no HTTP")
            data += self._more()
        found, _, self._rest = data.partition(mark)
        return found

    def _head(self) -> Head:
        first, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
            raise Broken("what came is no HTTP: {!r}".format(first[:80]))
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return Head(int(words[1]), headers)

    def _exactly(self, length: int) -> Iterator[memoryview]:
        taken = self._rest[:length]
        self._rest = self._rest[length:]
        if taken:
            yield memoryview(taken)
        left = length - len(taken)
        view = memoryview(self._buffer)
        while left:
            assert self._socket is not None  # noqa: S101 (a request has been sent)
            count = self._socket.recv_into(view[: min(left, _ROOM)])
            if not count:
                raise Broken("the connection ended {} bytes early".format(left))
            left -= count
            yield view[:count]

    def _chunks(self) -> Iterator[memoryview]:
        while True:
            length = int(self._until(b"\r\n").split(b";")[0], 16)
            if not length:
                while self._until(b"\r\n"):
                    pass
                return
            yield from self._exactly(length)
            self._until(b"\r\n")
