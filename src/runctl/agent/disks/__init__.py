"""The machine's disks: which volume is which device, where it is mounted, and how it comes to be."""

from __future__ import annotations

from runctl.agent.disks.interface import Disks
from runctl.agent.machine.processes import LINUX
from runctl.agent.machine.root import folder_root


def disks() -> Disks:
    """The disks of this machine."""
    root = folder_root()
    if root is not None:
        from runctl.agent.disks.folder import FolderDisks

        return FolderDisks(root)
    if LINUX:
        from runctl.agent.disks.linux import LinuxDisks

        return LinuxDisks()
    from runctl.agent.disks.interface import NoDisks

    return NoDisks()
