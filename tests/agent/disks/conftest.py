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
    # Only the links to volumes are this machine's own. Devices are the computer's: those of loops and their partitions
    # come and go. A computer without udev has no such folder.
    Path("/dev/disk").mkdir(exist_ok=True)
    script = "mount -t tmpfs none /dev/disk && mkdir /dev/disk/by-id && echo ready && exec sleep infinity"
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
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
