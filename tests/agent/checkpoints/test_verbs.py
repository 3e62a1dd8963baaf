"""What the agent says of a folder's checkpoints, puts in place and removes."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from runctl.agent.checkpoints import choosing
from runctl.agent.checkpoints.verbs import checkpoints, place, remove
from runctl.agent.errors import AgentError
from tests.agent.checkpoints.samples import archive, put, safetensors


def listed(folder: Path, **request: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = checkpoints({"path": str(folder), **request})["checkpoints"]
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_that_were_saved_together_are_one_checkpoint(tmp_path: Path) -> None:
    for step, age in ((100, 50.0), (200, 20.0)):
        put(tmp_path, f"model-{step}.pt", archive(), age)
        put(tmp_path, f"optimizer-{step}.pt", archive(), age - 1)
    put(tmp_path, "metrics.csv", b"a,b\n", 1.0)

    found = listed(tmp_path)

    assert [each["name"] for each in found] == ["optimizer-200.pt", "optimizer-100.pt"]
    assert [row[0] for row in found[0]["files"]] == ["metrics.csv", "model-200.pt", "optimizer-200.pt"]


def test_one_whose_companion_was_cut_short_is_broken(tmp_path: Path) -> None:
    put(tmp_path, "model-1.pt", archive()[:-30], 5.0)
    put(tmp_path, "optimizer-1.pt", archive(), 4.0)

    (found,) = listed(tmp_path)

    assert found["why_not"].startswith("model-1.pt: its zip directory is missing")


def test_reading_finds_a_bit_that_flipped_in_an_archive(tmp_path: Path) -> None:
    data = bytearray(archive())
    data[100] ^= 1
    put(tmp_path, "step-1.pt", bytes(data))

    (shallow,), (read,) = listed(tmp_path), listed(tmp_path, read=True)

    assert shallow["why_not"] == ""
    assert read["why_not"] == "step-1.pt: archive/data.pkl does not match the CRC-32 in its zip directory"


def test_what_is_a_checkpoint_itself_is_named_from_the_folder_above(tmp_path: Path) -> None:
    put(tmp_path, "step-7/model.safetensors", safetensors())

    answer = checkpoints({"path": str(tmp_path / "step-7"), "read": True})

    assert answer["path"] == str(tmp_path)
    (found,) = answer["checkpoints"]
    assert (found["name"], found["step"]) == ("step-7", 7)
    assert [(row[0], len(row[4])) for row in found["files"]] == [("step-7/model.safetensors", 64)]


def test_nothing_there_is_said_and_is_no_error(tmp_path: Path) -> None:
    assert checkpoints({"path": str(tmp_path / "x")})["kind"] == "missing"


def test_what_has_arrived_becomes_the_newest_and_replaces_its_name(tmp_path: Path) -> None:
    put(tmp_path, "step-9/model.safetensors", safetensors(), -50.0)
    put(tmp_path, "step-3/model.safetensors", safetensors())
    put(tmp_path, "step-3/old.safetensors", safetensors())
    put(tmp_path, ".arriving/step-3/model.safetensors", safetensors())

    place({"path": str(tmp_path), "arriving": ".arriving", "name": "step-3"})

    assert [each["name"] for each in listed(tmp_path)] == ["step-3", "step-9"]
    assert names(tmp_path) == ["step-3", "step-9"]
    assert names(tmp_path / "step-3") == ["model.safetensors"]


@pytest.mark.parametrize("seconds_ago", [50.0, 1.9])
def test_what_has_arrived_counts_at_once_though_its_format_has_no_end(
    tmp_path: Path, seconds_ago: float
) -> None:
    saved = time.time() - seconds_ago
    os.utime(put(tmp_path, "step-5.bin", b"weights"), (saved, saved))
    put(tmp_path, ".arriving/step-3.bin", b"weights")

    place({"path": str(tmp_path), "arriving": ".arriving", "name": "step-3.bin"})

    assert choosing.newest(tmp_path, time.time()).chosen == tmp_path / "step-3.bin"


def test_a_removed_file_takes_its_companions_and_a_folder_all_that_is_in_it(tmp_path: Path) -> None:
    for name in ("model-1.pt", "optimizer-1.pt", "model-2.pt", "step-3/a.pt"):
        put(tmp_path, name, archive())
    gone = [{"name": "model-1.pt", "files": ["optimizer-1.pt"]}, {"name": "step-3", "files": []}]

    remove({"path": str(tmp_path), "checkpoints": gone})

    assert names(tmp_path) == ["model-2.pt"]


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "", None])
def test_nothing_outside_of_the_folder_is_removed(tmp_path: Path, name: object) -> None:
    with pytest.raises(AgentError, match="not a path below"):
        remove({"path": str(tmp_path), "checkpoints": [{"name": name}]})


def test_only_what_was_compared_with_checksums_is_said_to_be_verified(tmp_path: Path) -> None:
    put(tmp_path, "step-1.safetensors", safetensors(), 5.0)
    put(tmp_path, "step-2.pt", archive(), 4.0)
    put(tmp_path, "step-3/model.safetensors", safetensors(), 3.0)
    checksum = hashlib.sha256(safetensors()).hexdigest()
    put(tmp_path, "step-3/SHA256SUMS", f"{checksum}  model.safetensors\n".encode(), 3.0)
    put(tmp_path, "step-3/config.json", b"{}", 3.0)
    put(tmp_path, "step-4/model.safetensors", safetensors(), 2.0)
    put(tmp_path, "step-4/optimizer.pt", archive(), 2.0)

    read = {each["name"]: each["compared"] for each in listed(tmp_path, read=True)}

    assert read == {"step-1.safetensors": False, "step-2.pt": True, "step-3": True, "step-4": False}
    assert not any(each["compared"] for each in listed(tmp_path))
