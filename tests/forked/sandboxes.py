"""A sandbox whose server is forked, in the place of `runctl.sandbox.server_process.launch`."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from runctl.core.files import make_private_file
from runctl.sandbox import control, server_process
from runctl.sandbox.abilities import SYSTEM_FOLDERS
from runctl.sandbox.layout import Layout

_ARGUMENT_START, _ARGUMENT_END = 45, 46
"""In /proc/PID/stat after the name, from 0: where a process has its command line."""


def main() -> int:
    """``HOME KIND DOCKER``: start one there."""
    home, kind, docker = sys.argv[1:]
    control.start(home=Path(home), kind=kind, docker=docker)
    return 0


def install() -> None:
    """From now on, in this process and what it forks, sandboxes are forked."""
    server_process.launch = _fork_sandbox


class _ForkedSandbox:
    """What `runctl.sandbox.control` asks of the process that it has launched; this one is nobody's child any more."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._ended = os.pidfd_open(pid)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """A code, which nobody knows, once it has ended."""
        if select.select([self._ended], [], [], 0)[0]:
            self.returncode = 1
        return self.returncode

    def kill(self) -> None:
        """It ends."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended."""
        if not select.select([self._ended], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("sandbox", timeout or 0)
        return 1


def _fork_sandbox(layout: Layout, region: str, kind: str, *, docker: bool) -> Any:
    """In the place of `server_process.launch`."""
    argv = ["runctl.sandbox.server", "--home", str(layout.home), "--region", region, "--kind", kind]
    argv += ["--docker"] if docker else []
    make_private_file(layout.log_file)
    told, tell = os.pipe()
    first = os.fork()
    if first == 0:
        os.setsid()
        second = os.fork()
        if second:
            os.write(tell, b"%d" % second)
            os._exit(0)
        os.close(told)
        os.close(tell)
        _be_the_sandbox(layout, argv)
    os.close(tell)
    with os.fdopen(told, "rb") as pipe:
        pid = int(pipe.read())
    os.waitpid(first, 0)
    return _ForkedSandbox(pid)


def _be_the_sandbox(layout: Layout, argv: list[str]) -> NoReturn:
    try:
        log = os.open(layout.log_file, os.O_WRONLY | os.O_APPEND)
        null = os.open(os.devnull, os.O_RDONLY)
        for descriptor, number in ((null, 0), (log, 1), (log, 2)):
            os.dup2(descriptor, number)
        os.closerange(3, 1024)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", 1, closefd=False)
        os.chdir("/")
        path = os.pathsep.join([*SYSTEM_FOLDERS, os.environ.get("PATH", os.defpath)])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        os.environ.clear()
        os.environ.update({**kept, "PATH": path})
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.getsignal(number))
        _be_called("\0".join([sys.executable, "-m", *argv]))
        from moto.moto_api._internal import mock_random

        # Every fork would make the same ids.
        mock_random.seed(time.time_ns() ^ os.getpid())
        from runctl.sandbox import server

        sys.argv = argv
        server.main()
    except BaseException:  # noqa: BLE001 - nothing may go on as the command
        import traceback

        traceback.print_exc()
    finally:
        os._exit(1)


def _be_called(title: str) -> None:
    """Have this process's command line be another: by it a sandbox's server is known."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[_ARGUMENT_START]), int(fields[_ARGUMENT_END])
    data = title.encode()
    assert len(data) < end - start, "the command line has no room for that"
    ctypes.memmove(start, data.ljust(end - start, b"\0"), end - start)
