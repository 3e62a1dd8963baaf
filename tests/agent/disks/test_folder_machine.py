"""A machine that is a folder: the same verbs, without root and without mounts."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path

import pytest

from runctl.agent.encoding import from_json
from runctl.agent.end_reason import EndReason
from runctl.agent.spec import EndRecord, SavedFolder
from tests.agent.driver import Agent, until

VOLUME = "vol-0123456789abcdef0"


@pytest.fixture
def machine(agent: Agent, tmp_path: Path) -> Agent:
    root = tmp_path / "root"
    agent.env = {"RUNCTL_MACHINE_ROOT": str(root), "HOME": str(root)}
    links = root / "dev/disk/by-id"
    links.mkdir(parents=True)
    (tmp_path / "volume").mkdir()
    (links / "nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0").symlink_to(tmp_path / "volume")
    return agent


def attach(machine: Agent, **more: object) -> dict[str, object]:
    request = {"volume_id": VOLUME, "mount_point": "/mnt/data", "wait_seconds": 0.1, **more}
    return dict(machine.call("attach", request).ok)


def test_a_volume_is_mounted_by_a_link_below_the_folder(machine: Agent, tmp_path: Path) -> None:
    assert attach(machine, format="if-blank")["formatted"] is True
    assert (tmp_path / "root/mnt/data").resolve() == tmp_path / "volume"
    (mount,) = machine.call("mounts").ok["mounts"]
    assert (mount["mount_point"], mount["volume_id"]) == ("/mnt/data", VOLUME)
    assert attach(machine)["already_mounted"] is True


def test_a_blank_volume_is_not_formatted_unasked(machine: Agent) -> None:
    request = {"volume_id": VOLUME, "mount_point": "/mnt/data"}
    assert machine.call("attach", request).error["code"] == "blank"


def test_detach_removes_the_link_and_keeps_the_data(machine: Agent, tmp_path: Path) -> None:
    attach(machine, format="if-blank")
    (tmp_path / "root/mnt/data/file").write_text("x")
    assert machine.call("detach", {"volume_id": VOLUME}).ok["was_mounted"] is True
    assert not (tmp_path / "root/mnt/data").is_symlink()
    assert attach(machine, format="if-blank")["formatted"] is False
    assert (tmp_path / "root/mnt/data/file").read_text() == "x"


def test_a_run_saves_on_the_volume(machine: Agent, tmp_path: Path) -> None:
    attach(machine, format="if-blank")
    machine.sync(
        {
            "train.py": (
                "import os\n"
                "open(os.environ['RUNCTL_CHECKPOINT_DIR'] + '/m', 'w').write('w')\n"
                "print(os.environ['RUNCTL_DATA_DIR'])\n"
            )
        }
    )
    mount = {"source": "/mnt/data", "target": "/data", "volume_id": VOLUME}
    machine.start("r", "train.py", mounts=[mount])
    assert machine.ended("r").reason is EndReason.COMPLETED, machine.log("r")
    assert (tmp_path / "volume/runs/r/checkpoints/m").read_text() == "w"
    assert machine.output("r") == [f"{tmp_path}/root/data"]
    assert not (tmp_path / "root/data").is_symlink()


def test_the_log_is_on_the_volume_while_it_grows_and_with_its_end_record(
    machine: Agent, tmp_path: Path
) -> None:
    attach(machine, format="if-blank")
    (tmp_path / "root/mnt/data/deep").mkdir()
    script = "import time\nprint('first', flush=True)\ntime.sleep(60)\n"
    machine.sync({"train.py": script})
    mount = {"source": "/mnt/data/deep", "target": "/data", "volume_id": VOLUME}
    machine.start("r", "train.py", mounts=[mount])
    kept = tmp_path / "volume/deep/runs/r/logs/1.log"
    until(lambda: kept.exists() and b"first\n" in kept.read_bytes(), "the copy of a log that grows")
    saved = machine.stop("r").saved
    end = machine.ended("r")
    assert saved == SavedFolder(VOLUME, "deep/runs/r")
    assert kept.read_bytes() == machine.folder("r").joinpath("log").read_bytes()
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == end.log_sha256
    assert end.log_kept is True
    assert from_json(EndRecord, json.loads(kept.with_name("1.end.json").read_text())) == end


def test_a_log_without_its_supervisor_is_completed_on_the_volume_all_the_same(
    machine: Agent, tmp_path: Path
) -> None:
    attach(machine, format="if-blank")
    machine.sync({"train.py": "import time\nprint('first', flush=True)\ntime.sleep(1)\nprint('last')\n"})
    mount = {"source": "/mnt/data", "target": "/data", "volume_id": VOLUME}
    machine.start("r", "train.py", mounts=[mount])
    kept = tmp_path / "volume/runs/r/logs/1.log"
    until(lambda: kept.exists() and b"first\n" in kept.read_bytes(), "the copy of a log that grows")
    os.kill(machine.supervisor("r"), signal.SIGKILL)
    end = machine.ended("r")
    assert (end.reason, end.log_kept) == (EndReason.LOST, True)
    assert b"last\n" in kept.read_bytes()
    assert from_json(EndRecord, json.loads(kept.with_name("1.end.json").read_text())) == end
