"""GetObject and HeadObject straight from where moto keeps an object: whole or in part, without copying it first.

moto reads an object into memory for every request, however small the range. What is not plain reading stays moto's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any

from moto.s3.models import FakeKey, s3_backends

from runctl.sandbox.api.http_server import FileRegion, Start, Wsgi
from runctl.sandbox.s3.request import REQUEST_KEY, S3Request
from runctl.sandbox.world import ACCOUNT

_NOT_PLAIN = (
    *("HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_ORIGIN"),
    "HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION_CUSTOMER_ALGORITHM",
)
_READABLE = frozenset({"STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING"})
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class ObjectReads:
    """WSGI middleware around moto."""

    def __init__(self, application: Wsgi) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """One request."""
        request: S3Request | None = environ.get(REQUEST_KEY)
        if request is None or not request.reads_object or any(name in environ for name in _NOT_PLAIN):
            return self._application(environ, start)
        key = _find(request.bucket, request.key)
        if key is None or environ.get("HTTP_IF_MATCH", key.etag) not in {key.etag, key.etag.strip('"'), "*"}:
            return self._application(environ, start)
        part = requested(environ.get("HTTP_RANGE"), key.size)
        if part is None:
            return self._application(environ, start)
        return _answer(key, part, environ, start)


def requested(text: str | None, size: int) -> range | None:
    """The bytes that a Range header asks for, of so many; all without one, or with one that says nothing to S3.

    ``None`` when it begins beyond the end.
    """
    match = _RANGE.fullmatch(text.strip()) if text else None
    if match is None or match.groups() == ("", ""):
        return range(size)
    first, last = match.groups()
    if not first:
        length = int(last)
        return range(max(size - length, 0), size) if length and size else None
    begin = int(first)
    if begin >= size:
        return None
    end = min(int(last) + 1, size) if last else size
    return range(begin, end) if begin < end else range(size)


def _find(bucket_name: str, name: str) -> FakeKey | None:
    """The object, if it can be read by whoever has the right; moto answers everything else."""
    bucket = s3_backends[ACCOUNT]["aws"].buckets.get(bucket_name)
    if bucket is None or bucket.policy is not None:
        return None
    key = bucket.keys.get(name)
    return key if isinstance(key, FakeKey) and key.storage_class in _READABLE else None


def _answer(key: FakeKey, part: range, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
    headers = {name.lower(): str(value) for name, value in {**key.response_dict, **key.metadata}.items()}
    headers["accept-ranges"] = "bytes"
    headers["content-length"] = str(len(part))
    whole = len(part) == key.size
    if whole and environ.get("HTTP_X_AMZ_CHECKSUM_MODE", "").upper() == "ENABLED" and key.checksum_value:
        headers.update(_checksum(key))
    status = "200 OK"
    if "HTTP_RANGE" in environ and (not whole or _RANGE.fullmatch(environ["HTTP_RANGE"].strip())):
        status = "206 Partial Content"
        headers["content-range"] = f"bytes {part.start}-{part.stop - 1}/{key.size}"
    body: Iterable[bytes] = () if environ["REQUEST_METHOD"] == "HEAD" else _content(key, part)
    start(status, list(headers.items()))
    return body


def _checksum(key: FakeKey) -> dict[str, str]:
    value = key.checksum_value
    if key.checksum_type == "COMPOSITE":
        value = f"{value}-{key.checksum_parts}"
    found = {f"x-amz-checksum-{str(key.checksum_algorithm).lower()}": str(value)}
    if key.checksum_type:
        found["x-amz-checksum-type"] = str(key.checksum_type)
    return found


def _content(key: FakeKey, part: range) -> Iterable[bytes]:
    buffer: Any = key._value_buffer  # moto's own is all or nothing
    with key.lock:
        if not buffer._rolled:
            return [bytes(buffer._file.getbuffer()[part.start : part.stop])]
        buffer.flush()
        # A descriptor of its own: the object may be overwritten while it is being read.
        return FileRegion(os.dup(buffer.fileno()), part.start, len(part))
