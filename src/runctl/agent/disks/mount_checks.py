"""What is wrong with a run's mounts: every source is what the request says, and every target is free for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from runctl.agent.disks import disks
from runctl.agent.errors import AgentError
from runctl.agent.machine.root import on_machine
from runctl.agent.spec import MachineMount, MountSpec, RunSpec

NOT_TARGETS = frozenset(
    (
        *("/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin"),
        *("/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/var"),  # noqa: S108 (refused, not used)
    )
)


def is_target(path: str) -> bool:
    plain = PurePosixPath(path)
    return path.startswith("/") and ".." not in plain.parts and "\0" not in path and str(plain) == path


def check_mounts(spec: RunSpec) -> None:
    """Every mount has a source that is what the request says, and a target of its own. Raises `AgentError`."""
    seen: list[str] = []
    for mount in spec.mounts:
        if not is_target(mount.target):
            raise _bad(mount, "its target must be an absolute path without . or ..")
        if mount.target in NOT_TARGETS and mount.target != mount.source:
            raise _bad(mount, f"{mount.target} is the system's own")
        if mount.target in seen:
            raise _bad(mount, "another mount has the same target")
        if not is_target(mount.source):
            raise _bad(mount, "its source must be an absolute path without . or ..")
        if spec.container is not None:
            workdir = spec.container.workdir
            if mount.target == workdir or workdir.startswith(mount.target + "/"):
                raise _bad(mount, f"it would hide the project at {workdir}")
            if mount.target == "/runctl" or mount.target.startswith("/runctl/"):
                raise _bad(mount, "/runctl is kept for checkpoints and output")
        seen.append(mount.target)
    if spec.mounts:
        mounted = disks().mounts() if any(m.volume_id for m in spec.mounts) else []
        for mount in spec.mounts:
            _source(mount, mounted)


def _source(mount: MountSpec, mounted: Sequence[MachineMount]) -> None:
    path = on_machine(mount.source)
    if mount.volume_id is not None:
        holder = holding(mount.source, mounted)
        if holder is None or holder.volume_id != mount.volume_id:
            there = [m for m in mounted if m.volume_id == mount.volume_id]
            elsewhere = (
                f"; it is mounted at {there[0].mount_point}" if there else "; it is not mounted at all"
            )
            what = f"volume {mount.volume_id} is not what is mounted there{elsewhere}"
            raise _bad(
                mount,
                what,
                f"attach the volume with --mount-point {mount.source}",
            )
        if holder.read_only and not mount.read_only:
            raise _bad(mount, "the volume is mounted read-only", "add :ro to the mount")
    if not Path(path).is_dir():
        raise _bad(mount, f"there is no folder {mount.source} on the machine")


def holding(path: str, mounted: Sequence[MachineMount]) -> MachineMount | None:
    """The mount that a path lies on, among these."""
    found: MachineMount | None = None
    for mount in mounted:
        point = mount.mount_point.rstrip("/")
        if (path == point or path.startswith(point + "/")) and (
            found is None or len(point) > len(found.mount_point)
        ):
            found = mount
    return found


def _bad(mount: MountSpec, why: str, hint: str = "") -> AgentError:
    return AgentError("bad-mount", f"the mount {mount.source}:{mount.target} cannot be made: {why}", hint)
