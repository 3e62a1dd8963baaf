"""Where a run saves, and that nobody else's folder is touched for it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from runctl.agent.disks import places
from runctl.agent.disks.places import Places
from runctl.agent.errors import AgentError
from runctl.agent.spec import MountSpec

VICTIM = 0o700


def on_volume(volume: Path) -> Places:
    run = volume / "runs" / "r"
    mount = MountSpec(str(volume), "/data", volume_id="vol-1")
    return Places(run / "checkpoints", run / "output", "", "", "", mount)


@pytest.mark.linux
@pytest.mark.root
def test_what_another_user_has_saved_becomes_the_login_users(tmp_path: Path) -> None:
    where = on_volume(tmp_path)
    places.make(where)
    places.open_to_others(where)
    assert stat.S_IMODE(where.checkpoints.stat().st_mode) == 0o777
    (where.checkpoints / "x").touch()
    for path in (where.checkpoints / "x", where.checkpoints):
        os.chown(path, 4321, 4321)
    where.checkpoints.chmod(0o700)
    places.give_to_user(where)
    assert stat.S_IMODE(where.checkpoints.stat().st_mode) == 0o755
    assert {path.stat().st_uid for path in (where.checkpoints, where.checkpoints / "x")} == {os.getuid()}


@pytest.mark.linux
@pytest.mark.root
@pytest.mark.parametrize("replaced", ["runs/r/checkpoints", "runs/r", "runs"])
def test_a_folder_that_a_container_replaced_by_a_link_leads_nowhere(tmp_path: Path, replaced: str) -> None:
    volume, victim = tmp_path / "volume", tmp_path / "victim"
    where = on_volume(volume)
    places.make(where)
    inside = victim / where.checkpoints.relative_to(volume / replaced)
    inside.mkdir(parents=True)
    for path in (inside, *[one for one in inside.parents if tmp_path in one.parents]):
        path.chmod(VICTIM)
        os.chown(path, 4321, 4321)
    (volume / replaced).rename(volume / "away")
    (volume / replaced).symlink_to(victim)
    places.give_to_user(where)
    with pytest.raises(AgentError, match=r"no folder of the run's"):
        places.open_to_others(where)
    with pytest.raises(AgentError, match="is a link"):
        places.make(where)
    assert (stat.S_IMODE(inside.stat().st_mode), inside.stat().st_uid) == (VICTIM, 4321)
