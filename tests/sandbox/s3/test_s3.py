"""S3 as transfers need it: ranges, pages, checksums, many at once."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import socket
import subprocess
import sysconfig
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.s3.bodies import BadBody, unpacked
from runctl.sandbox.s3.objects import requested
from tests.sandbox.account import Account, code_of

MIB = 1 << 20
LARGE = 40 * MIB
"""Beyond what moto keeps in memory."""


@pytest.fixture(scope="module")
def content() -> bytes:
    """Of the object ``large``; the first bytes are ``small``'s."""
    return os.urandom(LARGE)


@pytest.fixture(scope="module")
def s3(account: Account, content: bytes) -> Any:
    """The API; its bucket has ``large`` and ``small``."""
    account.s3.create_bucket(Bucket="transfers")
    account.s3.put_object(
        Bucket="transfers", Key="large", Body=content, ContentType="text/x", Metadata={"a": "b"}
    )
    account.s3.put_object(Bucket="transfers", Key="small", Body=content[:1000])
    return account.s3


def code(call: Callable[..., Any], **parameters: Any) -> str:
    with pytest.raises(ClientError) as raised:
        call(Bucket="transfers", **parameters)
    return code_of(raised.value)


@pytest.mark.namespaces
@pytest.mark.parametrize("key", ["large", "small"])
@pytest.mark.parametrize(
    ("text", "first", "last"),
    [("bytes=0-0", 0, 0), ("bytes=10-19", 10, 19), ("bytes=990-", 990, None), ("bytes=-10", -10, None)],
)
def test_a_range_is_what_was_asked_for(
    s3: Any, content: bytes, key: str, text: str, first: int, last: int | None
) -> None:
    whole = content if key == "large" else content[:1000]
    wanted = whole[first : None if last is None else last + 1]

    answer = s3.get_object(Bucket="transfers", Key=key, Range=text)

    begin = first % len(whole)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert answer["ContentRange"] == f"bytes {begin}-{begin + len(wanted) - 1}/{len(whole)}"
    assert answer["ContentLength"] == len(wanted)
    assert answer["Body"].read() == wanted
    assert not [name for name in answer if name.startswith("Checksum")]


@pytest.mark.namespaces
def test_a_range_beyond_the_end_is_an_error(s3: Any) -> None:
    assert code(s3.get_object, Key="small", Range="bytes=1000-1010") == "InvalidRange"


@pytest.mark.namespaces
def test_a_whole_object_comes_with_everything_that_is_known_of_it(s3: Any, content: bytes) -> None:
    answer = s3.get_object(Bucket="transfers", Key="large")

    assert answer["Body"].read() == content
    assert (answer["ContentType"], answer["Metadata"], answer["AcceptRanges"]) == (
        "text/x",
        {"a": "b"},
        "bytes",
    )
    assert answer["ETag"] == f'"{hashlib.md5(content).hexdigest()}"'
    assert answer["ContentLength"] == LARGE


@pytest.mark.namespaces
def test_a_head_tells_the_checksum_when_asked_to(s3: Any, content: bytes) -> None:
    plain = s3.head_object(Bucket="transfers", Key="large")
    asked = s3.head_object(Bucket="transfers", Key="large", ChecksumMode="ENABLED")

    assert plain["ContentLength"] == asked["ContentLength"] == LARGE
    assert plain["LastModified"] == s3.get_object(Bucket="transfers", Key="large")["LastModified"]
    assert "ChecksumCRC32" not in plain
    assert asked["ChecksumCRC32"] == base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()


@pytest.mark.namespaces
def test_a_read_can_depend_on_the_etag(s3: Any) -> None:
    etag = s3.head_object(Bucket="transfers", Key="large")["ETag"]

    assert (
        s3.get_object(Bucket="transfers", Key="large", IfMatch=etag, Range="bytes=0-1")["ContentLength"] == 2
    )
    assert code(s3.get_object, Key="large", IfMatch='"other"') == "PreconditionFailed"
    assert code(s3.get_object, Key="large", IfNoneMatch=etag) == "304"


@pytest.mark.namespaces
def test_an_object_in_parts_has_their_etag(s3: Any, content: bytes) -> None:
    config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB)
    s3.upload_fileobj(io.BytesIO(content), "transfers", "parts", Config=config)

    digests = b"".join(hashlib.md5(content[at : at + 8 * MIB]).digest() for at in range(0, LARGE, 8 * MIB))
    answer = s3.get_object(Bucket="transfers", Key="parts")
    assert answer["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-{LARGE // (8 * MIB)}"'
    assert hashlib.sha256(answer["Body"].read()).digest() == hashlib.sha256(content).digest()


@pytest.mark.namespaces
def test_many_read_at_once(s3: Any, content: bytes) -> None:
    def read(number: int) -> bool:
        first = number * MIB
        answer = s3.get_object(Bucket="transfers", Key="large", Range=f"bytes={first}-{first + MIB - 1}")
        return bool(answer["Body"].read() == content[first : first + MIB])

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(read, range(LARGE // MIB)))


@pytest.mark.namespaces
def test_an_object_that_is_replaced_is_read_to_its_end(s3: Any) -> None:
    old, new = os.urandom(20 * MIB), b"new"
    s3.put_object(Bucket="transfers", Key="replaced", Body=old)
    answer = s3.get_object(Bucket="transfers", Key="replaced")
    begun = answer["Body"].read(MIB)

    s3.put_object(Bucket="transfers", Key="replaced", Body=new)

    assert begun + answer["Body"].read() == old
    assert s3.get_object(Bucket="transfers", Key="replaced")["Body"].read() == new


@pytest.mark.namespaces
def test_a_client_that_stops_in_the_middle_of_an_upload_keeps_nobody_waiting(s3: Any) -> None:
    address = urlsplit(s3.generate_presigned_url("put_object", Params={"Bucket": "transfers", "Key": "half"}))
    where = (address.hostname or "", address.port or 0)
    with ThreadPoolExecutor(8) as pool, socket.create_connection(where) as stopped:
        head = f"PUT {address.path}?{address.query} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 100\r\n\r\n"
        stopped.sendall(head.encode() + b"half")
        # More keys than there are locks, and its own.
        names = ["half", *(f"others/{number}" for number in range(300))]
        puts = [pool.submit(s3.put_object, Bucket="transfers", Key=name, Body=b"whole") for name in names]
        assert {put.result(timeout=30)["ETag"] for put in puts} == {f'"{hashlib.md5(b"whole").hexdigest()}"'}
        stopped.sendall(b"-" * 96)
        assert b" 200 " in stopped.recv(1 << 12).partition(b"\r\n")[0]
    assert s3.get_object(Bucket="transfers", Key="half")["Body"].read() == b"half" + b"-" * 96


def test_a_list_comes_page_by_page(s3: Any) -> None:
    for number in range(25):
        s3.put_object(Bucket="transfers", Key=f"many/{number:02}", Body=b"")

    pages = [
        page["Contents"]
        for page in s3.get_paginator("list_objects_v2").paginate(
            Bucket="transfers", Prefix="many/", PaginationConfig={"PageSize": 10}
        )
    ]

    assert [len(page) for page in pages] == [10, 10, 5]
    assert [row["Key"] for page in pages for row in page] == [f"many/{number:02}" for number in range(25)]


@pytest.mark.namespaces
def test_a_key_may_have_any_characters(s3: Any) -> None:
    key = "a b/é+%20&=?#//x"
    s3.put_object(Bucket="transfers", Key=key, Body=b"odd")

    assert s3.get_object(Bucket="transfers", Key=key)["Body"].read() == b"odd"
    assert s3.head_object(Bucket="transfers", Key=key)["ContentLength"] == 3


@pytest.mark.namespaces
@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_an_upload_with_a_wrong_checksum_is_refused(s3: Any, algorithm: str) -> None:
    parameters = {"Key": "wrong", "Body": b"content", f"Checksum{algorithm}": "AAAAAA=="}

    assert code(s3.put_object, **parameters) == "BadDigest"
    assert code(s3.head_object, Key="wrong") == "404"


@pytest.mark.namespaces
def test_aws_s3_sync_brings_a_folder_there_and_back(in_sandbox: SandboxInfo, s3: Any, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    sizes = {"empty": 0, "small": 10, "large": 20 * MIB}
    for name, size in sizes.items():
        (source / name).write_bytes(os.urandom(size))
    aws = Path(sysconfig.get_path("scripts"), "aws")

    for item, other in ((str(source), "s3://transfers/sync"), ("s3://transfers/sync", str(target))):
        subprocess.run([aws, "s3", "sync", "--quiet", item, other], check=True, timeout=60)

    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        path.name: path.read_bytes() for path in source.iterdir()
    }


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        (None, 10, range(10)),
        ("bytes=0-4", 10, range(5)),
        ("bytes=5-", 10, range(5, 10)),
        ("bytes=5-99", 10, range(5, 10)),
        ("bytes=-3", 10, range(7, 10)),
        ("bytes=-99", 10, range(10)),
        ("bytes=10-", 10, None),
        ("bytes=-0", 10, None),
        ("bytes=0-", 0, None),
        ("bytes=4-2", 10, range(10)),
        ("bytes=-", 10, range(10)),
        ("bytes=0-1,3-4", 10, range(10)),
        ("lines=0-1", 10, range(10)),
    ],
)
def test_a_range_header_is_read_as_s3_reads_it(text: str | None, size: int, expected: range | None) -> None:
    assert requested(text, size) == expected


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.booleans())
def test_chunks_are_put_together_again(chunks: list[bytes], signed: bool) -> None:
    extra = b";chunk-signature=abc" if signed else b""
    packed = b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), extra, chunk) for chunk in [*chunks])
    packed += b"0%s\r\nx-amz-checksum-crc32:AAAA\r\n\r\n" % extra

    assert unpacked(io.BytesIO(packed)) == (b"".join(chunks), {"x-amz-checksum-crc32": "AAAA"})


@pytest.mark.parametrize("packed", [b"", b"x\r\n", b"5\r\nab", b"2\r\nabcd\r\n"])
def test_chunks_that_are_cut_off_are_refused(packed: bytes) -> None:
    with pytest.raises(BadBody):
        unpacked(io.BytesIO(packed))
