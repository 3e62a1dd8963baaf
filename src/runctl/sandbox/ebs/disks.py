"""The disks of volumes and snapshots: sparse files, made when they are first needed, on loop devices."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from runctl.sandbox.ebs import blocks
from runctl.sandbox.ebs.lazy_backing import READ_AHEAD_SECTORS, LazyBacking
from runctl.sandbox.ebs.lazy_blocks import LazyBlocks
from runctl.sandbox.layout import Layout

GIB = 1 << 30
RELEASE_SECONDS = 2.0
"""How long a loop device may stay in use after its last user has gone."""
COPY_ATTEMPTS = 3
THAW_SECONDS = 10


class Disks:
    """The files of one sandbox. Safe to use from several threads."""

    def __init__(self, layout: Layout) -> None:
        self._folder = layout.volumes
        self._loops: dict[str, dict[str, str]] = {}
        """By volume and by the machine that has it: with Multi-Attach each has a device, and a cache, of its own."""
        self._lazy: dict[str, LazyBacking] = {}
        self._lock = threading.Lock()

    def file(self, volume_or_snapshot: str) -> Path:
        """Where its bytes are."""
        return self._folder / f"{volume_or_snapshot}.img"

    def plug(self, volume_id: str, size_gib: int, machine: str = "") -> str:
        """The loop device of the volume for that machine. Raises `OSError` when the kernel has none to give."""
        with self._lock:
            loops = self._loops.setdefault(volume_id, {})
            if machine not in loops:
                file = self.file(volume_id)
                self._folder.mkdir(parents=True, exist_ok=True)
                if not file.exists():
                    with open(file, "xb", opener=_private) as new:
                        new.truncate(size_gib * GIB)
                loops[machine] = self._lazily(volume_id) or _losetup("--find", "--show", str(file))
            return loops[machine]

    def _lazily(self, volume_id: str) -> str | None:
        """A loop device of a volume with blocks that are still slow; ``None`` where there are none."""
        backing = self._lazy.get(volume_id)
        if backing is None:
            if not (self.missing_blocks(volume_id) or (0, 0))[0]:
                return None
            backing = self._lazy[volume_id] = LazyBacking(self.file(volume_id), self._state(volume_id))
        # Without direct I/O a loop device reads one block after the other.
        loop = _losetup("--find", "--show", "--direct-io=on", str(backing.path))
        subprocess.run(["blockdev", "--setra", str(READ_AHEAD_SECTORS), loop], check=True)
        return loop

    def unplug(self, volume_id: str, machine: str = "") -> None:
        """Release the device; everything that was written to it is in the volume's file.

        Whoever still has it mounted, because it was taken by force, keeps a copy that is the volume's no more.
        """
        with self._lock:
            loop = self._loops.get(volume_id, {}).pop(machine, None)
            lazy = self._lazy.get(volume_id)
            if not self._loops.get(volume_id):
                self._loops.pop(volume_id, None)
                self._lazy.pop(volume_id, None)
            others = volume_id in self._loops
        if loop is None:
            return
        file = self.file(volume_id)
        backing = lazy.path if lazy is not None else file.resolve()
        _losetup("--detach", loop)
        in_use = not _is_released(loop, backing)
        if in_use:
            thaw(loop)
            in_use = not _is_released(loop, backing, seconds=0.2)
        if in_use and not others:
            self._leave_to_its_user(file, loop)
        if lazy is not None and not others:
            lazy.end(in_use=in_use)

    @staticmethod
    def _leave_to_its_user(file: Path, loop: str) -> None:
        with suppress(OSError):
            descriptor = os.open(loop, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        copy_sparse(file, file)

    def device(self, volume_id: str, machine: str = "") -> str | None:
        """The machine's loop device, where it has one."""
        return self._loops.get(volume_id, {}).get(machine)

    def devices(self, volume_id: str) -> list[str]:
        """All of the volume's."""
        return list(self._loops.get(volume_id, {}).values())

    def copy(
        self,
        source: str,
        target: str,
        frozen: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """``target`` has the bytes that ``source`` has now; holes stay holes.

        A copy takes a while, and a disk that is written to in between would be torn: then it is copied again, and in
        the end within ``frozen``, for as long as nobody can write to it.
        """
        if not self.file(source).exists():
            return
        subprocess.run(["sync", "-f", str(self.file(source))], check=False)
        for _ in range(COPY_ATTEMPTS):
            before = self._writes(source)
            copy_sparse(self.file(source), self.file(target))
            if before is not None and self._writes(source) == before:
                return
        with frozen():
            copy_sparse(self.file(source), self.file(target))

    def _writes(self, volume_id: str) -> int | None:
        """How many writes its devices have seen; ``None`` while one is under way."""
        seen = 0
        for loop in self.devices(volume_id):
            numbers = Path("/sys/block", Path(loop).name, "stat").read_text().split()
            if int(numbers[8]):
                return None
            seen += int(numbers[4])
        return seen

    def written_bytes(self, volume_or_snapshot: str) -> int:
        """How much of it was ever written, in whole blocks of EBS."""
        return len(blocks.written_blocks(self.file(volume_or_snapshot))) * blocks.BLOCK_BYTES

    def grow(self, volume_id: str, size_gib: int) -> None:
        """The file is that large, and so is the device."""
        file = self.file(volume_id)
        if file.exists():
            os.truncate(file, size_gib * GIB)
        if volume_id in self._lazy:
            # The kernel asks for the size again, which it does not by itself.
            self._lazy[volume_id].path.stat()
        for loop in self.devices(volume_id):
            _losetup("--set-capacity", loop)

    def remove(self, volume_or_snapshot: str) -> None:
        """Its data is deleted."""
        self.file(volume_or_snapshot).unlink(missing_ok=True)
        self._state(volume_or_snapshot).unlink(missing_ok=True)

    def make_lazy(self, volume_id: str, *, seconds_per_block: float, bytes_per_second: float) -> None:
        """The first read of each block that was written takes that long, until it has come by itself at that rate."""
        indices = blocks.written_blocks(self.file(volume_id))
        now = time.time()
        lazy = LazyBlocks.of(indices, latency=seconds_per_block, rate=bytes_per_second, now=now)
        lazy.save(self._state(volume_id), now)

    def missing_blocks(self, volume_id: str) -> tuple[int, int] | None:
        """How many blocks are still slow, and of how many; ``None`` for a volume that never was lazy."""
        lazy = LazyBlocks.load(self._state(volume_id))
        return None if lazy is None else (lazy.missing(time.time()), len(lazy.ranks))

    def _state(self, volume_id: str) -> Path:
        return self._folder / f"{volume_id}.blocks"


def thaw_all(layout: Layout) -> None:
    """No file system on this sandbox's disks is frozen: neither it nor who waits for it would ever end."""
    for device in _devices_of(layout):
        thaw(device)


def thaw(loop: str) -> None:
    """Thaw a frozen file system on that device, even when it is no longer mounted anywhere."""
    if not any(Path("/sys/fs", kind, Path(loop).name).exists() for kind in ("ext4", "xfs")):
        return
    with TemporaryDirectory() as folder, suppress(subprocess.TimeoutExpired):
        # The kernel mounts the file system that it has for the device already, and no second one.
        mount = ["mount", loop, folder]
        if subprocess.run(mount, check=False, capture_output=True, timeout=THAW_SECONDS).returncode == 0:
            subprocess.run(["fsfreeze", "--unfreeze", folder], check=False, capture_output=True)
            subprocess.run(["umount", folder], check=False, capture_output=True)


def release_all(layout: Layout) -> list[str]:
    """Detach every loop device on a file below this sandbox's folder, whoever made it; those devices."""
    devices = _devices_of(layout)
    for device in devices:
        subprocess.run(["losetup", "--detach", device], check=False, capture_output=True)
    # The kernel takes the mounts of dead machines apart after their processes have gone.
    prefix = str(layout.volumes) + "/"
    deadline = time.monotonic() + RELEASE_SECONDS
    while any((backing_file(device) or "").startswith(prefix) for device in devices):
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return [f"loop device {device}" for device in devices]


def _devices_of(layout: Layout) -> list[str]:
    done = subprocess.run(["losetup", "--json", "--list"], capture_output=True, text=True, check=False)
    if done.returncode != 0 or not done.stdout.strip():
        return []
    prefix = str(layout.volumes) + "/"
    rows = json.loads(done.stdout)["loopdevices"]
    return [row["name"] for row in rows if str(row["back-file"]).startswith(prefix)]


def _is_released(loop: str, backing: Path, *, seconds: float = RELEASE_SECONDS) -> bool:
    """Whether the device has no file any more, within that time."""
    deadline = time.monotonic() + seconds
    while backing_file(loop) == str(backing):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _private(path: str, flags: int) -> int:
    """Only the user may read what a volume holds; a copy has the mode of its source."""
    return os.open(path, flags, 0o600)


def copy_sparse(source: Path, target: Path) -> None:
    """Copy ``source`` to the new file ``target``; holes stay holes."""
    part = target.with_suffix(".part")
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", str(source), str(part)], check=True)
    part.replace(target)


def backing_file(loop: str) -> str | None:
    """The file that the loop device is on; ``None`` when it is on none."""
    try:
        return Path("/sys/block", Path(loop).name, "loop/backing_file").read_text().strip()
    except OSError:
        return None


def _losetup(*arguments: str) -> str:
    done = subprocess.run(["losetup", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"losetup {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()
