"""The dashboard on a real terminal, with a run on this computer."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command_line import CommandLine, write_project
from tests.forked.commands import PROGRAM

FOREVER = """\
import time
while True:
    print("tick", flush=True)
    time.sleep(0.1)
"""


class Terminal:
    """A program on a terminal of 120 by 30; what it has written is read as it is waited for."""

    def __init__(self, argv: list[str], cwd: Path, env: dict[str, str]) -> None:
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        # With the terminal as its own, so that Ctrl-C is a signal.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *argv], cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        self.seen = b""

    def wait_for(self, text: str) -> None:
        """Reads until it was written after what was waited for before."""
        while text.encode() not in self.seen:
            self.seen += os.read(self.ours, 1 << 16)
        self.seen = self.seen.partition(text.encode())[2]

    def type(self, keys: str) -> None:
        os.write(self.ours, keys.encode())


@pytest.fixture
def runctl(tmp_path: Path) -> CommandLine:
    return CommandLine(write_project(tmp_path / "project", {"forever.py": FOREVER}))


@pytest.fixture
def top(runctl: CommandLine) -> Iterator[Terminal]:
    env = {**os.environ, **runctl.env, "TERM": "xterm-256color"}
    terminal = Terminal([str(PROGRAM), "top", "--interval", "1s"], runctl.cwd, env)
    yield terminal
    terminal.process.kill()
    terminal.process.wait()
    os.close(terminal.ours)


@pytest.mark.linux
def test_a_run_is_watched_read_and_stopped_by_keys(runctl: CommandLine, top: Terminal) -> None:
    run_id = runctl("local", "train", "forever.py", "--quiet").ok().out.strip()
    try:
        top.wait_for("forever.py")
        top.type("l")
        top.wait_for(f"$ runctl runs logs {run_id} --tail 1000 --follow")
        top.wait_for("tick")
        top.type("\x03")
        top.wait_for("Enter goes back")
        top.type("\n")
        top.wait_for("forever.py")
        top.type("s")
        top.wait_for(f"runctl runs stop {run_id}")
        top.type("y")
        top.wait_for("ended (STOPPED)")
        top.type("\n")
        top.wait_for("STOPPED")
        top.type("q")
        assert top.process.wait(60) == 0
    finally:
        runctl("runs", "stop", run_id)
