"""Remove what a sandbox leaves on this computer when it ends, however it ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys

from runctl.sandbox import record, server_process
from runctl.sandbox.abilities import why_no_namespaces
from runctl.sandbox.layout import Layout
from runctl.sandbox.machines import docker_engine


def remove_leftovers(layout: Layout) -> list[str]:
    """Remove whatever a sandbox in this folder made, outside and inside of it; what there was. Safe to repeat."""
    from runctl.sandbox.ebs import disks, lazy_backing
    from runctl.sandbox.ecr.registry import Registry, remove_registries
    from runctl.sandbox.machines import network
    from runctl.sandbox.machines.machine_folder import ENDED, remove_folder

    removed: list[str] = []
    server = record.read(layout)
    if server is not None and server_process.is_server_of(layout, int(server["pid"])):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(server["pid"]), signal.SIGKILL)
        removed.append(f"server (pid {server['pid']})")
    remove_registries(layout.ecr)
    if sys.platform == "linux" and os.geteuid() == 0 and not why_no_namespaces():
        disks.thaw_all(layout)
        removed += network.kill_inside(layout)
        # Its own record says which process it is, also when the server came to no record of itself.
        if layout.registry.is_dir():
            Registry(layout.registry, (server or {}).get("gateway") or "127.0.0.1", 5000).stop()
        removed += network.remove(layout)
        removed += disks.release_all(layout)
        removed += lazy_backing.release_all(layout)
    for folder in sorted(layout.machines.glob("i-*")) if layout.machines.exists() else []:
        with contextlib.suppress(OSError):
            docker_engine.remove_cgroups(folder.name)
        remove_folder(folder)
        if folder.suffix != ENDED:
            removed.append(f"machine {folder.name}")
    for image in sorted(layout.images.glob("*")) if layout.images.exists() else []:
        remove_folder(image)
        if not image.suffix:
            removed.append(f"image {image.name}")
    for file in sorted(layout.volumes.glob("*")) if layout.volumes.exists() else []:
        shutil.rmtree(file) if file.is_dir() else file.unlink()
        removed.append(f"disk {file.name}")
    layout.info_file.unlink(missing_ok=True)
    (layout.home / "registry.port").unlink(missing_ok=True)
    return removed
