"""A folder machine in place of one made of namespaces, with the interface that the EC2 back-end uses for both."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from runctl.sandbox.ebs.disks import Disks
from runctl.sandbox.folders.machine import FolderMachine
from runctl.sandbox.layout import Layout
from runctl.sandbox.machines.hardware import Hardware
from runctl.sandbox.machines.machine import BootFailed

POLL_SECONDS = 0.2


class FolderInstance(FolderMachine):
    """One instance whose machine is a folder. It has this computer's loopback address, and no SSH."""

    address = "127.0.0.1"
    number = 0

    def __init__(self, layout: Layout, hardware: Hardware) -> None:
        super().__init__(
            layout.machines / hardware.instance_id, hardware.instance_id, login_user=hardware.login_user
        )
        self.hardware = hardware
        self.nodes: dict[str, tuple[str, str]] = {}
        self.on_power_off: Callable[[str], None] = lambda _: None
        self._life = 0
        self._power = threading.RLock()
        """Held while it boots or is removed, so that nothing is made that would never be removed."""
        self._removed = False

    def boot(self, *, first: bool) -> None:
        """Its folder is there, and user-data has begun on the first boot. Raises `BootFailed` once it is removed."""
        with self._power:
            if self._removed:
                raise BootFailed(f"{self.hardware.instance_id} has been removed")
            self.create()
            lines = (f'{name}="{value}"\n' for name, value in self.hardware.environment.items())
            (self.root / "etc/environment").write_text("".join(lines))
            self._life += 1
            if first:
                user_data = self.hardware.user_data or b""
                threading.Thread(target=self.run_user_data, args=(user_data,), daemon=True).start()
            threading.Thread(target=self._watch, args=(self._life,), daemon=True).start()

    def environment(self) -> dict[str, str]:
        """With what every login of it has."""
        return {**super().environment(), **self.hardware.environment}

    def kill(self) -> None:
        """End all of its processes."""
        self._life += 1
        with contextlib.suppress(TimeoutError):
            self.stop(grace_seconds=0)

    def remove(self) -> None:
        """Remove it, but for what its volumes hold; it cannot boot any more."""
        with self._power:
            self._removed = True
            self.kill()
            shutil.rmtree(self.root, ignore_errors=True)

    def power(self, action: str) -> None:
        """As if ``shutdown`` had been called inside."""
        (self.root / "run/shutdown-request").write_text(f"{action} {int(time.time())}\n")

    def wait_until_down(self, seconds: float) -> None:
        """SIGTERM for its processes, and that long for them to end."""
        with contextlib.suppress(TimeoutError):
            self.stop(grace_seconds=seconds)

    def run(self, argv: Sequence[str], *, timeout: float = 30) -> subprocess.CompletedProcess[bytes]:
        """Run a program in the machine to its end."""
        process = self.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(list(argv), process.returncode, out, err)

    def console(self) -> str:
        """What its first boot said."""
        try:
            return (self.root / "var/log/cloud-init-output.log").read_text(errors="replace")
        except OSError:
            return ""

    def add_disk(self, volume_id: str, _node: str, device: str, folder: str) -> None:
        """Attach the volume's folder as a disk of the machine."""
        self.attach(volume_id, Path(folder), device)

    def remove_disk(self, volume_id: str, _node: str, device: str) -> None:
        """Detach it, mounted or not."""
        self.detach(volume_id, device, force=True)

    def has_mounted(self, folder: str) -> bool:
        """Whether the machine has the volume's folder mounted."""
        return bool(self.mounts_of(Path(folder)))

    def _watch(self, life: int) -> None:
        while self._life == life:
            request = self.shutdown_request()
            if request is not None and request.at <= datetime.now(UTC):
                with contextlib.suppress(TimeoutError):
                    self.stop()
                if self._life == life:
                    self.on_power_off(request.action)
                return
            time.sleep(POLL_SECONDS)


class FolderDisks(Disks):
    """Volumes that are folders: no size, no file system, no root needed."""

    def file(self, volume_or_snapshot: str) -> Path:
        """The volume's folder."""
        return super().file(volume_or_snapshot).with_suffix("")

    def plug(self, volume_id: str, size_gib: int, machine: str = "") -> str:  # noqa: ARG002 - a folder is one
        """The folder is there."""
        self.file(volume_id).mkdir(parents=True, exist_ok=True)
        return str(self.file(volume_id))

    def unplug(self, volume_id: str, machine: str = "") -> None:
        """Nothing is held."""

    def device(self, volume_id: str, machine: str = "") -> str | None:  # noqa: ARG002 - a folder is one
        """The folder, where there is one."""
        return str(self.file(volume_id)) if self.file(volume_id).is_dir() else None

    def copy(
        self,
        source: str,
        target: str,
        frozen: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,  # noqa: ARG002
    ) -> None:
        """``target`` has the files that ``source`` has now."""
        if self.file(source).is_dir():
            shutil.copytree(self.file(source), self.file(target), symlinks=True, dirs_exist_ok=True)

    def written_bytes(self, volume_or_snapshot: str) -> int:
        """The size of its files."""
        files = self.file(volume_or_snapshot).rglob("*")
        return sum(file.lstat().st_size for file in files if not file.is_dir())

    def grow(self, volume_id: str, size_gib: int) -> None:
        """Folders have no size."""

    def make_lazy(self, volume_id: str, *, seconds_per_block: float, bytes_per_second: float) -> None:
        """Folders have no blocks."""

    def remove(self, volume_or_snapshot: str) -> None:
        """Its files are deleted."""
        shutil.rmtree(self.file(volume_or_snapshot), ignore_errors=True)
