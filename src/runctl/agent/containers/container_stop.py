"""Ends a container as a run on the host is ended: the training gets SIGTERM once, not whatever comes first in it."""

from __future__ import annotations

import signal
import time

from runctl.agent.machine import docker, processes
from runctl.agent.machine.shutdown import POLL_SECONDS, ProcessStopper, Shutdown


class ContainerStopper:
    """Who of a container's processes has been told to end.

    The engine would signal the container's first process alone. Its processes are processes of this machine, so
    that they can be looked at and told from here.
    """

    def __init__(self, engine: docker.Engine, container_id: str, pid: int = 0) -> None:
        self._engine = engine
        self._container_id = container_id
        self._processes = ProcessStopper()
        self._first = processes.identity(pid) if pid and processes.is_first_of(pid, container_id) else None
        self.requested = False
        """The container has been told to end."""
        self.told_at: float | None = None
        """When, in seconds since the epoch."""

    def request(self, shutdown: Shutdown) -> None:
        """Whoever SIGTERM is for now has got it."""
        if not processes.alive(self._first):
            self._first = self._first_process()
        if self._first is not None:
            self._processes.request([self._first.pid], processes.table(), shutdown)
            self.requested = self.requested or self._processes.requested
            self.told_at = self._processes.told_at
        elif not self.requested:
            # An engine on another machine, or behind a virtual one.
            done = self._engine.call("kill", "--signal", "TERM", self._container_id)
            self.requested = done.returncode == 0
            self.told_at = time.time() if self.requested else None

    def _first_process(self) -> processes.Identity | None:
        facts, _ = self._engine.inspect("container", self._container_id)
        pid = int(((facts or {}).get("State") or {}).get("Pid") or 0)
        return processes.identity(pid) if pid and processes.is_first_of(pid, self._container_id) else None

    def end(self, shutdown: Shutdown) -> None:
        """The container has ended: by itself when it was told to, or killed when the grace was over."""
        while not shutdown.over and self._runs():
            self.request(shutdown)
            time.sleep(POLL_SECONDS)
        if self._runs():
            self.kill()

    def kill(self) -> bool:
        """SIGKILL to all that is left in the container; false when nobody could do it."""
        if self._engine.call("kill", "--signal", "KILL", self._container_id).returncode == 0:
            return True
        if self._first is None or not processes.alive(self._first):
            return False
        # The engine is away; with its first process the kernel ends all others of the container.
        processes.send([self._first.pid], signal.SIGKILL)
        return True

    def _runs(self) -> bool:
        facts, _ = self._engine.inspect("container", self._container_id)
        return bool(((facts or {}).get("State") or {}).get("Running"))
