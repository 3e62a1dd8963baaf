"""A machine with volumes: a mount namespace, and loop devices with the names that EBS's have."""

from __future__ import annotations

import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from tests.agent.driver import Agent, Answer

MIB = 1 << 20
LINK = "nvme-Amazon_Elastic_Block_Store_"


@dataclass
class Machine:
    """A mount namespace of its own with a /dev/disk of its own, in which the agent works."""

    agent: Agent
    pid: int
    folder: Path
    devices: list[str] = field(default_factory=list)

    def run(self, *argv: str, check: bool = True) -> str:
        done = subprocess.run(
            ["nsenter", f"--mount=/proc/{self.pid}/ns/mnt", "--", *argv],
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def volume(self, size_mib: int = 320) -> tuple[str, str]:
        """A new volume, attached: its id and its device."""
        name = uuid.uuid4().hex[:17]
        file = self.folder / f"{name}.img"
        with file.open("wb") as image:
            image.truncate(size_mib * MIB)
        done = subprocess.run(
            ["losetup", "--find", "--show", "--partscan", str(file)],
            capture_output=True,
            text=True,
            check=True,
        )
        device = done.stdout.strip()
        self.devices.append(device)
        self.link(name, device)
        return f"vol-{name}", device

    def link(self, name: str, device: str) -> None:
        self.run("ln", "-s", device, f"/dev/disk/by-id/{LINK}vol{name}")

    def attach(self, volume: str, point: str = "", **more: object) -> Answer:
        point = point or str(self.folder / "mnt")
        request = {"volume_id": volume, "mount_point": point, "wait_seconds": 5, **more}
        return self.agent.call("attach", request)

    @property
    def fstab(self) -> str:
        path = self.folder / "fstab"
        return path.read_text() if path.exists() else ""
