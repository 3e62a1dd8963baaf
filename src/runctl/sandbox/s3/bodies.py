"""Uploads in S3's own chunks, unpacked before moto sees them: it takes time that grows with the square of their number.

The format is in "Signature calculations: transferring a payload in multiple chunks" of S3's reference.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zlib
from collections.abc import Iterable
from typing import Any, BinaryIO, Protocol
from xml.sax.saxutils import escape

from runctl.sandbox.api.http_server import Start, Wsgi

_SCHEME = "aws-chunked"
_CHECKSUM = "x-amz-checksum-"


class BadBody(Exception):
    """The body does not match its headers; the message is S3's."""


class _Sum(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


class ChunkedBodies:
    """WSGI middleware around moto."""

    def __init__(self, application: Wsgi) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """One request."""
        encodings = [coding.strip() for coding in environ.get("HTTP_CONTENT_ENCODING", "").split(",")]
        stated = _stated(environ) if environ["REQUEST_METHOD"] == "PUT" else {}
        try:
            if _SCHEME in encodings:
                body, trailers = unpacked(environ["wsgi.input"])
                _check(body, {**stated, **trailers})
                _as_plain(
                    environ,
                    len(body),
                    [coding for coding in encodings if coding not in {"", _SCHEME}],
                    trailers,
                )
                environ["wsgi.input"] = io.BytesIO(body)
            elif stated and environ.get("CONTENT_LENGTH"):
                body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
                _check(body, stated)
                environ["wsgi.input"] = io.BytesIO(body)
        except BadBody as error:
            return _refuse(str(error), start)
        return self._application(environ, start)


def _as_plain(environ: dict[str, Any], size: int, encodings: list[str], trailers: dict[str, str]) -> None:
    """The headers of the same request with an ordinary body."""
    environ["CONTENT_LENGTH"] = str(size)
    environ["HTTP_X_AMZ_CONTENT_SHA256"] = "UNSIGNED-PAYLOAD"
    absent = [
        "HTTP_X_AMZ_TRAILER",
        "HTTP_TRANSFER_ENCODING",
        "wsgi.input_terminated",
        "HTTP_CONTENT_ENCODING",
    ]
    for name in absent:
        environ.pop(name, None)
    if encodings:
        environ["HTTP_CONTENT_ENCODING"] = ",".join(encodings)
    for name, value in trailers.items():
        environ["HTTP_" + name.upper().replace("-", "_")] = value


def unpacked(stream: BinaryIO) -> tuple[bytes, dict[str, str]]:
    """What the chunks hold, and the headers after them, their names in lower case. Raises `BadBody`."""
    pieces = []
    while True:
        try:
            size = int(stream.readline(1 << 12).partition(b";")[0].strip(), 16)
        except ValueError:
            raise BadBody("The request body is not in chunks.") from None
        if size == 0:
            break
        piece = stream.read(size)
        if len(piece) != size or stream.read(2) != b"\r\n":
            raise BadBody("The request body terminated unexpectedly")
        pieces.append(piece)
    trailers = {}
    while line := stream.readline(1 << 12).decode("latin-1").strip():
        name, _, value = line.partition(":")
        trailers[name.strip().lower()] = value.strip()
    return b"".join(pieces), trailers


def _stated(environ: dict[str, Any]) -> dict[str, str]:
    prefix = "HTTP_" + _CHECKSUM.upper().replace("-", "_")
    return {
        _CHECKSUM + name.removeprefix(prefix).lower(): value
        for name, value in environ.items()
        if name.startswith(prefix)
    }


def _check(body: bytes, stated: dict[str, str]) -> None:
    sums: dict[str, type[_Crc32] | Any] = {"crc32": _Crc32, "sha1": hashlib.sha1, "sha256": hashlib.sha256}
    for name, value in stated.items():
        algorithm = name.removeprefix(_CHECKSUM)
        if not name.startswith(_CHECKSUM) or algorithm not in sums:
            # Python has no CRC32C and no CRC64NVME of its own: these are believed.
            continue
        found: _Sum = sums[algorithm]()
        found.update(body)
        if base64.b64encode(found.digest()).decode() != value:
            raise BadBody(f"The {algorithm.upper()} you specified did not match the calculated checksum.")


def _refuse(message: str, start: Start) -> Iterable[bytes]:
    code = "BadDigest" if "checksum" in message else "IncompleteBody"
    body = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>".encode()
    start("400 Bad Request", [("Content-Type", "application/xml")])
    return [body]
