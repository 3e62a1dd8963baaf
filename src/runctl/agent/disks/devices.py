"""What the kernel and lsblk say of disks: which are disks, whose a device is, what is mounted of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from runctl.agent.disks import probe
from runctl.agent.disks.interface import (
    VOLUME,
)
from runctl.agent.disks.mount_table import MountEntry

NO_DISKS = ("loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd")
SYSTEM_POINTS = ("/", "/boot", "/boot/efi", "/usr", "/var", "/etc")


def block_names() -> list[str]:
    return sorted(entry.name for entry in probe.SYS_BLOCK.iterdir()) if probe.SYS_BLOCK.is_dir() else []


def bytes_in(point: str | None, otherwise: int) -> int:
    """Of the file system that is mounted there."""
    if point is None:
        return otherwise
    space = os.statvfs(point)
    return space.f_blocks * space.f_frsize


def is_no_disk(device: str) -> bool:
    return Path(device).name.startswith(NO_DISKS)


def device_of(entry: MountEntry) -> str | None:
    """The device node of a mounted block device; ``None`` for other file systems."""
    if entry.source.startswith("/dev/") and probe.number_of(entry.source) == entry.device_number:
        return entry.source
    name = (Path("/sys/dev/block") / entry.device_number).resolve()
    if probe.there(name):
        return "/dev/" + name.name
    return None


def system_disks(entries: Sequence[MountEntry]) -> list[str]:
    found = []
    for entry in entries:
        device = device_of(entry)
        if device is not None and entry.mount_point in SYSTEM_POINTS:
            found.append("/dev/" + probe.disk_of(Path(device).name))
    return found


def mounts_of(device: str, entries: Sequence[MountEntry]) -> list[MountEntry]:
    """Where a disk, or one of its partitions, is mounted."""
    found = []
    for entry in entries:
        source = device_of(entry)
        if source is not None and (source == device or "/dev/" + probe.disk_of(Path(source).name) == device):
            found.append(entry)
    return found


def serials_by_lsblk() -> dict[str, str]:
    done = subprocess.run(["lsblk", "-dnro", "NAME,SERIAL"], capture_output=True, text=True, check=False)
    found = {}
    for line in done.stdout.splitlines():
        columns = line.split()
        match = VOLUME.fullmatch(columns[1]) if len(columns) == 2 else None
        if match is not None:
            found["/dev/" + columns[0]] = "vol-" + match.group(1)
    return found


def by_name(device: str | None, volumes: dict[str, str]) -> str | None:
    """A Xen disk: the provider says ``/dev/sdf``, the kernel ``/dev/xvdf``, and neither knows the volume."""
    if not device:
        return None
    name = Path(device).name
    for candidate in (name, "xvd" + name[2:] if name.startswith("sd") else name):
        path = "/dev/" + candidate
        if candidate.startswith(("xvd", "sd")) and probe.size_of(candidate) and path not in volumes:
            return path
    return None
