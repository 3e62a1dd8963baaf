"""Filling a folder from S3, with the program as it runs on a machine."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from runctl.agent.cloud.s3 import Object
from runctl.agent.errors import AgentError
from runctl.agent.fill.planning import check_room
from runctl.agent.fill.record import Record
from runctl.agent.fill.worker import partial_name
from tests.agent.s3_bucket import MIB, Bucket, new_bucket, older


def record_of(bucket: Bucket) -> Path:
    return bucket.into / ".runctl" / "prewarm.jsonl"


def test_every_object_becomes_a_proven_file(bucket: Bucket, tmp_path: Path) -> None:
    contents = {f"{number % 3}/f {number}+ü.bin": os.urandom(100 + number) for number in range(40)}
    for name, data in contents.items():
        bucket.put(f"set/{name}", data)
    contents["zero"] = b""
    bucket.put("set/zero", b"")
    bucket.put("set/empty/", b"")
    bucket.put("set2/not-this-one")
    contents["large"] = os.urandom(20 * MIB)
    bucket.put_parts("set/large", contents["large"], 5 * MIB, tmp_path)
    contents["odd"] = os.urandom(18 * MIB)
    bucket.put_parts("set/odd", contents["odd"], 7 * MIB + 11, tmp_path)
    contents["small-in-parts"] = os.urandom(6 * MIB)
    bucket.put_parts("set/small-in-parts", contents["small-in-parts"], 5 * MIB, tmp_path)
    contents["one-piece"] = os.urandom(17 * MIB)
    bucket.put("set/one-piece", contents["one-piece"])
    before = older(bucket)
    contents["older"] = os.urandom(17 * MIB)
    before.put_parts("set/older", contents["older"], 7 * MIB + 11, tmp_path)
    contents["older-one-piece"] = os.urandom(17 * MIB)
    before.put("set/older-one-piece", contents["older-one-piece"])
    before.client.close()

    result = bucket.fill("set").ok()

    assert bucket.files() == contents
    assert (bucket.into / "empty").is_dir()
    assert (result["files"], result["bytes"]) == (len(contents), sum(map(len, contents.values())))
    assert result["fetched_files"] == len(contents)
    assert result["proofs"] == {"crc32": 45, "etag": 1, "md5": 1}
    assert (result["only_from_source"], result["other_path"]) == (True, None)
    assert list((bucket.into / ".runctl" / "partial").iterdir()) == []


def test_a_second_call_fetches_only_what_lacks_or_changed(bucket: Bucket) -> None:
    for number in range(5):
        bucket.put(f"set/{number}", b"old")
    bucket.fill("set").ok()
    bucket.put("set/1", b"new in S3")
    (bucket.into / "2").write_bytes(b"changed here")
    (bucket.into / "3").unlink()
    bucket.put("set/5", b"added")

    plan, result = (said := bucket.fill("set")).plan(), said.ok()

    assert (plan["fetch_files"], plan["same_files"]) == (4, 2)
    assert result["fetched_files"] == 4
    assert bucket.files() == {
        "0": b"old",
        "1": b"new in S3",
        "2": b"old",
        "3": b"old",
        "4": b"old",
        "5": b"added",
    }


def test_what_is_gone_from_s3_is_removed_only_when_asked_and_only_if_it_was_filled(bucket: Bucket) -> None:
    for name in ("keep", "deep/gone", "edited"):
        bucket.put(f"set/{name}", b"filled")
    bucket.fill("set").ok()
    (bucket.into / "mine").write_bytes(b"the user's")
    (bucket.into / "edited").write_bytes(b"the user's too")
    bucket.remove("set/deep/gone")
    bucket.remove("set/edited")

    kept = bucket.fill("set")
    assert kept.plan()["extra_files"] == 2
    assert "deep/gone" in bucket.files()
    result = bucket.fill("set", "--delete").ok()

    assert result["removed_files"] == 1
    assert bucket.files() == {"keep": b"filled", "mine": b"the user's", "edited": b"the user's too"}
    assert not (bucket.into / "deep").exists()


def test_what_another_source_has_put_there_stays(bucket: Bucket) -> None:
    bucket.put("set/ours")
    bucket.put("other/theirs")
    bucket.put("other/gone")
    bucket.fill("set").ok()
    bucket.fill("other").ok()
    bucket.remove("other/gone")

    result = bucket.fill("other", "--delete").ok()

    assert (result["removed_files"], set(bucket.files())) == (1, {"ours", "theirs"})
    assert (result["only_from_source"], result["other_path"]) == (False, "ours")


def test_a_volume_is_filled_anew_only_with_what_another_one_was_filled_with(bucket: Bucket) -> None:
    bucket.put("set/one", b"first")
    bucket.put("set/folder/", b"")
    listing = bucket.fill("set").ok()["listing"]
    assert bucket.fill("set", "--listing", listing).ok()["listing"] == listing
    bucket.put("set/one", b"other")

    said = bucket.fill("set", "--listing", listing)

    assert (said.code, said.last["code"]) == (1, "source-changed")
    assert bucket.files() == {"one": b"first"}


def test_one_object_can_be_the_source(bucket: Bucket) -> None:
    bucket.put("models/weights.bin", b"w")
    bucket.put("models/weights.bin.old", b"o")

    bucket.fill("models/weights.bin").ok()

    assert bucket.files() == {"weights.bin": b"w"}


@pytest.mark.parametrize(
    ("source", "code", "phrase"),
    [("nothing", "nothing-there", "nothing in s3://"), ("", "nothing-there", "nothing in s3://")],
)
def test_an_empty_place_is_an_error(bucket: Bucket, source: str, code: str, phrase: str) -> None:
    said = bucket.fill(source)

    assert said.code == 1
    assert said.last["code"] == code
    assert phrase in said.last["message"]


def test_a_bucket_that_is_not_there_is_an_error(bucket: Bucket) -> None:
    bucket.client.delete_bucket(Bucket=bucket.name)

    said = bucket.fill("set")

    assert (said.code, said.last["code"]) == (1, "no-bucket")
    assert bucket.name in said.last["message"]


def test_keys_that_can_be_no_files_are_named_and_nothing_is_fetched(bucket: Bucket) -> None:
    for key in ("set/ok", "set/a/../b", "set/x", "set/x/y", "set/" + "n" * 300, "set//double"):
        bucket.put(key)

    said = bucket.fill("set")

    assert (said.code, said.last["code"]) == (1, "bad-keys")
    for phrase in (
        "'set/a/../b': it has . or ..",
        "'set/x': it is a file, and the folder of 'x/y'",
        "255",
        "two slashes",
    ):
        assert phrase in said.last["message"]
    assert bucket.files() == {}


@pytest.fixture
def reachable_inside(tmp_path: Path) -> Iterator[Bucket]:
    """A bucket of moto's in a thread of this process: what it keeps can be damaged."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example"}
    into = tmp_path / "volume"
    into.mkdir()
    found = new_bucket({"AWS_ENDPOINT_URL": f"http://{host}:{port}", **keys}, into)
    yield found
    found.client.close()
    server.stop()


def test_a_damaged_object_fails_and_the_others_are_there(reachable_inside: Bucket) -> None:
    from moto.backends import get_backend

    bucket = reachable_inside
    bucket.put("set/good", b"good")
    bucket.put("set/bad", b"what was put")
    for account in get_backend("s3").values():
        for backend in account.values():
            if bucket.name in backend.buckets:
                backend.buckets[bucket.name].keys["set/bad"].value = b"what rotted"

    said = bucket.fill("set")

    assert (said.code, said.last["code"]) == (1, "corrupt")
    assert "set/bad" in said.last["message"]
    assert bucket.files() == {"good": b"good"}
    assert list((bucket.into / ".runctl" / "partial").iterdir()) == []


def test_a_disk_without_room_is_refused_with_the_figures() -> None:
    with pytest.raises(AgentError, match=r"2\.0 GiB free, and 3\.0 GiB are needed") as caught:
        check_room(2 << 30, 3 << 30, 100, 1, "/mnt/data")
    assert caught.value.code == "disk-full"
    with pytest.raises(AgentError, match="room for 10 more files"):
        check_room(2 << 30, 1 << 30, 10, 11, "/mnt/data")
    check_room(2 << 30, 1 << 30, 0, 11, "/mnt/data")


def test_two_at_once_in_one_folder_are_refused(bucket: Bucket) -> None:
    bucket.put("set/a")
    bucket.fill("set").ok()
    with (bucket.into / ".runctl" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        said = bucket.fill("set")

    assert (said.code, said.last["code"]) == (1, "busy")


def test_nothing_is_written_where_nothing_is_mounted(bucket: Bucket) -> None:
    bucket.put("set/a")

    said = bucket.fill("set", "--mount-point", str(bucket.into))

    assert (said.code, said.last["code"]) == (1, "not-mounted")
    assert bucket.files() == {}


@pytest.mark.parametrize(
    "link", [".runctl", ".runctl/partial", ".runctl/prewarm.jsonl", ".runctl/lock", "set"]
)
def test_a_link_on_the_volume_leads_nowhere(bucket: Bucket, tmp_path: Path, link: str) -> None:
    bucket.put("data/set/a")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "checkpoint.pt").write_text("precious")
    path = bucket.into / link
    path.parent.mkdir(parents=True, exist_ok=True)
    target = elsewhere / "checkpoint.pt" if path.name in {"prewarm.jsonl", "lock"} else elsewhere
    path.symlink_to(target)

    said = bucket.fill("data")

    assert (said.code, said.last["code"]) == (1, "in-the-way")
    assert [each.name for each in elsewhere.iterdir()] == ["checkpoint.pt"]
    assert (elsewhere / "checkpoint.pt").read_text() == "precious"


def test_a_forged_record_deletes_nothing_outside(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("data/a")
    bucket.fill("data").ok()
    victim = bucket.into.parent / "victim"
    victim.mkdir()
    (victim / "f").write_text("precious")
    (bucket.into / "out").symlink_to(victim)
    facts = (victim / "f").stat()
    with (bucket.into / ".runctl" / "prewarm.jsonl").open("a") as record:
        for name in ("../victim/f", str(victim / "f"), "out/f", "x/../../victim/f"):
            line = {"p": name, "s": facts.st_size, "e": "0", "m": facts.st_mtime_ns, "c": "md5"}
            record.write(json.dumps(line) + "\n")

    bucket.fill("data", "--delete").ok()

    assert (victim / "f").read_text() == "precious"
    assert (bucket.into / "a").exists()


def test_a_file_in_the_way_of_a_folder_is_an_error(bucket: Bucket) -> None:
    bucket.put("set/folder/file")
    (bucket.into / "folder").write_bytes(b"a file")

    said = bucket.fill("set")

    assert (said.code, said.last["code"]) == (1, "in-the-way")
    assert bucket.files() == {"folder": b"a file"}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_one_that_is_ended_in_the_middle_is_finished_by_the_same_command(
    bucket: Bucket, tmp_path: Path, how: signal.Signals
) -> None:
    large = os.urandom(40 * MIB)
    bucket.put_parts("set/large", large, 5 * MIB, tmp_path)
    for number in range(300):
        bucket.put(f"set/{number}", os.urandom(1000))
    with subprocess.Popen(
        bucket.argv("set"), env=bucket.environment(), stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "progress" and event["moved"]:
                break
        process.send_signal(how)
        rest = process.stdout.read()
        assert process.wait(30) == (143 if how is signal.SIGTERM else -9)
    if how is signal.SIGTERM:
        assert json.loads(rest.splitlines()[-1])["code"] == "stopped"
    _no_process_of(process.pid)

    result = bucket.fill("set").ok()

    assert (bucket.into / "large").read_bytes() == large
    assert len(bucket.files()) == 301
    assert result["proofs"] == {"crc32": 301}


def test_pieces_that_are_on_the_disk_are_not_fetched_again(bucket: Bucket, tmp_path: Path) -> None:
    data = os.urandom(20 * MIB)
    bucket.put_parts("set/large", data, 5 * MIB, tmp_path)
    etag = bucket.client.head_object(Bucket=bucket.name, Key="set/large")["ETag"].strip('"')
    record = Record(bucket.into, "s3://x")
    record.make_folders()
    unfinished = record.partial / partial_name(Object("set/large", len(data), etag))
    unfinished.write_bytes(data[: 10 * MIB] + bytes(10 * MIB))
    for begin in (0, 5 * MIB):
        piece = data[begin : begin + 5 * MIB]
        record.piece("large", etag, begin, f"crc32:{zlib.crc32(piece):08x}")
    record.flush()

    said = bucket.fill("set")

    said.ok()
    moved = max(event["moved"] for event in said.events if event["event"] == "progress")
    assert moved == 10 * MIB
    assert (bucket.into / "large").read_bytes() == data


def test_a_record_cut_short_by_a_crash_is_read_up_to_there(bucket: Bucket) -> None:
    for name in ("a", "b"):
        bucket.put(f"set/{name}")
    bucket.fill("set").ok()
    text = record_of(bucket).read_bytes()
    record_of(bucket).write_bytes(text[:-10])

    said = bucket.fill("set")

    assert said.plan()["same_files"] == 1
    said.ok()
    assert [json.loads(line).get("p") for line in record_of(bucket).read_text().splitlines()] == [
        None,
        "a",
        "b",
    ]


def _no_process_of(session: int) -> None:
    """The workers end with the program that made them."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        left = subprocess.run(["ps", "-o", "pid=", "-s", str(session)], capture_output=True, check=False)
        if not left.stdout.split():
            return
        time.sleep(0.05)
    raise AssertionError(f"left: {left.stdout!r}")
