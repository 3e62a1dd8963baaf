"""File systems made, mounted, flushed and unmounted by the system's own programs."""

from __future__ import annotations

import os
import subprocess

from runctl.agent.disks.decision import Format, Mount
from runctl.agent.disks.interface import AttachRequest
from runctl.agent.errors import AgentError

SAFE_OPTIONS = ("nosuid", "nodev")
"""A volume may have been written by anybody: its programs give nobody more rights, and it has no devices."""


def make_file_system(decision: Format, *, force: bool) -> None:
    if decision.fstype == "xfs":
        argv = ["mkfs.xfs", "-q", *(["-f"] if force else []), decision.device]
    else:
        # -F: whole disks are not asked about; it does not override that the device is in use.
        argv = ["mkfs.ext4", "-q", "-F", "-m", "1", decision.device]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise AgentError(
            "cannot-mount", f"the machine has no {argv[0]}", "install e2fsprogs or xfsprogs on it"
        ) from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise AgentError("cannot-mount", f"{argv[0]} of {decision.device} failed: {said}")


def mount(decision: Mount, request: AttachRequest) -> list[str]:
    """It is mounted. Returns the options that it took, beyond ``ro`` and ``rw``."""
    options = ["ro" if request.read_only else "rw", *SAFE_OPTIONS]
    said = ""
    # A volume made from a snapshot of one that is mounted has the same UUID, which XFS refuses by itself.
    quiet = _quiet(decision) if request.shared else []
    for twin in ([], ["nouuid"]) if decision.fstype == "xfs" else ([],):
        more = [*quiet, *twin]
        argv = [
            "mount",
            "-t",
            decision.fstype,
            "-o",
            ",".join([*options, *more]),
            decision.device,
            request.mount_point,
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return more
        said = said or done.stderr.strip()
    raise AgentError("cannot-mount", f"{decision.device} cannot be mounted at {request.mount_point}: {said}")


def _quiet(decision: Mount) -> list[str]:
    """Options that keep a read-only mount from writing a journal back. Raises `AgentError`."""
    option = {"ext4": "noload", "xfs": "norecovery"}.get(decision.fstype)
    if option is None:
        raise AgentError(
            "cannot-mount",
            f"{decision.device} holds {decision.fstype}, which several machines cannot have at once",
            "only ext4 and xfs can be shared, read-only",
        )
    return [option]


def twins(uuid: str) -> bool:
    """Whether several devices here have that UUID: a volume, and another that was made from its snapshot."""
    argv = ["blkid", "-c", os.devnull, "-t", "UUID=" + uuid, "-o", "device"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return len(done.stdout.split()) > 1


def sync(point: str) -> None:
    done = subprocess.run(["sync", "-f", point], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AgentError(
            "cannot-flush", f"what was written to {point} cannot be flushed: {done.stderr.strip()}"
        )


def unmount(point: str, *, lazily: bool) -> bool:
    """Returns whether it had to be done lazily."""
    done = subprocess.run(["umount", point], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return False
    if (
        lazily
        and subprocess.run(["umount", "--lazy", point], capture_output=True, check=False).returncode == 0
    ):
        return True
    raise AgentError("disk-busy", f"{point} cannot be unmounted: {done.stderr.strip()}")
