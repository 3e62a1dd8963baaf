"""The process that the sandbox's server is: launch it, find it, stop it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from runctl.core.files import make_private_file
from runctl.sandbox.abilities import SYSTEM_FOLDERS
from runctl.sandbox.layout import Layout

STOP_SECONDS = 30.0
POLL_SECONDS = 0.05

_children: list[subprocess.Popen[bytes]] = []
"""Servers that this process has launched: nobody else can reap them."""


def launch(layout: Layout, region: str, kind: str, *, docker: bool) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own, with its output in the sandbox's log and none of our AWS variables."""
    command = [
        *(sys.executable, "-m", "runctl.sandbox.server", "--home", str(layout.home)),
        *("--region", region, "--kind", kind),
        *(["--docker"] if docker else []),
    ]
    path = os.pathsep.join([*SYSTEM_FOLDERS, os.environ.get("PATH", os.defpath)])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    make_private_file(layout.log_file)
    with layout.log_file.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env={**inherited, "PATH": path},
        )
    _children.append(process)
    return process


def is_server_of(layout: Layout, pid: int) -> bool:
    """Whether that process is this sandbox's server, and not another one that has its number now."""
    _children[:] = [child for child in _children if child.poll() is None]
    command = _command_of(pid)
    return "runctl.sandbox.server" in command and str(layout.home) in command


def _command_of(pid: int) -> str:
    """Its command line; empty when it has ended. Small Linux systems have no ``ps``, and macOS no /proc."""
    if Path("/proc/self").exists():
        try:
            return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" "))
        except OSError:
            return ""
    return subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout


def stop(layout: Layout, pid: int) -> None:
    """Ask the server to end, and wait until it has or the time is up."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    limit = time.monotonic() + STOP_SECONDS
    while is_server_of(layout, pid) and time.monotonic() < limit:
        time.sleep(POLL_SECONDS)
    for child in _children:
        if child.pid == pid:
            # It may have ended since it was last polled: reap it, so that it does not stay a zombie.
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=1)
