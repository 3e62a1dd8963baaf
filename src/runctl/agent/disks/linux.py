"""Real disks: EBS volumes found by their serial, mounted by their UUID."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from runctl.agent.disks import freezing, growth, mount_table, mounting, probe, provided, users
from runctl.agent.disks.decision import Decision, Examine, Facts, Format, Mount, Refuse, decide_format
from runctl.agent.disks.devices import (
    SYSTEM_POINTS,
    block_names,
    by_name,
    bytes_in,
    device_of,
    is_no_disk,
    mounts_of,
    serials_by_lsblk,
    system_disks,
)
from runctl.agent.disks.freezing import Frozen
from runctl.agent.disks.growth import Grown
from runctl.agent.disks.interface import (
    BY_ID,
    VOLUME,
    Attached,
    AttachRequest,
    Detached,
    Disks,
    Examining,
    Unmounted,
    from_link,
)
from runctl.agent.disks.mount_table import MountEntry
from runctl.agent.errors import AgentError
from runctl.agent.machine import root as machine
from runctl.agent.spec import MachineMount

BY_ID_FOLDER = Path("/dev/disk/by-id")
POLL_SECONDS = 0.25
SPACING_VARIABLE = "RUNCTL_PROBE_SPACING"
FSTAB_VARIABLE = "RUNCTL_FSTAB"


class LinuxDisks(Disks):
    """The disks that the kernel shows. `attach` and `detach` need root."""

    def __init__(self) -> None:
        self._fstab = Path(os.environ.get(FSTAB_VARIABLE, "/etc/fstab"))
        self._spacing = float(os.environ.get(SPACING_VARIABLE, "1.0"))

    def volumes(self) -> dict[str, str]:
        """Device → volume id, for every EBS volume: by udev's links, by sysfs, by lsblk."""
        found: dict[str, str] = {}
        if BY_ID_FOLDER.is_dir():
            for link in BY_ID_FOLDER.iterdir():
                volume = from_link(link.name)
                if volume is not None and probe.there(link):
                    found[str(link.resolve())] = volume
        for name in block_names():
            device = "/dev/" + name
            match = VOLUME.fullmatch(probe.attribute(name, "device/serial"))
            if match is not None and not probe.there(probe.SYS_BLOCK / name / "partition"):
                found.setdefault(device, "vol-" + match.group(1))
        return found or serials_by_lsblk()

    def attached(self) -> frozenset[str]:
        """See `Disks.attached`."""
        points = {entry.mount_point for entry in mount_table.own_mounts()}
        there = (volume for point, volume in provided.known().items() if point in points)
        return frozenset([*self.volumes().values(), *there])

    def mounts(self) -> list[MachineMount]:
        """See `Disks.mounts`."""
        volumes, entries = self.volumes(), mount_table.own_mounts()
        lines = self._fstab_text().splitlines()
        system = system_disks(entries)
        given = provided.known()
        found: dict[str, MachineMount] = {}
        for entry in entries:
            if entry.mount_point in given:
                found[entry.mount_point] = provided.mounted(entry, given[entry.mount_point])
                continue
            device = device_of(entry)
            if device is None or entry.root != "/":
                continue
            disk = "/dev/" + probe.disk_of(Path(device).name)
            volume = volumes.get(device) or volumes.get(disk)
            if (disk in system or entry.mount_point in SYSTEM_POINTS) or (
                volume is None and is_no_disk(disk)
            ):
                continue
            listed = [line for line in lines if mount_table.point_of(line) == entry.mount_point]
            space = os.statvfs(entry.mount_point)
            found[entry.mount_point] = MachineMount(
                mount_point=entry.mount_point,
                device=device,
                volume_id=volume or next((v for v in map(mount_table.volume_of, listed) if v), None),
                fstype=entry.fstype,
                size_bytes=space.f_blocks * space.f_frsize,
                free_bytes=space.f_bavail * space.f_frsize,
                # The kernel's own change, after errors, is on the file system, not on the mount.
                read_only=bool(space.f_flag & os.ST_RDONLY),
                persistent=any(mount_table.uuid_of(line) for line in listed),
            )
        return [found[point] for point in sorted(found)]

    def unmounted(self) -> list[Unmounted]:
        """See `Disks.unmounted`."""
        volumes, entries = self.volumes(), mount_table.own_mounts()
        busy = {"/dev/" + probe.disk_of(Path(d).name) for d in map(device_of, entries) if d is not None}
        found = []
        for name in block_names():
            device = "/dev/" + name
            is_part = probe.there(probe.SYS_BLOCK / name / "partition")
            if is_part or device in busy or not probe.there(Path(device)):
                continue
            volume = volumes.get(device)
            size = probe.size_of(name)
            if size and (volume is not None or not is_no_disk(device)):
                found.append(Unmounted(device, volume, size, probe.attribute(name, "device/model")))
        return found

    def attach(self, request: AttachRequest) -> Attached | Examining:
        """See `Disks.attach`."""
        device = self._wait_for(request)
        point = request.mount_point
        entries = mount_table.own_mounts()
        mounted = mounts_of(device, entries)
        if mounted:
            if point not in [entry.mount_point for entry in mounted]:
                raise AgentError(
                    "mounted-elsewhere",
                    f"volume {request.volume_id} is mounted at {mounted[-1].mount_point} already",
                    "use that path, or detach the volume first",
                )
            entry = next(e for e in mounted if e.mount_point == point)
            source = device_of(entry) or device
            found = probe.signature(source)
            uuid = found.uuid if found is not None else ""
            self._remember(uuid, entry.fstype, request)
            return self._attached(request, source, entry.fstype, uuid, formatted=False, already=True)
        self._check_point(point, entries)
        return self._mount_new(request, device, system_disks(entries))

    def _mount_new(self, request: AttachRequest, device: str, system: Sequence[str]) -> Attached | Examining:
        facts = probe.inspect(device, is_system_disk=device in system, spacing_seconds=self._spacing)
        decision = _decided(facts, request)
        if isinstance(decision, Examine):
            zero_bytes = probe.read_zeros(
                device, facts.size_bytes, request.examined_bytes, seconds=request.examine_seconds
            )
            if zero_bytes is not None and zero_bytes < facts.size_bytes:
                return Examining(request.volume_id, zero_bytes, facts.size_bytes)
            facts = replace(facts, zeroed=zero_bytes is not None, zero_bytes=zero_bytes or 0)
            decision = _decided(facts, request)
        if isinstance(decision, Examine):
            raise AssertionError("every byte has been read")
        if isinstance(decision, Refuse):
            why = f"volume {request.volume_id} cannot be mounted: {decision.why}"
            raise AgentError(decision.code, why, decision.hint)
        formatted = isinstance(decision, Format)
        if isinstance(decision, Format):
            mounting.make_file_system(decision, force=request.format == "force")
            new = probe.signature(decision.device)
            if new is None or new.type != decision.fstype:
                raise AgentError("cannot-mount", f"the new file system on {device} cannot be seen")
            decision = Mount(decision.device, new.type, new.uuid)
        Path(request.mount_point).mkdir(parents=True, exist_ok=True)
        more = mounting.mount(decision, request)
        not_grown = ""
        if request.grow and not formatted and not request.read_only:
            not_grown = self._grow_mounted(device, facts, decision, request)
        user = machine.login_user()
        if formatted:
            os.chown(request.mount_point, user.uid, user.gid)
        self._remember(decision.uuid, decision.fstype, request, more)
        attached = self._attached(
            request, decision.device, decision.fstype, decision.uuid, formatted=formatted, already=False
        )
        grown = request.grow and not not_grown and not request.read_only
        return replace(attached, grown=grown, not_grown=not_grown)

    @staticmethod
    def _grow_mounted(disk: str, facts: Facts, mounted: Mount, request: AttachRequest) -> str:
        """What has just been mounted grows to the size of its volume. Returns why not, else an empty text."""
        what = growth.decide_growth(facts)
        if not isinstance(what, growth.Grow):
            return what.why
        try:
            if what.partition is not None:
                growth.grow_partition(disk, what.partition, what.device)
            growth.grow_file_system(what, request.mount_point)
        except AgentError as error:
            if what.fstype not in growth.EXT:
                return error.message
        else:
            return ""
        # Not every root may grow a file system that is mounted; nobody uses it yet, so it can be done unmounted.
        mounting.unmount(request.mount_point, lazily=False)
        try:
            growth.grow_file_system(what, None)
        except AgentError as error:
            return error.message
        finally:
            mounting.mount(mounted, request)
        return ""

    def _wait_for(self, request: AttachRequest, size_bytes: int = 1) -> str:
        deadline = time.monotonic() + request.wait_seconds
        while True:
            volumes = self.volumes()
            for device, volume in volumes.items():
                if volume == request.volume_id and probe.size_of(Path(device).name) >= max(size_bytes, 1):
                    return device
            named = by_name(request.device, volumes)
            if named is not None:
                return named
            if time.monotonic() >= deadline:
                seen = ", ".join(sorted(volumes.values())) or "none"
                raise AgentError(
                    "no-device",
                    f"volume {request.volume_id} did not appear on the machine within {request.wait_seconds:g} s;"
                    f" volumes here: {seen}",
                    "is it attached to this instance?",
                )
            time.sleep(POLL_SECONDS)

    def _check_point(self, point: str, entries: Sequence[MountEntry]) -> None:
        there = [entry for entry in entries if entry.mount_point == point]
        if there:
            device = device_of(there[-1])
            volume = None
            if device is not None:
                volumes = self.volumes()
                volume = volumes.get(device) or volumes.get("/dev/" + probe.disk_of(Path(device).name))
            what = f"volume {volume}" if volume else there[-1].source
            raise AgentError(
                "mount-point-taken",
                f"{what} is mounted at {point}",
                "choose another mount point",
            )
        path = Path(point)
        if path.exists() and not path.is_dir():
            raise AgentError("mount-point-taken", f"{point} is not a folder", "choose another mount point")
        if path.is_dir() and any(path.iterdir()):
            raise AgentError(
                "mount-point-taken",
                f"{point} is a folder with files in it, which a mount would hide",
                "choose another mount point, or empty it",
            )

    def _attached(
        self, request: AttachRequest, device: str, fstype: str, uuid: str, *, formatted: bool, already: bool
    ) -> Attached:
        point = request.mount_point
        space, user = os.statvfs(point), machine.login_user()
        facts = Path(point).stat()
        return Attached(
            volume_id=request.volume_id,
            mount_point=point,
            device=device,
            fstype=fstype,
            uuid=uuid or None,
            formatted=formatted,
            already_mounted=already,
            writable=not space.f_flag & os.ST_RDONLY and may_write(user, facts),
            size_bytes=space.f_blocks * space.f_frsize,
            free_bytes=space.f_bavail * space.f_frsize,
        )

    def detach(self, volume_id: str, *, force: bool = False) -> Detached:
        """See `Disks.detach`."""
        device = next((d for d, volume in self.volumes().items() if volume == volume_id), None)
        entries = mount_table.own_mounts()
        mounted = mounts_of(device, entries) if device is not None else self._by_fstab(volume_id, entries)
        points = [entry.mount_point for entry in reversed(mounted)]
        lazy = False
        for point in points:
            mounting.sync(point)
        if mounted:
            holding = users.users_of({entry.device_number for entry in mounted}, entries)
            if holding and not force:
                raise AgentError(
                    "disk-busy",
                    f"volume {volume_id} is in use by {users.described(holding)}",
                    "stop them first, or detach with --force",
                )
            for point in points:
                lazy = mounting.unmount(point, lazily=force) or lazy
        self._write_fstab(mount_table.without_volume(self._fstab_text(), volume_id))
        return Detached(volume_id, bool(mounted), tuple(points), lazy)

    def grow(self, volume_id: str, *, size_bytes: int = 0, wait_seconds: float = 60.0) -> Grown:
        """See `Disks.grow`."""
        disk = self._wait_for(AttachRequest(volume_id, "/", wait_seconds=wait_seconds), size_bytes)
        entries = mount_table.own_mounts()
        facts = probe.inspect(disk, is_system_disk=disk in system_disks(entries), spacing_seconds=0)
        what = growth.decide_growth(facts)
        if isinstance(what, Refuse):
            raise AgentError(what.code, f"volume {volume_id}: {what.why}", what.hint)
        if isinstance(what, growth.Nothing):
            return Grown(volume_id, disk, None, None, False, facts.size_bytes, facts.size_bytes)
        mounted = mounts_of(disk, entries)
        if mounted and all("ro" in entry.options for entry in mounted):
            raise AgentError(
                "read-only",
                f"volume {volume_id} is mounted read-only at {mounted[0].mount_point}",
                "mount it for writing on one machine, and repeat the command",
            )
        point = next((entry.mount_point for entry in mounted if "ro" not in entry.options), None)
        before = bytes_in(point, facts.size_bytes)
        longer = what.partition is not None and growth.grow_partition(disk, what.partition, what.device)
        growth.grow_file_system(what, point)
        after = bytes_in(point, probe.size_of(Path(what.device).name))
        return Grown(volume_id, what.device, what.fstype, point, longer, before, after)

    def freeze(self, volume_id: str, *, hold_seconds: float, holder: str) -> Frozen:
        """See `Disks.freeze`."""
        points = self._points_of(volume_id)
        if not points:
            return Frozen(volume_id, "unmounted")
        for point in points:
            mounting.sync(point)
        try:
            # One of the places is enough: it is the file system that is frozen, not the mount.
            freezing.freeze(points[0], hold_seconds, holder)
        except OSError as error:
            return Frozen(volume_id, "flushed", tuple(points), error.strerror or str(error))
        return Frozen(volume_id, "frozen", tuple(points))

    def thaw(self, volume_id: str, *, holder: str) -> bool:
        """See `Disks.thaw`."""
        return any(freezing.thaw(point, holder) for point in self._points_of(volume_id)[:1])

    def _points_of(self, volume_id: str) -> list[str]:
        device = next((d for d, volume in self.volumes().items() if volume == volume_id), None)
        return [] if device is None else [e.mount_point for e in mounts_of(device, mount_table.own_mounts())]

    def _by_fstab(self, volume_id: str, entries: Sequence[MountEntry]) -> list[MountEntry]:
        lines = [line for line in self._fstab_text().splitlines() if mount_table.volume_of(line) == volume_id]
        points = {mount_table.point_of(line) for line in lines}
        return [entry for entry in entries if entry.mount_point in points]

    def _fstab_text(self) -> str:
        try:
            return self._fstab.read_text(errors="surrogateescape")
        except FileNotFoundError:
            return ""

    def _remember(self, uuid: str, fstype: str, request: AttachRequest, more: Sequence[str] = ()) -> None:
        if not uuid:
            return
        link = BY_ID_FOLDER / (BY_ID + request.volume_id.replace("-", ""))
        line = mount_table.fstab_line(
            uuid,
            request.mount_point,
            fstype,
            request.volume_id,
            read_only=request.read_only,
            more=more,
            # A UUID that two disks have says nothing; the volume's own link does.
            device=str(link) if mounting.twins(uuid) and link.exists() else None,
        )
        self._write_fstab(mount_table.with_line(self._fstab_text(), line, request.volume_id))

    def _write_fstab(self, text: str) -> None:
        if text == self._fstab_text():
            return
        partial = self._fstab.with_name(self._fstab.name + ".runctl")
        with partial.open("w", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if self._fstab.exists():
            shutil.copystat(self._fstab, partial)
        partial.replace(self._fstab)
        if Path("/run/systemd/system").is_dir():
            subprocess.run(["systemctl", "daemon-reload"], capture_output=True, check=False)


def may_write(user: machine.LoginUser, facts: os.stat_result) -> bool:
    """Whether a folder's mode lets this user make files in it."""
    if user.uid == 0:
        return True
    if facts.st_uid == user.uid:
        return bool(facts.st_mode & 0o200)
    if facts.st_gid == user.gid:
        return bool(facts.st_mode & 0o020)
    return bool(facts.st_mode & 0o002)


def _decided(facts: Facts, request: AttachRequest) -> Decision:
    return decide_format(
        facts,
        request.format,
        request.fstype,
        read_only=request.read_only,
        known_blank=request.known_blank,
    )
