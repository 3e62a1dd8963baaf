"""S3: list, get (also a range), put, multipart uploads, and addresses for others. Tries again what may be tried again.

Our own, as machines have no SDK: see the package's docstring. What came is proven by the caller (`checksums`).
"""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from calendar import timegm
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from typing import TYPE_CHECKING, Callable
from urllib.parse import unquote_to_bytes, urlsplit

from runctl._dataclasses import dataclass
from runctl.agent.cloud.credentials import Credentials
from runctl.agent.cloud.http import Broken, Connection, Head, pause_before_try
from runctl.agent.cloud.signing import EMPTY, UNSIGNED, path_of, presigned, query_of, signed
from runctl.agent.errors import AgentError
from runctl.agent.object_store import domain_of

if TYPE_CHECKING:
    from runctl.agent.cloud.http import Body

DEFAULT_REGION = "us-east-1"
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
VARIABLES = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AWS_EC2_METADATA_SERVICE_ENDPOINT", *ENDPOINTS, *REGIONS),
)
"""What of a process's variables matters to a store."""
TRIES = 6
TIMEOUT = 30.0
_TEMPORARY = (429, 500, 502, 503, 504)
_TEMPORARY_CODES = (
    *("SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable"),
    *("ConditionalRequestConflict", "OperationAborted"),
    "RequestTimeTooSkewed",
)
_SIZE = re.compile(r"[0-9]{1,18}\Z")

Sink = Callable[[memoryview], None]
"""Takes the next bytes of a body. Any error it raises ends the transfer."""
Receiver = Callable[[Mapping[str, str]], Sink]
"""Gets an answer's headers, and says who takes its body. Called anew for each try: what came before does not count."""


@dataclass(frozen=True)
class Object:
    """One object, as the listing describes it."""

    key: str
    size: int
    """Bytes."""
    etag: str
    """Without quotes."""


@dataclass(frozen=True)
class Location:
    """Where S3 is for a bucket."""

    region: str
    endpoint: str = ""
    """A URL that stands in for AWS, addressed by path; empty for AWS itself."""

    def host_and_base(self, bucket: str) -> tuple[bool, str, int, str, str]:
        """TLS or not, the name to connect to, the port, the Host header, and what a key's path begins with."""
        if self.endpoint:
            url = urlsplit(self.endpoint)
            port = url.port or (443 if url.scheme == "https" else 80)
            return url.scheme == "https", url.hostname or "", port, url.netloc, path_of(bucket)
        domain = domain_of(self.region)
        if "." in bucket:
            # A bucket's dots do not fit under the certificate's wildcard.
            host = f"s3.{self.region}.{domain}"
            return True, host, 443, host, path_of(bucket)
        host = f"{bucket}.s3.{self.region}.{domain}"
        return True, host, 443, host, ""


def location_of(variables: Mapping[str, str], region: str = "", endpoint: str = "") -> Location:
    """What is given, else what the variables of SDKs say. Pure."""

    def first(names: Sequence[str]) -> str:
        return next((variables[name] for name in names if variables.get(name)), "")

    return Location(region or first(REGIONS) or DEFAULT_REGION, endpoint or first(ENDPOINTS))


@dataclass(frozen=True)
class Part:
    """One part of a multipart upload."""

    number: int
    """From 1."""
    etag: str
    size: int
    """Bytes."""
    crc32: str = ""
    """Its checksum in base64, as S3 writes it; empty where S3 says none."""


class Refusal(AgentError):
    """S3's answer is no."""

    def __init__(self, status: int, s3_code: str, message: str, region: str = "") -> None:
        super().__init__("s3-refused", f"{s3_code or status}: {message}")
        self.status = status
        self.s3_code = s3_code
        """S3's own word, such as ``NoSuchKey``."""
        self.region = region
        """Where the bucket is, where S3 says so."""


@dataclass(frozen=True)
class _Request:
    """One request for an object or, with an empty key, for the bucket; it may be sent several times."""

    method: str
    key: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = b""


class S3:
    """One bucket. Safe to use from several threads, not from two processes: connections stay open to be used anew.

    Every method raises `Refusal`, and `AgentError` (``s3-unreachable``, ``no-role``).
    """

    def __init__(
        self,
        bucket: str,
        location: Location,
        credentials: Credentials,
        *,
        tries: int = TRIES,
        timeout: float = TIMEOUT,
    ) -> None:
        """``timeout`` seconds is how long a connection may be silent; a request is sent ``tries`` times at most."""
        self.bucket = bucket
        self.location = location
        self._credentials = credentials
        self._tries, self._timeout = tries, timeout
        self._idle: deque[Connection] = deque()
        self._tls = None
        self._clock_ahead = 0.0
        secure, self._host, self._port, self._header, self._base = location.host_and_base(bucket)
        if secure:
            import ssl

            self._tls = ssl.create_default_context()

    def close(self) -> None:
        """No connection is open that no request uses; the next request makes a new one."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def list(self, prefix: str) -> Iterator[Object]:
        """Everything whose key begins with the prefix, every page."""
        parameters = {"list-type": "2", "encoding-type": "url", "prefix": prefix}
        while True:
            _, body = self._call("GET", "", parameters)
            more, found = _page(body)
            yield from found
            if more is None:
                return
            parameters["continuation-token"] = more

    def get(
        self,
        key: str,
        etag: str | None,
        receiver: Receiver,
        *,
        span: tuple[int, int] | None = None,
    ) -> None:
        """The object's bytes (or those from ``span[0]`` up to ``span[1]``) have been received.

        Only if it still is the one with that ETag, where one is given: else `Refusal` with status 412.
        """
        headers = {"x-amz-checksum-mode": "ENABLED"}
        if etag is not None:
            headers["if-match"] = f'"{etag}"'
        if span is not None:
            headers["range"] = f"bytes={span[0]}-{span[1] - 1}"
        self._send(_Request("GET", key, headers=headers), receiver)

    def head(self, key: str, *, part: int | None = None) -> dict[str, str]:
        """An object's headers, its checksums among them; with ``part`` those of its part of that number, from 1."""
        query = {} if part is None else {"partNumber": str(part)}
        head, _ = self._call("HEAD", key, query, {"x-amz-checksum-mode": "ENABLED"})
        return head.headers

    def part_size(self, key: str, parts: int, number: int) -> int | None:
        """How many bytes the part of that number has, from 1; ``None`` where S3 does not say or has other parts."""
        headers = self.head(key, part=number)
        if headers.get("x-amz-mp-parts-count") != str(parts):
            return None
        return int(headers.get("content-length", "0")) or None

    def put(self, key: str, body: Body, crc32: str, *, only_new: bool = False, etag: str = "") -> str:
        """The object has these bytes, whose CRC-32 (base64) S3 has checked and keeps; returns its ETag.

        With ``only_new`` there must be none yet, with ``etag`` it must be the one that has it: else `Refusal` with
        status 412 (404 where there is none), also where an answer to the same request was lost.
        """
        condition = {"if-none-match": "*"} if only_new else {"if-match": f'"{etag}"'} if etag else {}
        head, _ = self._call("PUT", key, {}, {**_stated(crc32), **condition}, body)
        return head.headers.get("etag", "").strip('"')

    def read(self, key: str) -> bytes:
        """All of a small object."""
        return self.read_with_headers(key)[0]

    def read_with_headers(self, key: str) -> tuple[bytes, dict[str, str]]:
        """All of a small object, and the headers of the answer."""
        head, body = self._call("GET", key, {})
        return body, head.headers

    def delete(self, key: str) -> None:
        """There is no such object."""
        self._call("DELETE", key, {})

    def begin_upload(self, key: str) -> str:
        """The id of a new multipart upload, of whose whole S3 will keep the CRC-32."""
        headers = {"x-amz-checksum-algorithm": "CRC32", "x-amz-checksum-type": "FULL_OBJECT"}
        _, body = self._call("POST", key, {"uploads": ""}, headers)
        return _text(_parsed(body), "UploadId")

    def put_part(self, key: str, upload_id: str, number: int, body: Body, crc32: str) -> Part:
        """The part is there, checked; one of the same number before it is replaced."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        head, _ = self._call("PUT", key, query, _stated(crc32), body)
        return Part(number, head.headers.get("etag", "").strip('"'), len(body), crc32)

    def parts(self, key: str, upload_id: str) -> Iterator[Part]:
        """The parts that an upload has so far, every page. `Refusal` (``NoSuchUpload``) where there is none."""
        query = {"uploadId": upload_id}
        while True:
            _, body = self._call("GET", key, query)
            root = _parsed(body)
            for found in _each(root, "Part"):
                number, size = _text(found, "PartNumber"), _text(found, "Size")
                etag = _text(found, "ETag").strip('"')
                yield Part(int(number), etag, int(size), _text(found, "ChecksumCRC32"))
            if _text(root, "IsTruncated") != "true":
                return
            query["part-number-marker"] = _text(root, "NextPartNumberMarker")

    def complete_upload(self, key: str, upload_id: str, parts: Sequence[Part], crc32: str) -> None:
        """The object is there, made of these parts, and its CRC-32 is this one."""
        listed = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber><ETag>&quot;{part.etag}&quot;</ETag>"
            f"<ChecksumCRC32>{part.crc32}</ChecksumCRC32></Part>"
            for part in parts
        )
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        headers = {"x-amz-checksum-crc32": crc32, "x-amz-checksum-type": "FULL_OBJECT"}
        head, answer = self._call("POST", key, {"uploadId": upload_id}, headers, body)
        if b"<Error>" in answer:
            # S3 says that all is well before it knows ("CompleteMultipartUpload" in its API reference).
            raise _refusal(head, answer)

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Nothing is left of the upload."""
        self._call("DELETE", key, {"uploadId": upload_id})

    def address(self, method: str, key: str, seconds: int) -> str:
        """A presigned URL: who has it may send one kind of request for this object, without rights of his own."""
        path = self._path(key)
        query = presigned(
            method, self._header, path, self._credentials.now(), self.location.region, self._moment(), seconds
        )
        return f"{'https' if self._tls else 'http'}://{self._header}{path}?{query}"

    def _path(self, key: str) -> str:
        return self._base + (path_of(key) if key else "/")

    def _call(
        self,
        method: str,
        key: str,
        parameters: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
    ) -> tuple[Head, bytes]:
        """A request whose answer is short."""
        answer = bytearray()

        def receive(_: Mapping[str, str]) -> Sink:
            answer.clear()
            return answer.extend

        head = self._send(_Request(method, key, parameters, headers or {}, body), receive)
        return head, bytes(answer)

    def _send(self, request: _Request, receiver: Receiver) -> Head:
        """Try as often as it may help. Raises `Refusal`, `AgentError` (``s3-unreachable``)."""
        failure: Exception = Broken("not tried")
        for attempt in range(self._tries):
            if attempt:
                pause_before_try(attempt)
            try:
                return self._try(request, receiver)
            except Refusal as refusal:
                if refusal.status not in _TEMPORARY and refusal.s3_code not in _TEMPORARY_CODES:
                    raise
                failure = refusal
            except Broken as error:
                failure = error
        if isinstance(failure, Refusal):
            raise failure
        raise AgentError(
            "s3-unreachable",
            f"S3 does not answer at {self._header}: {failure}",
            "the machine needs a way to S3: a public address, a NAT gateway or a gateway endpoint",
        )

    def _try(self, request: _Request, receiver: Receiver) -> Head:
        path, query = self._path(request.key), query_of(request.parameters)
        headers = dict(request.headers)
        if request.method in ("PUT", "POST"):
            headers["content-length"] = str(len(request.body))
        keys, region = self._credentials.now(), self.location.region
        payload = UNSIGNED if request.body else EMPTY
        moment = self._moment()
        send = signed(request.method, self._header, path, query, headers, keys, region, moment, payload)
        connection = self._connection()
        # One that ended in an error is closed, and as good as a new one.
        try:
            head = connection.ask(request.method, path + ("?" + query if query else ""), send, request.body)
            refused = bytearray()
            take = receiver(head.headers) if head.status < 300 else refused.extend
            for piece in connection.body(request.method, head):
                take(piece)
        except BaseException:
            connection.close()
            raise
        finally:
            self._idle.append(connection)
        if head.status >= 300:
            refusal = _refusal(head, bytes(refused))
            if refusal.s3_code == "RequestTimeTooSkewed":
                # By more than 15 minutes: from now on requests carry the time that S3 has.
                self._clock_ahead = time.time() - _time_of(head.headers.get("date", ""))
            raise refusal
        return head

    def _moment(self) -> str:
        return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - self._clock_ahead))

    def _connection(self) -> Connection:
        with suppress(IndexError):
            return self._idle.pop()
        return Connection(self._host, self._port, self._tls, self._timeout)


def _stated(crc32: str) -> dict[str, str]:
    return {"x-amz-sdk-checksum-algorithm": "CRC32", "x-amz-checksum-crc32": crc32}


def _time_of(date: str) -> float:
    try:
        return float(timegm(time.strptime(date, "%a, %d %b %Y %H:%M:%S GMT")))
    except ValueError:
        return time.time()


def _refusal(head: Head, body: bytes) -> Refusal:
    text = body.decode("utf-8", "replace")

    def named(name: str) -> str:
        match = re.search(f"<{name}>([^<]*)</{name}>", text)
        return match.group(1) if match else ""

    region = head.headers.get("x-amz-bucket-region", "") or named("Region")
    code = named("Code") or {404: "NoSuchKey", 403: "AccessDenied", 412: "PreconditionFailed"}.get(
        head.status, ""
    )
    return Refusal(head.status, code, named("Message") or f"HTTP status {head.status}", region)


def _parsed(body: bytes) -> ET.Element:
    try:
        return ET.fromstring(body)  # noqa: S314 (S3's own answer, over TLS)
    except ET.ParseError as error:
        raise AgentError("bad-listing", f"S3's answer cannot be read: {error}") from error


def _namespace(element: ET.Element) -> str:
    return element.tag.rpartition("}")[0] + "}" if element.tag.startswith("{") else ""


def _each(root: ET.Element, tag: str) -> Iterator[ET.Element]:
    return root.iter(_namespace(root) + tag)


def _text(element: ET.Element, tag: str) -> str:
    return element.findtext(_namespace(element) + tag) or ""


def _page(body: bytes) -> tuple[str | None, Iterator[Object]]:
    """The next page's token, and the objects of this one."""
    root = _parsed(body)
    encoded = _text(root, "EncodingType") == "url"

    def objects() -> Iterator[Object]:
        for item in _each(root, "Contents"):
            key = _text(item, "Key")
            if encoded:
                key = unquote_to_bytes(key.replace("+", " ")).decode("utf-8", "surrogateescape")
            size = _text(item, "Size")
            if not _SIZE.match(size):
                raise AgentError("bad-listing", f"S3 lists {key!r} with a size of {size!r:.50}")
            yield Object(key, int(size), _text(item, "ETag").strip('"'))

    return (_text(root, "NextContinuationToken") or None), objects()
