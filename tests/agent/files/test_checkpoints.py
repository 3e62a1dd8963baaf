"""The newest complete checkpoint: what was cut off, is being written or is damaged never counts."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runctl.agent.disks.run_folders import RunFolders
from runctl.agent.files import resume
from runctl.agent.files.checkpoints import arguments, newest, parse_template
from runctl.agent.spec import ContainerSpec, MountSpec, RunSpec

NOW = 1_000_000.0


def archive() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        file.writestr("archive/data.pkl", b"x" * 2000)
    return sink.getvalue()


def safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * 16


def hdf5(size: int = 200) -> bytes:
    head = b"\x89HDF\r\n\x1a\n" + bytes([2, 8, 8, 0]) + struct.pack("<QQQ", 0, 2**64 - 1, size)
    return head.ljust(size, b"\0")


def put(folder: Path, name: str, data: bytes, age: float = 100.0) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (NOW - age, NOW - age))
    return path


WHOLE: list[tuple[str, Callable[[], bytes]]] = [
    ("new.pt", archive),
    ("new.ckpt", archive),
    ("new.npz", archive),
    ("new.safetensors", safetensors),
    ("new.h5", hdf5),
    ("new.json", lambda: b'{"step": 3}'),
]


@pytest.mark.parametrize(("name", "data"), WHOLE)
def test_a_whole_file_counts_and_one_that_was_cut_off_does_not(
    name: str, data: Callable[[], bytes], tmp_path: Path
) -> None:
    old = put(tmp_path, "old.pt", archive(), age=1000)
    new = put(tmp_path, name, data())
    assert newest(tmp_path, NOW).chosen == new
    for length in (1, 9, len(data()) // 2, len(data()) - 1):
        put(tmp_path, name, data()[:length])
        choice = newest(tmp_path, NOW)
        assert choice.chosen == old, length
        assert [one.path for one in choice.passed_over] == [new]


@pytest.mark.parametrize(
    "name",
    [".new.pt.x7f", "new.pt.tmp", "new.pt.part", "tmp_new.pt", "new.pt~", "new.partial", "new.pt.tmp-123"],
)
def test_what_will_be_renamed_does_not_count(name: str, tmp_path: Path) -> None:
    old = put(tmp_path, "old.pt", archive(), age=1000)
    put(tmp_path, name, archive())
    assert newest(tmp_path, NOW).chosen == old


def test_a_file_of_an_unknown_kind_counts_when_it_is_quiet(tmp_path: Path) -> None:
    old = put(tmp_path, "old.bin", b"x", age=1000)
    new = put(tmp_path, "new.bin", b"x", age=0.5)
    assert newest(tmp_path, NOW).chosen == old
    assert newest(tmp_path, NOW + 5).chosen == new
    put(tmp_path, "empty.bin", b"")
    assert newest(tmp_path, NOW + 5).chosen == new


def test_of_one_moment_the_highest_number_is_the_newest(tmp_path: Path) -> None:
    for name in ("step-9.pt", "step-100.pt", "step-20.pt"):
        put(tmp_path, name, archive())
    assert newest(tmp_path, NOW).chosen == tmp_path / "step-100.pt"


def test_a_link_is_not_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    new = put(tmp_path, "run/step-1.pt", archive())
    put(tmp_path / "outside", "other.pt", archive(), age=1)
    (tmp_path / "run/latest.pt").symlink_to("step-1.pt")
    (tmp_path / "run/out").symlink_to(tmp_path / "outside")
    assert newest(tmp_path / "run", NOW).chosen == new


def test_a_folder_counts_when_all_of_it_is_there(tmp_path: Path) -> None:
    old = put(tmp_path, "checkpoint-10/model.safetensors", safetensors(), age=1000).parent
    new = tmp_path / "checkpoint-20"
    put(new, "model-1.safetensors", safetensors())
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    put(new, "model.safetensors.index.json", json.dumps(index).encode())
    assert newest(tmp_path, NOW).chosen == old
    put(new, "model-2.safetensors", safetensors()[:-1])
    assert newest(tmp_path, NOW).chosen == old
    put(new, "model-2.safetensors", safetensors())
    assert newest(tmp_path, NOW).chosen == new
    put(new, "optimizer.pt.tmp", b"x")
    assert newest(tmp_path, NOW).chosen == old


@pytest.mark.parametrize("form", ["json", "sums"])
def test_a_manifest_is_believed(form: str, tmp_path: Path) -> None:
    old = put(tmp_path, "old.pt", archive(), age=1000)
    folder, data = tmp_path / "step-2", b"weights"
    put(folder, "weights.bin", data)
    checksum = hashlib.sha256(data).hexdigest()
    if form == "json":
        put(folder, "manifest.json", json.dumps({"files": {"weights.bin": {"sha256": checksum}}}).encode())
    else:
        put(folder, "SHA256SUMS", f"{checksum}  weights.bin\n".encode())
    assert newest(tmp_path, NOW).chosen == folder
    put(folder, "weights.bin", b"changed")
    assert newest(tmp_path, NOW).chosen == old


def test_checkpoints_deep_in_a_loggers_folders_are_found(tmp_path: Path) -> None:
    put(tmp_path, "lightning_logs/version_0/metrics.csv", b"x", age=2000)
    new = put(tmp_path, "lightning_logs/version_0/checkpoints/epoch=1-step=9.ckpt", archive())
    assert newest(tmp_path, NOW).chosen == new


def test_nothing_is_nothing(tmp_path: Path) -> None:
    assert newest(tmp_path, NOW).chosen is None
    assert newest(tmp_path / "missing", NOW).chosen is None


def test_an_argument_is_given_only_with_a_checkpoint() -> None:
    template = parse_template("--resume '{checkpoint}' --from={checkpoint}")
    assert arguments(template, "/a b/c.pt") == ("--resume", "/a b/c.pt", "--from=/a b/c.pt")
    assert arguments(template, "") == ()
    for text in ("--resume", "'unclosed {checkpoint}"):
        with pytest.raises(ValueError):
            parse_template(text)


@pytest.mark.parametrize(
    ("container", "mounts", "saved", "expected"),
    [
        (False, [], None, "{old}/a.pt"),
        (False, [], "b.pt", "/seen/b.pt"),
        (True, [], None, "/runctl/resume/a.pt"),
        (True, [("{tmp}", "/data")], None, "/data/old/a.pt"),
        (True, [("{tmp}", "/data"), ("{old}", "/ck")], None, "/ck/a.pt"),
        (True, [], "b.pt", "/seen/b.pt"),
    ],
)
def test_the_script_is_shown_the_checkpoint_where_it_sees_it(
    container: bool, mounts: list[tuple[str, str]], saved: str | None, expected: str, tmp_path: Path
) -> None:
    old, own = tmp_path / "old", tmp_path / "own"
    own.mkdir()
    put(old, "a.pt", archive())
    if saved:
        put(own, saved, archive(), age=5000)
    names = {"tmp": tmp_path, "old": old}
    spec = RunSpec(
        "r",
        "train.py",
        args=("--lr", "1"),
        resume_from=str(old),
        resume_args=("--resume", "{checkpoint}"),
        container=ContainerSpec(image="x") if container else None,
        mounts=tuple(MountSpec(source.format(**names), target) for source, target in mounts),
    )
    where = RunFolders(own, own, "/seen", "/seen", "/data", None)
    found = resume.settled(spec, where, lambda _: None)
    path = expected.format(**names)
    assert (found.resume_from, found.args) == (path, ("--lr", "1", "--resume", path))
    added = found.mounts[len(spec.mounts) :]
    assert [one.target for one in added] == ([path] if path.startswith("/runctl") else [])
