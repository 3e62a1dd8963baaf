"""Who uses a file system: open files, working folders, mapped files, and mounts in other mount namespaces."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.agent.disks.mount_table import MountEntry, parse
from runctl.agent.machine import processes

SHOWN = 8


@dataclass(frozen=True)
class User:
    """A process that uses a file system."""

    pid: int
    name: str
    how: str
    run_id: str | None = None

    @property
    def description(self) -> str:
        """For a person: ``python3 (123, run r1): open file /mnt/data/x``."""
        run = ", run " + self.run_id if self.run_id else ""
        return f"{self.name} ({self.pid}{run}): {self.how}"


def users_of(device_numbers: set[str], own: Sequence[MountEntry]) -> list[User]:
    """Processes that keep these file systems from going away, this one apart."""
    wanted = {_number(text) for text in device_numbers}
    here = _namespace(os.getpid())
    seen: dict[str, bool] = {}
    found: list[User] = []
    for pid, process in sorted(processes.table().items()):
        if pid == os.getpid():
            continue
        how = _by_files(pid, wanted)
        namespace = _namespace(pid)
        if how is None and namespace and namespace != here and not seen.get(namespace):
            seen[namespace] = True
            how = _by_mount(pid, device_numbers, own)
        if how is not None:
            found.append(User(pid, process.name, how, _run_of(pid)))
    return found


def described(found: Sequence[User]) -> str:
    """The first few of them."""
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(user.description for user in found[:SHOWN]) + more


def _number(text: str) -> int:
    major, minor = text.split(":")
    return os.makedev(int(major), int(minor))


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")  # noqa: PTH115 (no path comes of it)
    except OSError:
        return ""


def _by_files(pid: int, wanted: set[int]) -> str | None:
    folder = Path("/proc") / str(pid)
    for what, links in (
        ("working folder", [folder / "cwd"]),
        ("root folder", [folder / "root"]),
        ("program", [folder / "exe"]),
        ("open file", _listed(folder / "fd")),
    ):
        for link in links:
            try:
                if link.stat().st_dev in wanted:
                    return f"{what} {os.readlink(link)}"  # noqa: PTH115 (as the kernel says it)
            except OSError:
                continue
    try:
        for line in (folder / "maps").read_text(errors="replace").splitlines():
            fields = line.split(None, 5)
            if len(fields) == 6:
                major, minor = fields[3].split(":")
                if os.makedev(int(major, 16), int(minor, 16)) in wanted:
                    return "mapped file " + fields[5]
    except OSError:
        pass
    return None


def _listed(folder: Path) -> Iterable[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _by_mount(pid: int, device_numbers: set[str], own: Sequence[MountEntry]) -> str | None:
    """A mount that unmounting ours does not take along: a container's, a run's, but not a mere image of ours."""
    try:
        entries = parse((Path("/proc") / str(pid) / "mountinfo").read_text(errors="replace"))
    except OSError:
        return None
    groups = {
        (entry.mount_point, field.partition(":")[2])
        for entry in own
        if entry.device_number in device_numbers
        for field in entry.optional
        if field.startswith("shared:")
    }
    for entry in entries:
        if entry.device_number not in device_numbers:
            continue
        followers = {(entry.mount_point, field.partition(":")[2]) for field in entry.optional if ":" in field}
        if not followers & groups:
            return f"mounted at {entry.mount_point} in a namespace of its own"
    return None


def _run_of(pid: int) -> str | None:
    try:
        variables = (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    for variable in variables:
        if variable.startswith(b"RUNCTL_RUN_ID="):
            return variable.partition(b"=")[2].decode(errors="replace")
    return None
