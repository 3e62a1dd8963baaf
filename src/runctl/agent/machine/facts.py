"""``version``: what this machine is, in one quick look."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from typing import Any

from runctl.agent.machine import gpus
from runctl.agent.machine.root import agent_command, login_user, root_available, state_directory
from runctl.agent.spec import PROTOCOL


def memory_bytes() -> int:
    """Physical memory."""
    return int(os.sysconf("SC_PAGE_SIZE")) * int(os.sysconf("SC_PHYS_PAGES"))


def version(_request: Mapping[str, Any]) -> dict[str, Any]:
    """The agent's protocol and program, its user and rights, and the machine's parts."""
    from runctl.agent.machine import docker

    state = state_directory()
    disk = shutil.disk_usage(state)
    engine = docker.find()
    return {
        "protocol": PROTOCOL,
        "digest": own_digest(),
        "python": platform.python_version(),
        "python_path": sys.executable,
        "system": platform.system(),
        "architecture": platform.machine(),
        "user": login_user().name,
        "uid": login_user().uid,
        "home": login_user().home,
        "root_available": root_available(),
        "docker": {"available": engine.available, "version": engine.version, "reason": engine.reason},
        "gpus": gpus.gpus(),
        "state_dir": str(state),
        "cpu_count": os.cpu_count(),
        "memory_bytes": memory_bytes(),
        "disk_total_bytes": disk.total,
        "disk_free_bytes": disk.free,
    }


def own_digest() -> str:
    """Which build of the agent this is; empty when it runs from a folder of sources."""
    command = agent_command()
    if command[1] == "-m":
        return ""
    import hashlib
    from pathlib import Path

    return hashlib.sha256(Path(command[1]).read_bytes()).hexdigest()
