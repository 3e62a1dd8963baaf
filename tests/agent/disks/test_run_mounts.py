"""The mounts of a run on the host: at their targets for the run alone, and kept from being detached under it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.agent.disks.loop_machine import Machine
from tests.agent.driver import until

pytestmark = [pytest.mark.linux, pytest.mark.root, pytest.mark.namespaces]


def test_detach_sees_a_run_that_has_the_volume_elsewhere(machine: Machine) -> None:
    volume, _ = machine.volume()
    machine.attach(volume, format="if-blank")
    source = str(machine.folder / "mnt")
    machine.agent.sync({"train.py": "import os, time\nos.chdir('/')\nprint('up')\ntime.sleep(1000)\n"})
    mount = {"source": source, "target": f"/runctl-test-{os.getpid()}", "volume_id": volume}
    machine.agent.start("r", "train.py", mounts=[mount])
    until(lambda: "up" in machine.agent.output("r"), "the script")
    error = machine.agent.call("detach", {"volume_id": volume}).error
    assert error["code"] == "disk-busy"
    machine.agent.stop("r")
    assert machine.agent.call("detach", {"volume_id": volume}).ok["was_mounted"] is True


def test_a_run_on_the_host_sees_its_mounts_at_their_targets_and_leaves_nothing(machine: Machine) -> None:
    volume, _ = machine.volume()
    machine.attach(volume, format="if-blank")
    point = machine.folder / "mnt"
    machine.run("sh", "-c", f"echo in > {point}/data.txt")
    target = f"/runctl-test-{os.getpid()}"
    machine.agent.sync(
        {
            "train.py": (
                "import os\n"
                "data = os.environ['RUNCTL_DATA_DIR']\n"
                "print(data, open(data + '/data.txt').read().strip())\n"
                "open(os.environ['RUNCTL_CHECKPOINT_DIR'] + '/model', 'w').write('weights')\n"
                "print(os.environ['RUNCTL_CHECKPOINT_DIR'])\n"
            )
        }
    )
    machine.agent.start(
        "r", "train.py", mounts=[{"source": str(point), "target": target, "volume_id": volume}]
    )
    machine.agent.ended("r")
    assert machine.agent.output("r") == [f"{target} in", f"{target}/runs/r/checkpoints"]
    assert machine.run("cat", f"{point}/runs/r/checkpoints/model") == "weights"
    assert not Path(target).exists()
    assert machine.agent.status("r").checkpoint_dir == f"{point}/runs/r/checkpoints"


def test_sagemakers_folders_are_there_for_the_run_alone_and_kept_where_the_runs_own_are(
    machine: Machine,
) -> None:
    volume, _ = machine.volume()
    machine.attach(volume, format="if-blank")
    point = machine.folder / "mnt"
    machine.run("sh", "-c", f"echo in > {point}/data.txt")
    script = (
        "import json, os, sys\n"
        "channel = os.environ['SM_CHANNEL_TRAINING']\n"
        "print(channel, open(channel + '/data.txt').read().strip(), os.environ['SM_HP_LR'])\n"
        "print(sorted(json.load(open('/opt/ml/input/config/hyperparameters.json')))[0])\n"
        "for name in ('model', 'output/data', 'checkpoints'):\n"
        "    open(f'/opt/ml/{name}/x', 'w').write('x')\n"
        "sys.exit(3)\n"
    )
    machine.agent.sync({"train.py": script})
    mount = {"source": str(point), "target": "/opt/ml/input/data/training", "volume_id": volume}
    before = Path("/opt/ml").exists()

    machine.agent.start("r", "train.py", "--lr", "1e-4", contract="sagemaker", mounts=[mount])
    machine.agent.ended("r")

    assert machine.agent.output("r") == ["/opt/ml/input/data/training in 0.0001", "lr"]
    kept = machine.run("sh", "-c", f"cd {point}/runs/r && find . -type f | grep -v log | sort").split()
    assert kept == ["./checkpoints/x", "./output/data/x", "./output/failure", "./output/model/x"]
    assert Path("/opt/ml").exists() == before


def test_a_read_only_mount_of_a_run_cannot_be_written_and_the_volume_still_can(machine: Machine) -> None:
    volume, _ = machine.volume()
    machine.attach(volume, format="if-blank")
    point = machine.folder / "mnt"
    target = f"/runctl-test-{os.getpid()}"
    machine.agent.sync(
        {
            "train.py": (
                f"import sys\nfor path in ('{target}/x', '{point}/y'):\n"
                "    try:\n        open(path, 'w'); print('written')\n"
                "    except OSError as e: print(e.errno)\n"
            )
        }
    )
    mount = {"source": str(point), "target": target, "volume_id": volume, "read_only": True}
    machine.agent.start("r", "train.py", mounts=[mount])
    machine.agent.ended("r")
    assert machine.agent.output("r") == ["30", "written"]


def test_a_run_is_refused_when_another_volume_is_mounted_there(machine: Machine) -> None:
    volume, _ = machine.volume()
    other, _ = machine.volume()
    machine.attach(volume, format="if-blank")
    machine.agent.sync({"train.py": "print(1)\n"})
    mount = {"source": str(machine.folder / "mnt"), "target": "/data", "volume_id": other}
    error = machine.agent.refused("r", "train.py", mounts=[mount])
    assert error["code"] == "bad-mount"
    assert other in error["message"]
