"""A container's output in the attempt's log: all of it, once, whatever happens to the one who copies it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from runctl.agent.attempt.children import LEFTOVER_SECONDS
from runctl.agent.machine import processes

if TYPE_CHECKING:
    from runctl.agent.attempt.attempt import Attempt
    from runctl.agent.machine.docker import Engine

BLOCK = 1 << 16
MOST_PAUSE_SECONDS = 30.0
"""Reading a log from its beginning costs more the longer it is."""


class CollectedLog:
    """The container's processes write into the run's own pipe; what came from before them is with the engine."""

    def __init__(self, attempt: Attempt, engine: Engine, container_id: str) -> None:
        self._attempt = attempt
        self._engine = engine
        self._container_id = container_id

    def start(self) -> None:
        """The pipe is open before the container is."""
        self._attempt.collector.start()

    def identity(self) -> processes.Identity | None:
        """Who copies."""
        return self._attempt.collector.identity()

    def keep_going(self) -> None:
        """`Attempt.ending` sees to it."""

    def complete(self) -> None:
        """Everything the container said is in the log."""
        self._attempt.collector.finish()
        with subprocess.Popen(
            self._engine.command("logs", self._container_id),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as child:
            said = child.communicate()[0]
        if said and child.returncode == 0:
            self._attempt.log.lines(said)


class ContainerLog:
    """``docker logs --follow`` writes to the log itself; at the end what it may have missed is added."""

    def __init__(self, attempt: Attempt, engine: Engine, container_id: str) -> None:
        self._attempt = attempt
        self._engine = engine
        self._container_id = container_id
        self._began = attempt.log.size()
        self._own = attempt.log.own_bytes
        self._pid: int | None = None
        self._pause = 1.0
        self._next_check = 0.0

    def start(self) -> None:
        """Follow from the container's first byte on."""
        argv = self._engine.command("logs", "--follow", self._container_id)
        self._pid = self._attempt.children.start(
            argv, output=self._attempt.log.fd, env=os.environ, cwd=Path("/")
        )

    def identity(self) -> processes.Identity | None:
        """Who copies."""
        return None if self._pid is None else processes.identity(self._pid)

    def keep_going(self) -> None:
        """Take over from a follower that has ended (as it does when the engine restarts)."""
        if self._pid is not None and self._attempt.children.ended(self._pid):
            self._attempt.children.wait(self._pid)
            self._pid = None
        if self._pid is None and time.monotonic() >= self._next_check:
            self._add_missing()
            self._pause = min(2 * self._pause, MOST_PAUSE_SECONDS)
            self._next_check = time.monotonic() + self._pause

    def complete(self) -> None:
        """Everything the container said is in the log."""
        deadline = time.monotonic() + LEFTOVER_SECONDS
        while self._pid is not None and time.monotonic() < deadline:
            if self._attempt.children.ended(self._pid):
                self._attempt.children.wait(self._pid)
                self._pid = None
                break
            self._attempt.children.pause(0.2)
        if self._pid is not None:
            self._attempt.children.end_all(1.0)
            self._pid = None
        self._add_missing()

    def _copied(self) -> int:
        """Bytes of the container's that the log has: all since the start but for our own."""
        log = self._attempt.log
        return log.size() - self._began - (log.own_bytes - self._own)

    def _add_missing(self) -> None:
        skip = self._copied()
        argv = self._engine.command("logs", self._container_id)
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as child:
            assert child.stdout is not None  # noqa: S101 (it is a pipe)
            while True:
                block = child.stdout.read(BLOCK)
                if not block:
                    break
                missing = block[skip:]
                skip = max(0, skip - len(block))
                if missing:
                    own = self._attempt.log.own_bytes
                    self._attempt.log.write(missing)
                    # These are the container's bytes, not ours.
                    self._attempt.log.own_bytes = own
