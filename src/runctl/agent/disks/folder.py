"""Volumes of a machine that is a folder: directories, mounted by a link."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

from runctl.agent.disks.freezing import Frozen
from runctl.agent.disks.growth import Grown
from runctl.agent.disks.interface import Attached, AttachRequest, Detached, Disks, Unmounted, from_link
from runctl.agent.errors import AgentError
from runctl.agent.machine import durable
from runctl.agent.spec import MachineMount

FSTYPE = "folder"
FORMATTED = "lost+found"
"""A volume without it is blank, as a disk without a file system is."""
POLL_SECONDS = 0.1


class FolderDisks(Disks):
    """The same rules, with a symbolic link for a mount."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._table = root / "etc" / "runctl-mounts.json"

    def volumes(self) -> dict[str, Path]:
        """Volume id → its directory."""
        folder = self._root / "dev" / "disk" / "by-id"
        found: dict[str, Path] = {}
        if folder.is_dir():
            for link in folder.iterdir():
                volume = from_link(link.name)
                if volume is not None and link.is_dir():
                    found[volume] = link.resolve()
        return found

    def attached(self) -> frozenset[str]:
        """See `Disks.attached`."""
        return frozenset(self.volumes())

    def mounts(self) -> list[MachineMount]:
        """See `Disks.mounts`."""
        volumes, found = self.volumes(), []
        for point, facts in sorted(self._read().items()):
            folder = volumes.get(facts["volume_id"])
            if folder is None or not self._is_mounted(point, folder):
                continue
            space = shutil.disk_usage(folder)
            found.append(
                MachineMount(
                    mount_point=point,
                    device=str(folder),
                    volume_id=facts["volume_id"],
                    fstype=FSTYPE,
                    size_bytes=space.total,
                    free_bytes=space.free,
                    read_only=facts["read_only"] == "true",
                    persistent=True,
                )
            )
        return found

    def unmounted(self) -> list[Unmounted]:
        """See `Disks.unmounted`."""
        mounted = {mount.volume_id for mount in self.mounts()}
        return [
            Unmounted(str(folder), volume, shutil.disk_usage(folder).total, FSTYPE)
            for volume, folder in sorted(self.volumes().items())
            if volume not in mounted
        ]

    def attach(self, request: AttachRequest) -> Attached:
        """See `Disks.attach`."""
        folder = self._wait_for(request)
        point, path = request.mount_point, self._root / request.mount_point.lstrip("/")
        there = next((mount for mount in self.mounts() if mount.volume_id == request.volume_id), None)
        if there is not None and there.mount_point != point:
            raise AgentError(
                "mounted-elsewhere",
                f"volume {request.volume_id} is mounted at {there.mount_point} already",
                "use that path, or detach the volume first",
            )
        formatted = False
        if there is None:
            if path.is_symlink() and not path.exists():
                path.unlink()  # the volume that it led to is not attached any more
            self._check_point(point, path)
            formatted = self._format(request, folder)
            if path.is_dir():
                path.rmdir()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(folder, target_is_directory=True)
            self._write(
                point, {"volume_id": request.volume_id, "read_only": "true" if request.read_only else "false"}
            )
        space = shutil.disk_usage(folder)
        return Attached(
            volume_id=request.volume_id,
            mount_point=point,
            device=str(folder),
            fstype=FSTYPE,
            uuid=None,
            formatted=formatted,
            already_mounted=there is not None,
            writable=not request.read_only and os.access(folder, os.W_OK),
            size_bytes=space.total,
            free_bytes=space.free,
        )

    def detach(self, volume_id: str, *, force: bool = False) -> Detached:
        """See `Disks.detach`; a folder is never busy."""
        del force
        points = [point for point, facts in self._read().items() if facts["volume_id"] == volume_id]
        for point in points:
            path = self._root / point.lstrip("/")
            if path.is_symlink():
                path.unlink()
            self._write(point, None)
        return Detached(volume_id, bool(points), tuple(points))

    def grow(self, volume_id: str, *, size_bytes: int = 0, wait_seconds: float = 60.0) -> Grown:
        """See `Disks.grow`; a folder is as large as what it is on."""
        del size_bytes
        folder = self._wait_for(AttachRequest(volume_id, "/", wait_seconds=wait_seconds))
        total = shutil.disk_usage(folder).total
        point = next((mount.mount_point for mount in self.mounts() if mount.volume_id == volume_id), None)
        return Grown(volume_id, str(folder), FSTYPE, point, False, total, total)

    def freeze(self, volume_id: str, *, hold_seconds: float, holder: str) -> Frozen:
        """See `Disks.freeze`; a folder can only be flushed."""
        del hold_seconds, holder
        points = tuple(mount.mount_point for mount in self.mounts() if mount.volume_id == volume_id)
        os.sync()
        why = "a folder cannot be frozen" if points else ""
        return Frozen(volume_id, "flushed" if points else "unmounted", points, why)

    def thaw(self, volume_id: str, *, holder: str) -> bool:
        """See `Disks.thaw`."""
        del volume_id, holder
        return False

    def _format(self, request: AttachRequest, folder: Path) -> bool:
        entries = list(folder.iterdir())
        if (folder / FORMATTED).is_dir() and request.format != "force":
            return False
        if request.format == "never" and not entries:
            raise AgentError(
                "blank",
                f"volume {request.volume_id} cannot be mounted: it has no file system",
                "--format makes one, if the volume is blank",
            )
        if entries and request.format != "force":
            return False
        for entry in entries:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        (folder / FORMATTED).mkdir()
        return True

    def _wait_for(self, request: AttachRequest) -> Path:
        deadline = time.monotonic() + request.wait_seconds
        while True:
            folder = self.volumes().get(request.volume_id)
            if folder is not None:
                return folder
            if time.monotonic() >= deadline:
                raise AgentError(
                    "no-device",
                    f"volume {request.volume_id} did not appear on the machine within {request.wait_seconds:g} s",
                    "is it attached to this instance?",
                )
            time.sleep(POLL_SECONDS)

    @staticmethod
    def _check_point(point: str, path: Path) -> None:
        if (
            path.is_symlink()
            or (path.exists() and not path.is_dir())
            or (path.is_dir() and any(path.iterdir()))
        ):
            raise AgentError("mount-point-taken", f"{point} exists already", "choose another mount point")

    def _is_mounted(self, point: str, folder: Path) -> bool:
        path = self._root / point.lstrip("/")
        return path.is_symlink() and path.resolve() == folder

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            table: dict[str, dict[str, str]] = json.loads(self._table.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return table

    def _write(self, point: str, facts: dict[str, str] | None) -> None:
        table = self._read()
        if facts is None:
            table.pop(point, None)
        else:
            table[point] = facts
        self._table.parent.mkdir(parents=True, exist_ok=True)
        durable.write_json(self._table, table)
