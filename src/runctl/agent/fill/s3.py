"""S3 as far as filling needs it: list a folder, get an object or a range of it. Tries again what may be tried again."""

from __future__ import annotations

import random
import re
import socket
import ssl
import threading
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, Mapping, Optional, Tuple
from urllib.parse import unquote_to_bytes, urlsplit

from runctl.agent.fill.credentials import Credentials
from runctl.agent.fill.errors import FillError
from runctl.agent.fill.http import Broken, Connection, Head
from runctl.agent.fill.objects import Object, Source
from runctl.agent.fill.partitions import domain_of
from runctl.agent.fill.signing import path_of, query_of, signed

TRIES = 6
TIMEOUT = 30.0
_AGAIN = (429, 500, 502, 503, 504)
_MOST_SECONDS = 20.0
_SIZE = re.compile(r"[0-9]{1,18}\Z")

Sink = Callable[[memoryview], None]
"""Takes the next bytes of a body. `Refusal` or any error it raises ends the transfer."""


@dataclass(frozen=True)
class Place:
    """Where S3 is for a bucket."""

    region: str
    endpoint: str = ""
    """A URL that stands in for AWS, addressed by path; empty for AWS itself."""

    def host_and_base(self, bucket: str) -> Tuple[bool, str, int, str, str]:
        """TLS or not, the name to connect to, the port, the Host header, and what a key's path begins with."""
        if self.endpoint:
            url = urlsplit(self.endpoint)
            port = url.port or (443 if url.scheme == "https" else 80)
            return url.scheme == "https", url.hostname or "", port, url.netloc, path_of(bucket)
        domain = domain_of(self.region)
        if "." in bucket:
            # A bucket's dots do not fit under the certificate's wildcard.
            host = "s3.{}.{}".format(self.region, domain)
            return True, host, 443, host, path_of(bucket)
        host = "{}.s3.{}.{}".format(bucket, self.region, domain)
        return True, host, 443, host, ""


class Refusal(Exception):
    """S3's answer is no."""

    def __init__(self, status: int, code: str, message: str, region: str = "") -> None:
        super().__init__("{}: {}".format(code or status, message))
        self.status = status
        self.code = code
        self.message = message
        self.region = region


class S3:
    """One bucket. Safe to use from several threads: each has a connection of its own."""

    def __init__(self, bucket: str, place: Place, credentials: Credentials) -> None:
        self.bucket = bucket
        self.place = place
        self._credentials = credentials
        self._own = threading.local()
        secure, self._host, self._port, self._header, self._base = place.host_and_base(bucket)
        self._tls = ssl.create_default_context() if secure else None

    def close(self) -> None:
        """This thread's connection is closed; the next request makes a new one."""
        self._connection().close()

    def list(self, source: Source) -> Iterator[Object]:
        """Everything whose key begins with the prefix, every page."""
        parameters = {"list-type": "2", "encoding-type": "url", "prefix": source.prefix}
        while True:
            body = bytearray()
            self._retried("GET", "/", parameters, {}, body.extend, body.clear)
            more, found = _page(bytes(body))
            yield from found
            if more is None:
                return
            parameters["continuation-token"] = more

    def get(
        self,
        key: str,
        etag: str,
        sink: Sink,
        again: Callable[[], None],
        *,
        span: Optional[Tuple[int, int]] = None,
    ) -> Dict[str, str]:
        """The object's bytes (or those from ``span[0]`` up to ``span[1]``) have gone to ``sink``; its headers.

        Only if it still is the one with that ETag: else `Refusal` with status 412. Before it is tried again, ``again``
        is called: what ``sink`` has had does not count.
        """
        headers = {"if-match": '"{}"'.format(etag), "x-amz-checksum-mode": "ENABLED"}
        if span is not None:
            headers["range"] = "bytes={}-{}".format(span[0], span[1] - 1)
        head = self._retried("GET", path_of(key), {}, headers, sink, again)
        return head.headers

    def part_size(self, key: str, parts: int, number: int) -> Optional[int]:
        """How many bytes the part of that number has, from 1; ``None`` where S3 does not say or has other parts."""
        query = {"partNumber": str(number)}
        head = self._retried("HEAD", path_of(key), query, {}, lambda _: None, lambda: None)
        if head.headers.get("x-amz-mp-parts-count") != str(parts):
            return None
        return int(head.headers.get("content-length", "0")) or None

    def _retried(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        headers: Mapping[str, str],
        sink: Sink,
        again: Callable[[], None],
    ) -> Head:
        failure: Exception = Broken("not tried")
        for attempt in range(TRIES):
            if attempt:
                again()
                time.sleep(min(_MOST_SECONDS, 0.2 * 2**attempt) * (0.5 + random.random() / 2))  # noqa: S311 (a pause)
            try:
                return self._once(method, path, parameters, headers, sink)
            except Refusal as refusal:
                if refusal.status not in _AGAIN and refusal.code not in ("SlowDown", "RequestTimeout"):
                    raise
                failure = refusal
            except (socket.timeout, ssl.SSLError, ConnectionError, Broken, socket.gaierror) as error:
                self._connection().close()
                failure = error
        if isinstance(failure, Refusal):
            raise failure
        raise FillError(
            "s3-unreachable",
            "S3 does not answer at {}: {}".format(self._header, failure),
            "the machine needs a way to S3: a public address, a NAT gateway or a gateway endpoint",
        )

    def _once(
        self, method: str, path: str, parameters: Mapping[str, str], headers: Mapping[str, str], sink: Sink
    ) -> Head:
        full = (self._base + path) if self._base else path
        query = query_of(parameters)
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        keys = self._credentials.now()
        send = signed(method, self._header, full, query, headers, keys, self.place.region, moment)
        connection = self._connection()
        try:
            head = connection.ask(method, full + ("?" + query if query else ""), send)
            said = bytearray()
            for piece in connection.body(method, head):
                (sink if head.status < 300 else said.extend)(piece)
        except BaseException:
            connection.close()
            raise
        if head.status >= 300:
            raise _refusal(head, bytes(said))
        return head

    def _connection(self) -> Connection:
        found: Optional[Connection] = getattr(self._own, "connection", None)
        if found is None:
            found = self._own.connection = Connection(self._host, self._port, self._tls, TIMEOUT)
        return found


def _refusal(head: Head, body: bytes) -> Refusal:
    text = body.decode("utf-8", "replace")

    def word(name: str) -> str:
        match = re.search("<{0}>([^<]*)</{0}>".format(name), text)
        return match.group(1) if match else ""

    region = head.headers.get("x-amz-bucket-region", "") or word("Region")
    code = word("Code") or {404: "NoSuchKey", 403: "AccessDenied", 412: "PreconditionFailed"}.get(
        head.status, ""
    )
    return Refusal(head.status, code, word("Message") or "HTTP status {}".format(head.status), region)


def _page(body: bytes) -> Tuple[Optional[str], Iterator[Object]]:
    """The next page's token, and the objects of this one."""
    try:
        root = ET.fromstring(body)  # noqa: S314 (S3's own answer, over TLS)
    except ET.ParseError as error:
        raise FillError("bad-listing", "S3's listing cannot be read: {}".format(error)) from error
    name = root.tag.rpartition("}")[0] + "}" if root.tag.startswith("{") else ""

    def text(parent: ET.Element, tag: str) -> str:
        return parent.findtext(name + tag) or ""

    encoded = text(root, "EncodingType") == "url"

    def objects() -> Iterator[Object]:
        for item in root.iter(name + "Contents"):
            key = text(item, "Key")
            if encoded:
                key = unquote_to_bytes(key.replace("+", " ")).decode("utf-8", "surrogateescape")
            size = text(item, "Size")
            if not _SIZE.match(size):
                raise FillError("bad-listing", "S3 lists {!r} with a size of {!r:.50}".format(key, size))
            yield Object(key, int(size), text(item, "ETag").strip('"'))

    return (text(root, "NextContinuationToken") or None), objects()
