"""What stands between a loop device and the file of a volume that is not initialized yet: a program and its mount."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from runctl.sandbox.ebs import lazy_disk
from runctl.sandbox.layout import Layout

START_SECONDS = 20.0
END_SECONDS = 1.0
READ_AHEAD_SECTORS = 256
"""128 KiB, as NVMe disks have; FUSE's own would hide that blocks are slow."""


class LazyBacking:
    """The file of one volume, shown with slow blocks. Raises `OSError` when it cannot be."""

    def __init__(self, file: Path, state: Path) -> None:
        self.folder = file.with_suffix(".lazy")
        self.folder.mkdir(exist_ok=True)
        program = [sys.executable, "-IS", lazy_disk.__file__, str(file), str(state), str(self.folder)]
        self._process = subprocess.Popen(
            program, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/"
        )
        limit = time.monotonic() + START_SECONDS
        while not self.path.exists():
            if self._process.poll() is not None or time.monotonic() > limit:
                self._process.kill()
                said = self._process.communicate()[1].decode(errors="replace").strip()
                raise OSError(f"{file} cannot be shown over FUSE: {said}")
            time.sleep(0.01)

    @property
    def path(self) -> Path:
        """What the loop device is on."""
        return self.folder / lazy_disk.NAME

    def end(self, *, in_use: bool) -> None:
        """It is not shown any more; with ``in_use``, to nobody but who has it open."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False, capture_output=True)
        if not in_use:
            # A machine that was started meanwhile has a copy of the mount, which would keep it.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=END_SECONDS)
            self._process.kill()
            self._process.communicate()
        with suppress(OSError):
            self.folder.rmdir()


def release_all(layout: Layout) -> list[str]:
    """No such program and mount is left of this sandbox, whoever made it; those that were."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            argv = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if lazy_disk.__file__ in argv and any(
                argument.startswith(f"{layout.volumes}/") for argument in argv
            ):
                os.kill(int(entry.name), signal.SIGKILL)
                found.append(f"lazy disk (pid {entry.name})")
    for folder in layout.volumes.glob("*.lazy") if layout.volumes.exists() else ():
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)
        with suppress(OSError):
            folder.rmdir()
    return found
