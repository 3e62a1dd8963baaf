"""A machine's own place among this computer's control groups, as its root.

Runs in the machine's first process: standard library only. `runctl.sandbox.machines.docker_engine.remove_cgroups` takes
the groups away when the machine has ended.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

PARENT = "runctl-sandbox"
CLONE_NEWCGROUP = 0x02000000
HIERARCHIES = Path("/sys/fs/cgroup")


def enter(machine: str, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
    """This process, and what it starts, is in groups of that machine, and sees nothing above them. Raises `OSError`."""
    for hierarchy in hierarchies(mountinfo.read_text()):
        group = hierarchy / PARENT / machine
        for folder in (group.parent, group):
            folder.mkdir(exist_ok=True)
            _give_processors(folder)
        # Whoever writes.
        (group / "cgroup.procs").write_text("0")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWCGROUP) != 0:
        raise OSError(ctypes.get_errno(), "cannot have a cgroup namespace")


def hierarchies(mountinfo: str) -> list[Path]:
    """Where this computer has its hierarchies mounted, from a process's ``/proc/PID/mountinfo``. Pure."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4])
        if after.split()[:1] in (["cgroup"], ["cgroup2"]) and HIERARCHIES in (point, *point.parents):
            found.append(point)
    return found


def _give_processors(group: Path) -> None:
    """A new group of the hierarchy of processors has none, and takes no process before it has."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        setting = group / name
        if setting.exists() and not setting.read_text().strip() and (group / "notify_on_release").exists():
            setting.write_text((group.parent / name).read_text())
