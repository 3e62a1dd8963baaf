"""A run's output on its way into the log: one pipe for stdout and stderr, and a process that copies it byte by byte.

A pipe, because a file could be truncated (``echo x > /dev/stderr`` opens it anew) and because a container can be given
one; one for both, so that the order stays; a process of its own, so that the log goes on without the supervisor.
"""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from runctl.agent.attempt.log import FULL, Log
from runctl.agent.attempt.redirect import PROGRAMS
from runctl.agent.machine import processes
from runctl.agent.machine.root import agent_command

if TYPE_CHECKING:
    from runctl.agent.attempt.children import Children

BLOCK = 1 << 18
PIPE_BYTES = 1 << 20
"""The kernel's default limit for users. A training waits while its pipe is full."""
F_SETPIPE_SZ = 1031
KEPT_BYTES = 64 << 10
"""How much of what does not fit on a full disk is kept: the last words."""
FINISH_SECONDS = 10.0
LOST = 3
"""Exit code of the copying process: some of the output is not in the log."""


class Collector:
    """The pipe and whoever copies from it. Nothing is lost while this object is there: it holds the pipe open."""

    def __init__(self, folder: Path, log: Log, children: Children) -> None:
        self.folder = folder / "io" / "run"
        """What a container sees of it; nobody else on the machine gets into the folder above it."""
        self.pipe = self.folder / "log"
        self.reaches_containers = False
        """The container's output comes through the pipe, and not through the engine."""
        self._log = log
        self._children = children
        self._held: int | None = None
        self._pid: int | None = None

    def start(self) -> None:
        """Output is copied from now on. Raises `OSError`."""
        self._make_folder()
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self.pipe)
        # A container may run as any user.
        self.pipe.chmod(0o622)
        self._held = os.open(self.pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        if processes.LINUX:
            import fcntl

            with contextlib.suppress(OSError):
                fcntl.fcntl(self._held, F_SETPIPE_SZ, PIPE_BYTES)
        self._copy()

    def for_container(self, kernel: str) -> str | None:
        """The folder to mount into a container, with the program that leads its output into the pipe; ``None`` where
        the containers run on another kernel (a virtual machine), to which no pipe leads. Raises `OSError`."""
        machine = os.uname()
        if kernel != machine.release or machine.machine not in PROGRAMS:
            return None
        self._make_folder()
        program = self.folder / "redirect"
        program.write_bytes(base64.b64decode(PROGRAMS[machine.machine]))
        program.chmod(0o755)
        self.reaches_containers = True
        return str(self.folder)

    def _make_folder(self) -> None:
        self.folder.parent.mkdir(mode=0o700, exist_ok=True)
        self.folder.mkdir(mode=0o755, exist_ok=True)

    def writer(self) -> int:
        """The end of the pipe that a script writes to, as a new file descriptor."""
        return os.open(self.pipe, os.O_WRONLY | os.O_CLOEXEC)

    def identity(self) -> processes.Identity | None:
        """Who copies."""
        return None if self._pid is None else processes.identity(self._pid)

    def keep_going(self) -> bool:
        """True when somebody else copies from now on, because the one before has ended."""
        if self._held is None or self._pid is None or not self._children.ended(self._pid):
            return False
        self._take_leave(self._pid)
        self._copy()
        return True

    def finish(self) -> None:
        """What was written to the pipe is in the log, and nobody copies any more."""
        if self._held is None or self._pid is None:
            return
        self.keep_going()
        os.close(self._held)
        self._held = None
        deadline, asked = time.monotonic() + FINISH_SECONDS, False
        while not self._children.ended(self._pid):
            # Somebody who is not ours to end may still hold the pipe open.
            if time.monotonic() >= deadline:
                processes.send([self._pid], signal.SIGKILL if asked else signal.SIGUSR1)
                deadline, asked = time.monotonic() + FINISH_SECONDS, True
            self._children.pause(0.05)
        self._take_leave(self._pid)
        self._pid = None

    def _copy(self) -> None:
        argv = [*agent_command(), "collect", str(self._log.path)]
        # Opened here: what a short script has written is lost if the last reader goes before the next one comes.
        source = os.open(self.pipe, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.set_blocking(source, True)
            self._pid = self._children.start(
                argv,
                output=self._log.fd,
                errors=sys.stderr.fileno(),
                env=os.environ,
                cwd=Path("/"),
                stdin=source,
            )
        finally:
            os.close(source)
        self._children.spare(self._pid)

    def _take_leave(self, pid: int) -> None:
        if self._children.wait(pid).exit_code == LOST:
            self._log.disk_full = True


def witness(folder: Path) -> Path:
    """Is there when the copying process has got SIGTERM, which nobody sends to it alone."""
    return folder / "io" / "everybody-was-told"


def collect(arguments: list[str]) -> int:
    """Be the one who copies from stdin into ``LOG``, until nobody can write to the pipe any more."""
    source = sys.stdin.fileno()
    # A machine that shuts down tells everybody; the training may still have something to say.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

    def drain(*_: object) -> None:
        os.set_blocking(source, False)

    signal.signal(signal.SIGUSR1, drain)
    signal.signal(signal.SIGTERM, lambda *_: witness(Path(arguments[0]).parent).touch())
    sink = _Sink(Log(Path(arguments[0])))
    while True:
        try:
            data = os.read(source, BLOCK)
        except BlockingIOError:
            break
        if not data:
            break
        sink.write(data)
    return LOST if sink.finish() else 0


class _Sink:
    """The log, and what did not fit into it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._kept = b""
        self._missing = 0
        self._lost = False

    def write(self, data: bytes) -> None:
        """A full disk does not stop a training: what is missing is said where it is missing."""
        if self._kept or self._missing:
            self._keep(data)
            self._append_kept()
            return
        written = self._append(data)
        if written < len(data):
            self._keep(data[written:])

    def finish(self) -> bool:
        """Whether something is missing in the log."""
        self._append_kept()
        return self._lost or bool(self._kept)

    def _append(self, data: bytes) -> int:
        done = 0
        while done < len(data):
            try:
                done += os.write(self._log.fd, data[done:])
            except OSError as error:
                if error.errno not in FULL:
                    raise
                break
        return done

    def _keep(self, data: bytes) -> None:
        kept = self._kept + data
        self._missing += max(0, len(kept) - KEPT_BYTES)
        self._kept = kept[-KEPT_BYTES:]

    def _append_kept(self) -> None:
        if self._missing:
            self._lost = True
            said = f"\n[runctl] the disk was full: {self._missing} bytes of output are missing here\n"
            self._kept, self._missing = said.encode() + self._kept, 0
        self._kept = self._kept[self._append(self._kept) :]
