"""Volumes that the provider has mounted itself, as in a container that was made with them: no device has their serial.

Which is where comes from whoever asked the provider. It counts only while something is mounted just there: the folder
alone would be on the machine's own disk.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from runctl.agent.disks.mount_table import MountEntry
from runctl.agent.errors import AgentError
from runctl.agent.machine import durable
from runctl.agent.machine.root import state_directory, state_path
from runctl.agent.spec import MachineMount

FILE = "provided-volumes.json"


def known() -> dict[str, str]:
    """Volume ids by mount point."""
    try:
        found = durable.read_json(state_path() / FILE)
    except (OSError, ValueError):
        found = None
    return {} if found is None else found


def remember(provided: Any) -> None:
    """So it is from now on. Raises `AgentError`."""
    if not isinstance(provided, Mapping) or not all(
        isinstance(part, str) for pair in provided.items() for part in pair
    ):
        raise AgentError("bad-request", "provided volumes are ids by mount point")
    if dict(provided) == known():
        return
    durable.write_json(state_directory() / FILE, dict(provided), mode=0o644)


def mounted(entry: MountEntry, volume_id: str) -> MachineMount:
    """What is mounted there, as that volume."""
    space = os.statvfs(entry.mount_point)
    return MachineMount(
        mount_point=entry.mount_point,
        device=entry.source,
        volume_id=volume_id,
        fstype=entry.fstype,
        size_bytes=space.f_blocks * space.f_frsize,
        free_bytes=space.f_bavail * space.f_frsize,
        read_only=bool(space.f_flag & os.ST_RDONLY),
        persistent=True,
    )
