"""Where a sandbox keeps its things, and the names by which they can be found again after a crash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from runctl.core.files import data_folder


@dataclass(frozen=True)
class Layout:
    """The folder of one sandbox. Everything outside of it carries `tag` in its name."""

    home: Path

    @property
    def tag(self) -> str:
        """Six hexadecimal characters that tell this sandbox from others on the computer."""
        return hashlib.sha256(str(self.home.resolve()).encode()).hexdigest()[:6]

    @property
    def info_file(self) -> Path:
        """The record of the server that runs here."""
        return self.home / "sandbox.json"

    @property
    def lock_file(self) -> Path:
        """Held by whoever starts or stops the sandbox: one at a time."""
        return self.home / "start.lock"

    @property
    def log_file(self) -> Path:
        """The server's log."""
        return self.home / "server.log"

    @property
    def machines(self) -> Path:
        """A folder for each instance."""
        return self.home / "machines"

    @property
    def images(self) -> Path:
        """A folder for each image that was made of an instance."""
        return self.home / "images"

    @property
    def volumes(self) -> Path:
        """A sparse file (or, with folder machines, a folder) for each volume and snapshot."""
        return self.home / "volumes"

    @property
    def registry(self) -> Path:
        """The registry's storage."""
        return self.home / "registry"

    @property
    def ecr(self) -> Path:
        """What was pushed to ECR, by region; gone with the sandbox's account."""
        return self.home / "ecr"

    @property
    def bridge(self) -> str:
        """The network device that connects the machines; the kernel's limit is 15 characters."""
        return f"rctl{self.tag}"

    def namespace(self, number: int) -> str:
        """The network namespace of the machine with this last byte of address."""
        return f"rctl-{self.tag}-{number}"

    def veth(self, number: int) -> str:
        """The host's end of that machine's virtual cable."""
        return f"rv{self.tag}-{number}"


def default_home() -> Path:
    """Below the user's data folder; follows ``XDG_DATA_HOME``."""
    return data_folder() / "sandbox"
