"""What the tests of disks share."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.disks.loop_machine import Machine
from tests.agent.driver import Agent


@pytest.fixture
def machine(agent: Agent, tmp_path: Path) -> Iterator[Machine]:
    """The namespace ends with the test, and all that is mounted in it."""
    private_dev = tmp_path / "dev"
    private_dev.mkdir()
    script = tmp_path / "machine.sh"
    # A tmpfs over /dev would hide the loop devices: /dev is shown again, with a folder of ours in it.
    script.write_text(
        "set -e\n"
        f"mount --rbind /dev {private_dev}\n"
        f"mount -t tmpfs -o mode=755 none /dev\n"
        f"for d in {private_dev}/*; do n=$(basename $d); "
        "if [ -d $d ] && [ ! -L $d ]; then mkdir /dev/$n; mount --rbind $d /dev/$n; "
        "elif [ -L $d ]; then cp -P $d /dev/$n; "
        # Another test's partition may go while this is copied.
        "else cp -a $d /dev/$n || [ ! -e $d ]; fi; done\n"
        "mkdir -p /dev/disk/by-id\n"
        "echo ready\nexec sleep infinity\n"
    )
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", str(script)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    agent.prefix = ("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "--")
    agent.env = {"RUNCTL_FSTAB": str(tmp_path / "fstab"), "RUNCTL_PROBE_SPACING": "0.05"}
    item = Machine(agent, holder.pid, tmp_path)
    yield item
    agent.end_everything()
    agent.started.clear()
    holder.kill()
    holder.wait()
    holder.stdout.close()
    for device in item.devices:
        subprocess.run(["losetup", "--detach", device], check=True)
