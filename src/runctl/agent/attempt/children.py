"""Starts children of the supervisor, waits for them, and ends whole trees of them: asked first, then killed."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable

from runctl._dataclasses import dataclass
from runctl.agent.machine import processes
from runctl.agent.machine.shutdown import POLL_SECONDS as SHUTDOWN_POLL_SECONDS
from runctl.agent.machine.shutdown import ProcessStopper, Shutdown
from runctl.agent.machine.stop_targets import Key

POLL_SECONDS = 1.0
"""Signals wake us at once; this is for what makes no signal."""
LEFTOVER_SECONDS = 10.0
"""What a process that outlives the script is given, at most, after SIGTERM."""
FADE_SECONDS = 1.0
"""What only carries output (``> >(tee log)``) ends by itself, when it has passed on the last of it."""
OOM_SCORE = 500
"""The kernel's out-of-memory killer takes the training before it takes sshd or the supervisor."""


@dataclass(frozen=True)
class Exited:
    """How a child ended."""

    exit_code: int | None
    """``None`` when a signal ended it."""
    signal: int | None
    max_rss_bytes: int
    stop_requested: bool
    """We had told it to end before it did."""
    killed: bool
    """We sent SIGKILL."""


class Children:
    """All processes below this one. One object per process; it takes over the signal handlers."""

    def __init__(self) -> None:
        self.subreaper = processes.become_subreaper()
        self.terminated = False
        """Somebody told the supervisor itself to end."""
        self._statuses: dict[int, int] = {}
        self._rss: dict[int, int] = {}
        self._popen: dict[int, subprocess.Popen[bytes]] = {}
        self._spared: set[int] = set()
        self._wake, self._wake_up = os.pipe()
        for fd in (self._wake, self._wake_up):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._wake_up, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._terminate)

    def _terminate(self, *_: object) -> None:
        self.terminated = True

    def wake(self) -> None:
        """Whoever waits here looks around at once. May be called from any thread."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_up, b"\0")

    def start(
        self,
        argv: Sequence[str],
        *,
        output: int,
        env: Mapping[str, str],
        cwd: Path,
        sacrifice: bool = False,
        errors: int | None = None,
        stdin: int | None = None,
    ) -> int:
        """Start a child in a session of its own, its output going to the file ``output``, and its stderr to another one
        if ``errors`` is given; it reads the file ``stdin``, else nothing. Raises `OSError`."""
        child = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=output,
            stderr=output if errors is None else errors,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
        )
        self._popen[child.pid] = child
        if sacrifice:
            with contextlib.suppress(OSError):
                Path(f"/proc/{child.pid}/oom_score_adj").write_text(str(OOM_SCORE))
        return child.pid

    def wait(
        self,
        pid: int,
        shutdown: Callable[[], Shutdown | None] = lambda: None,
        stopper: ProcessStopper | None = None,
    ) -> Exited:
        """Wait until the child has ended; ``shutdown`` is asked again and again whether, and how, to end it."""
        stopper = stopper or ProcessStopper()
        killed = False
        while not self._reap(pid):
            requested = shutdown()
            if requested is not None and requested.over:
                killed = True
                everyone = [pid, *(child.pid for child in processes.descendants(pid, processes.table()))]
                processes.send(everyone, signal.SIGKILL)
            elif requested is not None:
                stopper.request([pid], processes.table(), requested)
            self._sleep(POLL_SECONDS if requested is None else SHUTDOWN_POLL_SECONDS)
        status = self._statuses.pop(pid)
        return Exited(
            exit_code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
            max_rss_bytes=self._rss.pop(pid, 0),
            stop_requested=killed or stopper.requested,
            killed=killed,
        )

    def spare(self, pid: int) -> None:
        """This child is not ended with the others."""
        self._spared.add(pid)

    def ended(self, pid: int) -> bool:
        """Whether the child has ended, without waiting."""
        return self._reap(pid)

    def pause(self, seconds: float, also: Sequence[int] = ()) -> None:
        """Wait, but no longer than until something happens, or one of the files ``also`` can be read."""
        self._sleep(seconds, also)

    def end_all(
        self,
        grace: float,
        told: frozenset[Key] = frozenset(),
        fade: float = 0.0,
    ) -> list[processes.Process]:
        """Nothing below this process runs any more, but for those spared; returns who had to be ended.

        Those who have been ``told`` to end are not told a second time; what ends by itself within ``fade`` seconds
        is not told at all.
        """

        def rest() -> list[processes.Process]:
            self._reap(0)
            return [child for child in self._below() if child.pid not in self._spared]

        def wait_while(some: Callable[[], object], seconds: float) -> None:
            deadline = time.monotonic() + seconds
            while some() and time.monotonic() < deadline:
                self._sleep(0.05)

        began = time.monotonic()
        wait_while(lambda: [child for child in rest() if (child.pid, child.started) in told], grace)
        wait_while(rest, min(fade, grace))
        leftover = rest()
        processes.send(
            [child.pid for child in leftover if (child.pid, child.started) not in told], signal.SIGTERM
        )
        wait_while(rest, max(0.0, began + grace - time.monotonic()))
        # Killed ones may have forked meanwhile: look again until nobody is there.
        deadline = time.monotonic() + LEFTOVER_SECONDS
        while time.monotonic() < deadline:
            still = rest()
            if not still:
                break
            processes.send([child.pid for child in still], signal.SIGKILL)
            self._sleep(0.05)
        return leftover

    def _below(self) -> list[processes.Process]:
        now = processes.table()
        if self.subreaper:
            return processes.descendants(os.getpid(), now)
        sessions = set(self._popen)
        return [
            process
            for process in now.values()
            if _group(process.pid) in sessions and process.state not in "ZX"
        ]

    def _reap(self, pid: int) -> bool:
        while True:
            try:
                reaped, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if reaped == 0:
                break
            known = self._popen.pop(reaped, None)
            if known is not None:
                known.returncode = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
                self._statuses[reaped] = status
                self._rss[reaped] = used.ru_maxrss * (1024 if processes.LINUX else 1)
        return pid in self._statuses

    def _sleep(self, seconds: float, also: Sequence[int] = ()) -> None:
        readable, _, _ = select.select([self._wake, *also], [], [], seconds)
        if self._wake in readable:
            with contextlib.suppress(BlockingIOError):
                while os.read(self._wake, 512):
                    pass


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return -1


def cpu_seconds() -> float:
    """CPU time of every descendant that has been waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
