"""Files put into the sandbox's S3: proven, gone on with after an interruption, and readable by others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from runctl.agent.cloud.checksums import in_base64
from runctl.agent.cloud.s3 import S3, Part, Refusal
from runctl.agent.cloud.uploads import MOST_PARTS, PART, part_size, upload
from runctl.agent.errors import AgentError
from tests.agent.s3_bucket import MIB, REGION, Bucket
from tests.e2e.command_line import until

UPLOAD = """\
import os, sys
from pathlib import Path
from runctl.agent.cloud.credentials import Credentials
from runctl.agent.cloud.s3 import S3, Location
from runctl.agent.cloud.uploads import upload
bucket, region, key, file, note = sys.argv[1:]
s3 = S3(bucket, Location(region, os.environ["AWS_ENDPOINT_URL"]), Credentials(os.environ))
upload(s3, key, Path(file), begun=Path(note).write_text, threads=1)
"""


@pytest.fixture
def s3(bucket: Bucket) -> Iterator[S3]:
    found = bucket.s3()
    yield found
    found.close()


def crc32(data: bytes) -> str:
    return in_base64(f"{zlib.crc32(data):08x}")


def in_s3(bucket: Bucket, key: str) -> bytes:
    """The object, as others read it."""
    content: bytes = bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read()
    return content


@pytest.mark.parametrize("size", [0, 1000, 40 * MIB + 7])
def test_a_file_becomes_an_object_with_its_checksum(
    bucket: Bucket, s3: S3, tmp_path: Path, size: int
) -> None:
    file = tmp_path / "weights"
    file.write_bytes(os.urandom(size))

    done = upload(s3, "run 1/ü+weights", file)

    assert in_s3(bucket, "run 1/ü+weights") == file.read_bytes()
    assert (done.size, done.sent, done.crc32) == (size, size, f"{zlib.crc32(file.read_bytes()):08x}")
    headers = bucket.client.head_object(Bucket=bucket.name, Key=done.key, ChecksumMode="ENABLED")
    assert headers["ChecksumCRC32"] == in_base64(done.crc32)


def test_an_upload_whose_process_was_killed_goes_on(bucket: Bucket, s3: S3, tmp_path: Path) -> None:
    file, note = tmp_path / "weights", tmp_path / "id"
    file.write_bytes(os.urandom(8 * PART))
    argv = [sys.executable, "-c", UPLOAD, bucket.name, REGION, "weights", str(file), str(note)]
    with subprocess.Popen(argv, env=bucket.environment()) as process:
        until(lambda: note.exists() and list(s3.parts("weights", note.read_text())), what="the first part")
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL

    done = upload(s3, "weights", file, upload_id=note.read_text())

    assert 0 < done.sent < done.size
    assert in_s3(bucket, "weights") == file.read_bytes()


def test_a_part_that_is_of_another_file_is_sent_anew(bucket: Bucket, s3: S3, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    data = os.urandom(3 * PART)
    file.write_bytes(data)
    begun = s3.begin_upload("weights")
    s3.put_part("weights", begun, 1, data[:PART], crc32(data[:PART]))
    s3.put_part("weights", begun, 2, bytes(PART), crc32(bytes(PART)))

    done = upload(s3, "weights", file, upload_id=begun)

    assert done.sent == 2 * PART
    assert in_s3(bucket, "weights") == data


def test_an_upload_that_is_no_longer_there_begins_anew(bucket: Bucket, s3: S3, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(os.urandom(2 * PART))
    gone = s3.begin_upload("weights")
    s3.abort_upload("weights", gone)
    begun: list[str] = []

    done = upload(s3, "weights", file, upload_id=gone, begun=begun.append)

    assert done.sent == done.size
    assert begun != [gone]
    assert in_s3(bucket, "weights") == file.read_bytes()


def test_a_file_that_changes_meanwhile_is_an_error(s3: S3, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(bytes(2 * PART))

    def change(_: str) -> None:
        with file.open("r+b") as opened:
            opened.write(b"new")
        os.utime(file, ns=(0, 0))

    with pytest.raises(AgentError, match="changed while it was uploaded") as caught:
        upload(s3, "weights", file, begun=change)
    assert caught.value.code == "changed"


def test_what_does_not_arrive_as_it_was_sent_is_refused(s3: S3) -> None:
    with pytest.raises(Refusal) as caught:
        s3.put("weights", b"what came", crc32(b"what was sent"))
    assert caught.value.s3_code == "BadDigest"


def test_without_the_right_to_write_the_error_says_what_to_add(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"x")
    stranger = Bucket({**bucket.account, "AWS_ACCESS_KEY_ID": "AKIAWRONG"}, bucket.name, tmp_path, None).s3()

    with pytest.raises(AgentError, match="may not write") as caught:
        upload(stranger, "weights", tmp_path / "weights")
    stranger.close()
    assert (caught.value.code, "s3:PutObject" in caught.value.hint) == ("denied", True)


def test_an_address_lets_others_read_and_write_one_object(bucket: Bucket, s3: S3) -> None:
    def ask(method: str, url: str, body: bytes | None = None) -> bytes:
        headers = {"content-type": "application/octet-stream"}
        with urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method)) as answer:
            content: bytes = answer.read()
            return content

    ask("PUT", s3.address("PUT", "a b/ü+", 60), b"content")

    assert ask("GET", s3.address("GET", "a b/ü+", 60)) == b"content"
    assert in_s3(bucket, "a b/ü+") == b"content"
    with pytest.raises(ValueError, match="604800"):
        s3.address("GET", "a b/ü+", 8 * 24 * 3600)


def test_parts_are_as_large_as_those_that_are_there_and_never_too_many() -> None:
    assert part_size(100 * MIB, []) == PART
    assert part_size(100 * MIB, [Part(2, "e", 8 * MIB), Part(13, "e", 4 * MIB)]) == 8 * MIB
    assert part_size(100 * MIB, [Part(7, "e", 4 * MIB)]) == PART
    large = 4 << 40
    assert -(-large // part_size(large, [Part(1, "e", 8 * MIB)])) <= MOST_PARTS
