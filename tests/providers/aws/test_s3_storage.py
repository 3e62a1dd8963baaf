"""S3 as this computer uses it, and a run's checkpoints in it."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runctl.agent.checkpoints.layout import Manifest, StoredFile, data_key, decode, encode
from runctl.checkpoints import download
from runctl.checkpoints.interface import identity
from runctl.checkpoints.prefix import StoredCheckpoints
from runctl.core.errors import Conflict, NotFound, Unreachable
from runctl.core.run_models import Checkpoint, CheckpointFile, CheckpointState
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.s3_storage import S3Access, S3Storage
from runctl.testing.clock import ManualClock

BUCKET, PREFIX = "mine", "runs/run-1"
COMPLETE, VERIFIED, BROKEN = CheckpointState.COMPLETE, CheckpointState.VERIFIED, CheckpointState.BROKEN


@pytest.fixture
def storage(session: AwsSession, provider: AwsProvider) -> S3Storage:
    session.s3.create_bucket(Bucket=BUCKET)
    return provider.object_storage


@pytest.fixture
def place(storage: S3Storage) -> StoredCheckpoints:
    return StoredCheckpoints(storage, BUCKET, PREFIX)


def publish(storage: S3Storage, attempt: int, number: int, name: str, *files: bytes) -> Manifest:
    stored = []
    for index, data in enumerate(files):
        sha256 = hashlib.sha256(data).hexdigest()
        storage.put(BUCKET, f"{PREFIX}/{data_key(sha256)}", data)
        stored.append(StoredFile(f"{name}/{index}.bin", len(data), sha256, 0o600))
    manifest = Manifest("run-1", attempt, number, name, 1000.0 * attempt + number, tuple(stored), number)
    storage.put(BUCKET, f"{PREFIX}/{manifest.key}", encode(manifest))
    return manifest


def keys(storage: S3Storage) -> set[str]:
    return {found.key.removeprefix(PREFIX + "/") for found in storage.objects(BUCKET, "")}


def test_an_object_is_written_once_and_its_own_second_writing_counts(storage: S3Storage) -> None:
    assert storage.put(BUCKET, "a", b"1", only_new=True)
    assert storage.put(BUCKET, "a", b"1", only_new=True)
    assert not storage.put(BUCKET, "a", b"2", only_new=True)
    assert storage.read(BUCKET, "a") == b"1"


def test_a_variable_for_s3_alone_leads_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    aws, stand_in = (
        S3Storage(cast(S3Access, SimpleNamespace(endpoint=each))) for each in (None, "http://here")
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://store.example")
    assert (aws.is_elsewhere, stand_in.is_elsewhere) == (True, False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    assert not aws.is_elsewhere


@pytest.mark.parametrize(
    ("answer", "crc32"),
    [
        ({"ChecksumCRC32": "g9zvtw=="}, "83dcefb7"),
        ({"ChecksumCRC32": "g9zvtw==", "ChecksumType": "FULL_OBJECT"}, "83dcefb7"),
        # Those are checksums of the parts' checksums.
        ({"ChecksumCRC32": "g9zvtw==-2", "ChecksumType": "COMPOSITE"}, None),
        ({"ChecksumCRC32": "g9zvtw==-2"}, None),
        ({"ChecksumCRC64NVME": "AAAAAAAAAAA="}, None),
        ({}, None),
    ],
)
def test_the_checksum_of_an_object_is_that_of_the_whole_or_not_known(
    answer: dict[str, str], crc32: str | None
) -> None:
    assert zlib.crc32(b"1") == 0x83DCEFB7
    asked: list[dict[str, str]] = []

    def head_object(**options: str) -> dict[str, str]:
        asked.append(options)
        return answer

    client = SimpleNamespace(head_object=head_object)
    storage = S3Storage(cast(S3Access, SimpleNamespace(endpoint=None, s3=client)))
    assert storage.crc32("mine", "1") == crc32
    assert asked == [{"Bucket": "mine", "Key": "1", "ChecksumMode": "ENABLED"}]


def test_what_is_not_there_is_not_found(storage: S3Storage, place: StoredCheckpoints) -> None:
    with pytest.raises(NotFound, match="s3://mine/x does not exist"):
        storage.read(BUCKET, "x")
    with pytest.raises(NotFound, match="s3://mine/x does not exist"):
        storage.crc32(BUCKET, "x")
    with pytest.raises(NotFound, match="bucket nobodys does not exist"):
        list(storage.objects("nobodys", ""))
    assert place.checkpoints() == ()


def test_the_newest_has_the_greatest_number_and_lacking_data_make_it_broken(
    storage: S3Storage, place: StoredCheckpoints
) -> None:
    publish(storage, 1, 9, "step-9", b"nine")
    lacking = publish(storage, 2, 1, "step-10", b"ten")
    storage.delete(BUCKET, f"{PREFIX}/{data_key(lacking.files[0].sha256)}")
    storage.put(BUCKET, f"{PREFIX}/checkpoints/0002-000002.json", b"{}")

    found = place.checkpoints()

    assert [(each.attempt, each.number, each.state) for each in found] == [
        *((2, 2, BROKEN), (2, 1, BROKEN), (1, 9, COMPLETE))
    ]
    assert "manifest cannot be read" in found[0].problem
    assert found[1].problem == "step-10/0.bin is not in the store"
    assert (found[2].name, found[2].step, found[2].size_bytes) == ("step-9", 9, 4)
    assert place.runs_below() == [f"s3://{BUCKET}/{PREFIX}/checkpoints", f"s3://{BUCKET}/{PREFIX}/data"]


def test_verifying_reads_every_byte(storage: S3Storage, place: StoredCheckpoints) -> None:
    publish(storage, 1, 1, "step-1", b"shared", b"one")
    changed = publish(storage, 1, 2, "step-2", b"shared", b"two", b"")
    storage.put(BUCKET, f"{PREFIX}/{data_key(changed.files[1].sha256)}", b"TWO")

    found = place.verify(place.checkpoints())

    assert [each.state for each in found] == [BROKEN, VERIFIED]
    assert found[0].problem.startswith("step-2/1.bin: data/")


def test_a_fetch_that_broke_off_goes_on_with_the_ranges_that_are_missing(
    storage: S3Storage, place: StoredCheckpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "RANGE_BYTES", 1000)
    monkeypatch.setattr(download, "SystemClock", ManualClock)
    large = os.urandom(4500)
    publish(storage, 1, 1, "step-1", large, b"small", b"")
    (checkpoint,) = place.checkpoints()
    fetch, asked = storage.fetch, []

    def broken_at_3000(bucket: str, key: str, write: Callable[[bytes], None], **span: Any) -> None:
        asked.append(span.get("start"))
        if span.get("start", 0) >= 3000:
            raise Unreachable("the network is gone")
        fetch(bucket, key, write, **span)

    monkeypatch.setattr(storage, "fetch", broken_at_3000)
    with pytest.raises(Unreachable):
        place.fetch(checkpoint, tmp_path)
    there = {path.name for path in (tmp_path / "step-1").iterdir()}
    record = (tmp_path / "step-1/.0.bin.runctl-ranges").read_text().split()
    monkeypatch.setattr(storage, "fetch", fetch)
    done = place.fetch(checkpoint, tmp_path)

    assert "0.bin" not in there
    # Each range again as often as it may fail, and no more.
    assert asked.count(3000) == download.TRIES
    assert set(record[1:]) <= {"0", "1", "2"}
    assert (tmp_path / "step-1/0.bin").read_bytes() == large
    assert (tmp_path / "step-1/0.bin").stat().st_mode & 0o777 == 0o600
    assert {path.name for path in (tmp_path / "step-1").iterdir()} == {"0.bin", "1.bin", "2.bin"}
    assert done.bytes >= 1500
    assert place.fetch(checkpoint, tmp_path).bytes == 0


def test_what_has_another_checksum_never_takes_its_place(
    storage: S3Storage, place: StoredCheckpoints, tmp_path: Path
) -> None:
    manifest = publish(storage, 1, 1, "step-1", b"right")
    (checkpoint,) = place.checkpoints()
    storage.put(BUCKET, f"{PREFIX}/{data_key(manifest.files[0].sha256)}", b"wrong")

    with pytest.raises(Conflict, match="does not match the SHA-256"):
        place.fetch(checkpoint, tmp_path)

    assert list((tmp_path / "step-1").iterdir()) == []


def test_what_is_put_there_is_the_newest_and_only_new_data_go(
    storage: S3Storage, place: StoredCheckpoints, tmp_path: Path
) -> None:
    publish(storage, 2, 7, "step-7", b"old weights")
    files = {"step-3/model.bin": b"old weights", "step-3/optimizer.bin": b"fresh"}
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    checkpoint = Checkpoint(
        name="step-3",
        step=3,
        state=VERIFIED,
        problem="",
        saved_at=datetime(2026, 5, 1, tzinfo=UTC),
        size_bytes=16,
        where="./best",
        files=tuple(
            CheckpointFile(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()
        ),
    )

    sent = place.accept(checkpoint, tmp_path)

    assert (sent.files, sent.bytes) == (1, 5)
    newest = place.checkpoints()[0]
    assert (newest.attempt, newest.number, newest.name, newest.step) == (2, 8, "step-3", 3)
    assert [each.state for each in place.verify([newest])] == [VERIFIED]
    manifest = decode(storage.read(BUCKET, f"{PREFIX}/checkpoints/0002-000008.json"))
    assert (manifest.run_id, {file.path for file in manifest.files}) == ("run-1", set(files))


def test_removing_takes_the_manifest_and_what_only_it_named(
    storage: S3Storage, place: StoredCheckpoints
) -> None:
    old = publish(storage, 1, 1, "step-1", b"shared", b"own")
    new = publish(storage, 1, 2, "step-2", b"shared", b"other")
    being_sent = data_key(hashlib.sha256(b"not named yet").hexdigest())
    storage.put(BUCKET, f"{PREFIX}/{being_sent}", b"not named yet")
    found = place.checkpoints()

    place.remove(found[1:])

    assert keys(storage) == {new.key, being_sent, *(data_key(file.sha256) for file in new.files)}
    assert old.files[0].sha256 == new.files[0].sha256


def test_an_attempt_without_an_end_uses_its_own_and_what_it_went_on_from(
    storage: S3Storage, place: StoredCheckpoints
) -> None:
    for attempt, number in ((1, 1), (1, 2), (2, 1), (2, 2)):
        publish(storage, attempt, number, f"step-{attempt}{number}", b"x")
    found = place.checkpoints()
    running = place.in_use(found)
    storage.put(BUCKET, f"{PREFIX}/attempts/0002/end.json", json.dumps({}).encode())

    assert set(running) == {identity(each) for each in found[:3]}
    assert list(place.in_use(found)) == []
    # A third attempt has begun, and has saved nothing yet.
    storage.put(BUCKET, f"{PREFIX}/attempts/0003/log/000000000000", b"log")
    assert set(place.in_use(found)) == {identity(found[0])}
    assert set(place.in_use([replace(found[0], state=BROKEN), *found[1:]])) == {identity(found[1])}
