"""Where a run saves, and that nobody else's folder is touched for it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from runctl.agent.disks import run_folders
from runctl.agent.disks.run_folders import RunFolders
from runctl.agent.errors import AgentError
from runctl.agent.spec import MountSpec

VICTIM = 0o700


def on_volume(volume: Path) -> RunFolders:
    run = volume / "runs" / "r"
    mount = MountSpec(str(volume), "/data", volume_id="vol-1")
    return RunFolders(run / "checkpoints", run / "output", "", "", "", mount)


@pytest.mark.linux
@pytest.mark.root
def test_what_another_user_has_saved_becomes_the_login_users(tmp_path: Path) -> None:
    folders = on_volume(tmp_path)
    run_folders.make(folders)
    run_folders.open_to_others(folders)
    assert stat.S_IMODE(folders.checkpoints.stat().st_mode) == 0o777
    (folders.checkpoints / "x").touch()
    for path in (folders.checkpoints / "x", folders.checkpoints):
        os.chown(path, 4321, 4321)
    folders.checkpoints.chmod(0o700)
    run_folders.give_to_user(folders)
    assert stat.S_IMODE(folders.checkpoints.stat().st_mode) == 0o755
    assert {path.stat().st_uid for path in (folders.checkpoints, folders.checkpoints / "x")} == {os.getuid()}


@pytest.mark.linux
@pytest.mark.root
@pytest.mark.parametrize("replaced", ["runs/r/checkpoints", "runs/r", "runs"])
def test_a_folder_that_a_container_replaced_by_a_link_leads_nowhere(tmp_path: Path, replaced: str) -> None:
    volume, victim = tmp_path / "volume", tmp_path / "victim"
    folders = on_volume(volume)
    run_folders.make(folders)
    inside = victim / folders.checkpoints.relative_to(volume / replaced)
    inside.mkdir(parents=True)
    for path in (inside, *[parent for parent in inside.parents if tmp_path in parent.parents]):
        path.chmod(VICTIM)
        os.chown(path, 4321, 4321)
    (volume / replaced).rename(volume / "away")
    (volume / replaced).symlink_to(victim)
    run_folders.give_to_user(folders)
    with pytest.raises(AgentError, match=r"not a folder of the run"):
        run_folders.open_to_others(folders)
    with pytest.raises(AgentError, match="is a link"):
        run_folders.make(folders)
    assert (stat.S_IMODE(inside.stat().st_mode), inside.stat().st_uid) == (VICTIM, 4321)
