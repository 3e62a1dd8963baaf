"""Whether a run still has its volumes: looked at before its script starts, while it runs and when it has ended."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runctl.agent.disks import disks, mountns
from runctl.agent.errors import AgentError
from runctl.agent.machine.root import folder_root, login_user, on_machine
from runctl.agent.spec import MountSpec, RunSpec

INTERVAL_SECONDS = 2.0
LOOKS = 2
"""So many looks in a row must miss a volume: udev makes its links anew now and then."""
SYS_DEV = Path("/sys/dev/block")


@dataclass(frozen=True)
class Look:
    """One mount as it is now."""

    place: str = ""
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
    words: str


def judge(mount: MountSpec, first: Look, now: Look) -> Trouble | None:
    """What is wrong with a mount of a run that goes on; ``None`` if nothing is.

    A file system that is out of sight on the machine's own path is not lost: a container keeps its mount. It is
    when the device is not there any more.
    """
    if not now.known and first.known:
        words = "{} was taken away from the machine; what was not yet written to it is lost"
        return Trouble(mount, True, words.format(name(mount)))
    if not first.device:
        return None  # it was no block device to begin with: nothing can be said
    if now.place == first.place and not now.device:
        return Trouble(mount, True, f"{name(mount)} has failed: its device is gone")
    if not mount.read_only and not first.read_only and now.read_only and now.place == first.place:
        words = "{} has become read-only, as the kernel does when a file system has errors (see dmesg)"
        return Trouble(mount, False, words.format(name(mount)))
    return None


def judge_start(mount: MountSpec, first: Look, now: Look) -> str | None:
    """Why a script cannot be started with a mount that was fine before; ``None`` if it can."""
    if now.place != first.place:
        return f"{name(mount)} is not what is mounted there any more"
    found = judge(mount, first, now)
    return found.words if found is not None else None


def name(mount: MountSpec) -> str:
    """``volume vol-1 at /mnt/data (the script's /data)``."""
    seen = "" if mount.source == mount.target else f" (the script's {mount.target})"
    what = f"volume {mount.volume_id} at" if mount.volume_id else "the folder"
    return f"{what} {mount.source}{seen}"


def disk_name(folder: str, mounts: Sequence[MountSpec]) -> str:
    """The volume that a folder of the machine lies on, in words; else the folder."""
    for one in sorted(mounts, key=lambda mount: -len(mount.source)):
        source = str(on_machine(one.source))
        if one.volume_id and (folder == source or folder.startswith(source + "/")):
            return name(one)
    return folder


class MountWatch:
    """Looks after the volumes of one run. Made when nothing of the run has started."""

    def __init__(self, spec: RunSpec) -> None:
        bound = {one.target for one in mountns.to_bind(spec)} if folder_root() is None else set()
        self._spec = spec
        self._mounts = [one for one in spec.mounts if one.volume_id]
        # In a namespace of its own a mount's target may lie over another one's source.
        self._paths: dict[str, str] = {
            one.target: one.target if one.target in bound else one.source for one in self._mounts
        }
        self._first = self._looks()
        self._next = 0.0
        self._missed: dict[str, int] = {}
        self._told: list[str] = []

    def warnings(self) -> list[str]:
        """What the script will not be able to do, in words."""
        user = login_user().name
        return [
            f"warning: {user} may not write to {name(one)}; it can be given to {user} with chown"
            for one in self._mounts
            if not one.read_only and not os.access(on_machine(self._paths[one.target]), os.W_OK)
        ]

    def check_start(self) -> None:
        """The script can start: every volume is there as it was. Raises `AgentError` (``cannot-mount``)."""
        if self._spec.container is not None:
            from runctl.agent import checks

            checks.mounts(self._spec)
        now = self._looks()
        for one in self._mounts:
            why = judge_start(one, self._first[one.target], now[one.target])
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
            if key not in self._told and (not trouble.lost or self._missed[key] >= LOOKS):
                self._told.append(key)
                found.append(trouble)
        return found

    def at_the_end(self) -> list[Trouble]:
        """What is wrong when the script has ended."""
        found = self._troubles()
        if any(one.lost for one in found):
            time.sleep(0.5)
            found = self._troubles()
        return found

    def _troubles(self) -> list[Trouble]:
        now = self._looks()
        judged = [judge(one, self._first[one.target], now[one.target]) for one in self._mounts]
        return [found for found in judged if found is not None]

    def _looks(self) -> dict[str, Look]:
        attached = disks().attached() if self._mounts else frozenset()
        return {one.target: self._look(one, one.volume_id in attached) for one in self._mounts}

    def _look(self, mount: MountSpec, known: bool) -> Look:
        path = on_machine(self._paths[mount.target])
        try:
            if folder_root() is not None:
                place = str(path.resolve(strict=True))
                return Look(place, True, known, False)
            facts, space = path.stat(), os.statvfs(path)
        except OSError:
            return Look(known=known)
        number = f"{os.major(facts.st_dev)}:{os.minor(facts.st_dev)}"
        return Look(number, (SYS_DEV / number).exists(), known, bool(space.f_flag & os.ST_RDONLY))
