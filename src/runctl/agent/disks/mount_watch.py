"""Whether a run still has its volumes: looked at before its script starts, while it runs and when it has ended."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.agent.disks import disks, mountns
from runctl.agent.disks.mount_checks import check_mounts
from runctl.agent.disks.mount_table import own_mounts
from runctl.agent.errors import AgentError
from runctl.agent.machine.root import folder_root, login_user, on_machine
from runctl.agent.spec import MountSpec, RunSpec

INTERVAL_SECONDS = 2.0
MISSES = 2
"""A volume counts as lost when it is missing so often in a row: udev renews its links now and then."""
READ_ONLY_SECONDS = 2.0
"""How long a file system that refuses writes may take until it can be seen to be read-only."""
SYS_DEV = Path("/sys/dev/block")


@dataclass(frozen=True)
class MountState:
    """A mount as it is now."""

    file_system: str = ""
    """Tells file systems apart: the device's number, or the folder that stands for a volume; empty if it is gone."""
    device: bool = False
    """The kernel has that device."""
    known: bool = False
    """The machine has a device with the volume's serial."""
    read_only: bool = False


@dataclass(frozen=True)
class Trouble:
    """What has become of a volume."""

    mount: MountSpec
    lost: bool
    """Else it has become read-only."""
    message: str


def judge(mount: MountSpec, first: MountState, now: MountState) -> Trouble | None:
    """What is wrong with a mount of a run that goes on; ``None`` if nothing is.

    A file system that is out of sight on the machine's own path is not lost: a container keeps its mount. It is
    when the device is not there any more.
    """
    if not now.known and first.known:
        message = f"{name(mount)} was taken away from the machine; what was not yet written to it is lost"
        return Trouble(mount, True, message)
    if not first.device:
        return None  # it was no block device to begin with: nothing can be said
    if now.file_system == first.file_system and not now.device:
        return Trouble(mount, True, f"{name(mount)} has failed: its device is gone")
    if not mount.read_only and not first.read_only and now.read_only and now.file_system == first.file_system:
        message = f"{name(mount)} has become read-only, as the kernel does when a file system has errors (see dmesg)"
        return Trouble(mount, False, message)
    return None


def judge_start(mount: MountSpec, first: MountState, now: MountState) -> str | None:
    """Why a script cannot be started with a mount that was fine before; ``None`` if it can."""
    if now.file_system != first.file_system:
        return f"{name(mount)} is not what is mounted there any more"
    found = judge(mount, first, now)
    return found.message if found is not None else None


def name(mount: MountSpec) -> str:
    """``volume vol-1 at /mnt/data (the script's /data)``."""
    seen = "" if mount.source == mount.target else f" (the script's {mount.target})"
    what = f"volume {mount.volume_id} at" if mount.volume_id else "the folder"
    return f"{what} {mount.source}{seen}"


def disk_name(folder: str, mounts: Sequence[MountSpec]) -> str:
    """The volume that a folder of the machine lies on, in words; else the folder."""
    for mount in sorted(mounts, key=lambda mount: -len(mount.source)):
        source = str(on_machine(mount.source))
        if mount.volume_id and (folder == source or folder.startswith(source + "/")):
            return name(mount)
    return folder


class MountWatch:
    """Observes the volumes of a run. Made when nothing of the run has started."""

    def __init__(self, spec: RunSpec) -> None:
        bound = {mount.target for mount in mountns.to_bind(spec)} if folder_root() is None else set()
        self._spec = spec
        self._mounts = [mount for mount in spec.mounts if mount.volume_id]
        # In a namespace of its own a mount's target may lie over another mount's source.
        self._paths: dict[str, str] = {
            mount.target: mount.target if mount.target in bound else mount.source for mount in self._mounts
        }
        self._first = self._states()
        self._next = 0.0
        self._missed: dict[str, int] = {}
        self._told: list[str] = []

    def warnings(self) -> list[str]:
        """What the script will not be able to do, in words."""
        user = login_user().name
        return [
            f"warning: {user} may not write to {name(mount)}; it can be given to {user} with chown"
            for mount in self._mounts
            if not mount.read_only and not os.access(on_machine(self._paths[mount.target]), os.W_OK)
        ]

    def check_start(self) -> None:
        """The script can start: every volume is there as it was. Raises `AgentError` (``cannot-mount``)."""
        if self._spec.container is not None:
            check_mounts(self._spec)
        now = self._states()
        for mount in self._mounts:
            why = judge_start(mount, self._first[mount.target], now[mount.target])
            if why is not None:
                raise AgentError("cannot-mount", why, "attach it again, and start another run")

    def news(self) -> list[Trouble]:
        """Troubles that have not been told yet; looks now and then only, and tells of a loss when it is sure."""
        moment = time.monotonic()
        if moment < self._next or not self._mounts:
            return []
        self._next = moment + INTERVAL_SECONDS
        found = []
        for trouble in self._troubles():
            key = f"{trouble.mount.target} {trouble.lost}"
            self._missed[key] = self._missed.get(key, 0) + 1
            if key not in self._told and (not trouble.lost or self._missed[key] >= MISSES):
                self._told.append(key)
                found.append(trouble)
        return found

    def at_the_end(self, *, says_read_only: bool) -> list[Trouble]:
        """What is wrong when the script has ended; ``says_read_only``: its last words are that it could not write.

        A file system refuses writes a moment before it can be seen to be read-only.
        """
        found = self._troubles()
        if any(trouble.lost for trouble in found):
            time.sleep(0.5)
            found = self._troubles()
        deadline = time.monotonic() + READ_ONLY_SECONDS
        while says_read_only and self._mounts and not found and time.monotonic() < deadline:
            time.sleep(0.1)
            found = self._troubles()
        return found

    def _troubles(self) -> list[Trouble]:
        now = self._states()
        judged = [judge(mount, self._first[mount.target], now[mount.target]) for mount in self._mounts]
        return [found for found in judged if found is not None]

    def _states(self) -> dict[str, MountState]:
        attached = disks().attached() if self._mounts else frozenset()
        return {mount.target: self._state(mount, mount.volume_id in attached) for mount in self._mounts}

    def _state(self, mount: MountSpec, known: bool) -> MountState:
        path = on_machine(self._paths[mount.target])
        try:
            if folder_root() is not None:
                file_system = str(path.resolve(strict=True))
                return MountState(file_system, True, known, False)
            facts, space = path.stat(), os.statvfs(path)
        except OSError:
            return MountState(known=known)
        number = f"{os.major(facts.st_dev)}:{os.minor(facts.st_dev)}"
        return MountState(number, (SYS_DEV / number).exists(), known, _read_only(number, space))


def _read_only(number: str, space: os.statvfs_result) -> bool:
    """Since Linux 6.15 an ext4 with errors is no read-only mount any more: it says so in the mount table only."""
    if space.f_flag & os.ST_RDONLY:
        return True
    try:
        mounts = own_mounts()
    except OSError:
        return False
    return any(
        mount.device_number == number and "emergency_ro" in mount.file_system_options for mount in mounts
    )
