"""Requests to S3: signed as botocore signs them, sent again when they may be."""

from __future__ import annotations

import re
import socket
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from runctl.agent.cloud.checksums import in_base64
from runctl.agent.cloud.credentials import Credentials, Keys
from runctl.agent.cloud.s3 import S3, Location, Refusal, Sink
from runctl.agent.cloud.signing import path_of, query_of, signed
from runctl.agent.errors import AgentError
from runctl.agent.fill.filling import explained
from runctl.agent.object_store import Source
from tests.agent.s3_bucket import Bucket

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example"}


def test_a_signature_is_botocores() -> None:
    keys = Keys("AKIAEXAMPLE", "secret", "token")
    path = path_of("set/f 1+ü~.bin")
    query = query_of({"list-type": "2", "prefix": "a b/ü+"})
    mine = signed(
        "GET",
        "b.s3.us-east-1.amazonaws.com",
        path,
        query,
        {"range": "bytes=0-9"},
        keys,
        "us-east-1",
        "20260501T120000Z",
    )

    request = AWSRequest(
        "GET",
        f"https://b.s3.us-east-1.amazonaws.com{path}?{query}",
        headers={"range": "bytes=0-9", "X-Amz-Date": "20260501T120000Z"},
    )
    request.context["timestamp"] = "20260501T120000Z"
    auth = S3SigV4Auth(BotoCredentials("AKIAEXAMPLE", "secret", "token"), "s3", "us-east-1")
    request.headers["X-Amz-Content-SHA256"] = mine["x-amz-content-sha256"]
    request.headers["X-Amz-Security-Token"] = "token"
    canonical = auth.canonical_request(request)
    expected = auth.signature(auth.string_to_sign(request, canonical), request)

    assert mine["authorization"].rpartition("=")[2] == expected


@pytest.mark.parametrize(
    ("location", "bucket", "expected"),
    [
        (
            Location("eu-west-1"),
            "data",
            (True, "data.s3.eu-west-1.amazonaws.com", 443, "data.s3.eu-west-1.amazonaws.com", ""),
        ),
        (
            Location("cn-north-1"),
            "data",
            (True, "data.s3.cn-north-1.amazonaws.com.cn", 443, "data.s3.cn-north-1.amazonaws.com.cn", ""),
        ),
        (
            Location("us-east-1"),
            "a.b",
            (True, "s3.us-east-1.amazonaws.com", 443, "s3.us-east-1.amazonaws.com", "/a.b"),
        ),
        (
            Location("us-east-1", "http://127.0.0.1:99"),
            "data",
            (False, "127.0.0.1", 99, "127.0.0.1:99", "/data"),
        ),
    ],
)
def test_where_s3_is(location: Location, bucket: str, expected: tuple[object, ...]) -> None:
    assert location.host_and_base(bucket) == expected


Answer = Callable[[socket.socket, int], None]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], S3]]:
    """An HTTP server whose every answer is scripted; pauses between tries are not slept."""
    monkeypatch.setattr("runctl.agent.cloud.s3.time.sleep", lambda _: None)
    listening = socket.create_server(("127.0.0.1", 0))

    bodies: list[bytes] = []

    def serve(answer: Answer) -> S3:
        def run() -> None:
            number = 0
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    data = connection.recv(65536)
                    while data and b"\r\n\r\n" not in data:
                        data += connection.recv(65536)
                    head, _, body = data.partition(b"\r\n\r\n")
                    stated = re.search(rb"content-length: (\d+)", head)
                    while stated and len(body) < int(stated.group(1)):
                        body += connection.recv(65536)
                    bodies.append(body)
                    answer(connection, number)
                    number += 1

        threading.Thread(target=run, daemon=True).start()
        port = listening.getsockname()[1]
        return S3("data", Location("us-east-1", f"http://127.0.0.1:{port}"), Credentials(KEYS))

    yield serve
    assert len(set(bodies)) <= 1, "what is sent again is the same"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def _get(s3: S3) -> bytes:
    body = bytearray()

    def receive(_: Mapping[str, str]) -> Sink:
        body.clear()
        return body.extend

    try:
        s3.get("key", "etag", receive)
    finally:
        s3.close()
    return bytes(body)


def test_an_answer_cut_short_is_asked_for_again(server: Callable[[Answer], S3]) -> None:
    def answer(connection: socket.socket, number: int) -> None:
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n" + (b"who" if number < 2 else b"whole!")
        )

    assert _get(server(answer)) == b"whole!"


def test_a_busy_s3_is_asked_again_and_a_refusal_is_not(server: Callable[[Answer], S3]) -> None:
    asked: list[int] = []

    def answer(connection: socket.socket, number: int) -> None:
        asked.append(number)
        body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        status = b"503 Slow Down" if number < 2 else b"403 Forbidden"
        connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)

    with pytest.raises(Refusal, match="AccessDenied: no"):
        _get(server(answer))
    assert asked == [0, 1, 2]


def test_a_body_is_sent_again_to_an_s3_that_was_busy(server: Callable[[Answer], S3]) -> None:
    asked: list[int] = []

    def answer(connection: socket.socket, number: int) -> None:
        asked.append(number)
        status = b"503 Slow Down" if number == 0 else b"200 OK"
        if number != 1:  # The second time there is no answer at all.
            connection.sendall(b'HTTP/1.1 %s\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n' % status)

    s3 = server(answer)
    assert s3.put("key", b"body" * 1000, "AAAAAA==") == "e"
    s3.close()
    assert asked == [0, 1, 2]


def test_a_machine_whose_clock_is_wrong_signs_with_the_time_that_s3_has(
    server: Callable[[Answer], S3],
) -> None:
    asked: list[int] = []

    def answer(connection: socket.socket, number: int) -> None:
        asked.append(number)
        if number:
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            return
        body = b"<Error><Code>RequestTimeTooSkewed</Code></Error>"
        date = b"Thu, 01 Jan 2015 00:00:00 GMT"
        head = b"HTTP/1.1 403 Forbidden\r\nDate: %s\r\nContent-Length: %d\r\n\r\n" % (date, len(body))
        connection.sendall(head + body)

    s3 = server(answer)
    s3.delete("key")
    s3.close()
    assert asked == [0, 1]
    assert "X-Amz-Date=20150101T0000" in s3.address("GET", "key", 60)


def test_chunks_are_put_together(server: Callable[[Answer], S3]) -> None:
    def answer(connection: socket.socket, number: int) -> None:
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
        )

    assert _get(server(answer)) == b"abcde"


def test_an_s3_that_does_not_answer_is_said_to(server: Callable[[Answer], S3]) -> None:
    with pytest.raises(AgentError, match="does not answer") as caught:
        _get(server(lambda connection, number: None))
    assert caught.value.code == "s3-unreachable"


@pytest.mark.parametrize(
    ("refusal", "code", "phrase"),
    [
        (Refusal(404, "NoSuchBucket", ""), "no-bucket", "no bucket data"),
        (
            Refusal(301, "PermanentRedirect", "", "eu-west-1"),
            "wrong-region",
            "in eu-west-1, not in us-east-1",
        ),
        (Refusal(403, "AccessDenied", "no"), "denied", "may not read s3://data/set"),
        (Refusal(400, "Strange", "x"), "s3-refused", "Strange: x"),
    ],
)
def test_a_refused_listing_is_explained(refusal: Refusal, code: str, phrase: str) -> None:
    error = explained(refusal, Source("data", "set"), Location("us-east-1"))

    assert error.code == code
    assert phrase in error.message
    assert code != "denied" or '"arn:aws:s3:::data/set/*"' in error.hint


def test_an_object_that_changed_meanwhile_is_refused(bucket: Bucket) -> None:
    bucket.put("key", b"new")
    s3 = bucket.s3()

    with pytest.raises(Refusal) as caught:
        s3.get("key", "0" * 32, lambda _: lambda _: None)
    s3.close()
    assert caught.value.status == 412


def test_of_many_who_write_a_new_key_at_once_one_succeeds(bucket: Bucket) -> None:
    s3 = bucket.s3()
    start = threading.Barrier(16)

    def put(number: int) -> int:
        body = f"{number}".encode()
        start.wait()
        try:
            s3.put("lease", body, in_base64(f"{zlib.crc32(body):08x}"), only_new=True)
        except Refusal as refusal:
            return refusal.status
        return 200

    with ThreadPoolExecutor(16) as pool:
        answers = sorted(pool.map(put, range(16)))
    s3.close()
    assert answers == [200, *[412] * 15]
