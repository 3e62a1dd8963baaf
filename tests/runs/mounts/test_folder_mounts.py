"""Mounts of runs on this computer."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.containers.mounts import parse_mount
from runctl.core.errors import NotFound, UsageError
from runctl.runs.mounts.folder_mounts import folder_mounts


def test_a_folder_is_shown_with_the_room_on_its_disk(tmp_path: Path) -> None:
    found = folder_mounts([parse_mount(f"{tmp_path}:/deep/down:ro"), parse_mount(f"{tmp_path}:/data")])

    assert [(spec.target, spec.read_only, spec.volume_id) for spec in found.specs] == [
        ("/data", False, None),
        ("/deep/down", True, None),
    ]
    assert found.data_target == "/deep/down"
    assert all(0 < (mount.free_bytes or 0) <= (mount.size_bytes or 0) for mount in found.mounts)
    assert found.saves is None


def test_what_is_no_folder_here_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as volume:
        folder_mounts([parse_mount("datasets:/data")])
    with pytest.raises(NotFound) as missing:
        folder_mounts([parse_mount(f"{tmp_path}/nosuch:/data")])

    assert volume.value.code == "no-volumes"
    assert "nosuch" in missing.value.message


def test_a_folder_that_may_not_be_written_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)

    assert folder_mounts([parse_mount(f"{tmp_path}:/data")]).warnings
    assert folder_mounts([parse_mount(f"{tmp_path}:/data:ro")]).warnings == ()
