"""Waits for a container, ends it when asked to, and bears with an engine that goes away for a while."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Callable

from runctl.agent.containers import docker
from runctl.agent.containers.container_log import CollectedLog, ContainerLog
from runctl.agent.containers.container_stop import ContainerShutdown
from runctl.agent.errors import AgentError
from runctl.agent.machine import processes
from runctl.agent.supervising.attempt import Attempt
from runctl.agent.supervising.children import Ended
from runctl.agent.supervising.shutdown import POLL_SECONDS as ENDING_POLL_SECONDS

ENGINE_GONE_SECONDS = float(os.environ.get("RUNCTL_ENGINE_GONE_SECONDS") or 120.0)
"""How long an engine may be away (an upgrade restarts it) before the attempt counts as lost."""


def state_of(engine: docker.Engine, container_id: str) -> tuple[dict[str, Any] | None, str]:
    """As `Engine.inspect`."""
    return engine.inspect("container", container_id)


class Waiter:
    """Waits for a container, ends it when asked to, and bears with an engine that goes away for a while."""

    def __init__(self, attempt: Attempt, engine: docker.Engine, container_id: str, pid: int) -> None:
        self.attempt = attempt
        self.engine = engine
        self.container_id = container_id
        self.pid = pid
        self._shutdown = ContainerShutdown(engine, container_id, pid)
        self._kill_sent = False
        self.engine_left = False
        """The engine went away meanwhile; without live-restore it takes its containers along."""
        self.killed = False
        self.max_rss = 0
        self.cpu_seconds = 0.0
        self._began = self._next_sample = time.monotonic()

    def wait(
        self, follower: CollectedLog | ContainerLog, beside: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """The container's ``State`` when it has ended; ``beside`` is called again and again."""
        children = self.attempt.children
        waiting = self._docker("wait", self.container_id)
        unseen: float | None = None
        while True:
            self._sample()
            follower.keep_going()
            beside()
            self._end_if_wished()
            if children.ended(waiting):
                broken = children.wait(waiting).exit_code != 0
                facts, why = state_of(self.engine, self.container_id)
                state: dict[str, Any] = (facts or {}).get("State") or {}
                self.engine_left = self.engine_left or (broken and (facts is not None or bool(why)))
                if facts is not None and not state.get("Running"):
                    return state
                if facts is None and not why:
                    raise AgentError(
                        "lost", "somebody removed the container; how the script ended is not known"
                    )
                unseen = None if facts is not None else unseen or time.monotonic()
                if unseen is not None and time.monotonic() - unseen > ENGINE_GONE_SECONDS:
                    raise AgentError("lost", f"the Docker engine is gone: {why}")
                children.pause(1.0)
                waiting = self._docker("wait", self.container_id)
            children.pause(ENDING_POLL_SECONDS if self._shutdown.asked else 1.0)

    def _docker(self, *words: str) -> int:
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            argv = self.engine.command(*words)
            return self.attempt.children.start(argv, output=null, env=os.environ, cwd=Path("/"))
        finally:
            os.close(null)

    def _end_if_wished(self) -> None:
        wish = self.attempt.ending()
        if wish is None:
            return
        if not wish.over:
            self._shutdown.ask(wish)
        elif not self._kill_sent:
            self.killed = True
            self._kill_sent = self._shutdown.kill()

    def _sample(self) -> None:
        """The engine does not say what a container has used when it is over, so it is looked at meanwhile."""
        moment = time.monotonic()
        if moment < self._next_sample:
            return
        # Often at first, so that short runs are seen, then rarely: the machine is the training's.
        self._next_sample = moment + min(10.0, (moment - self._began) / 5)
        now = processes.table()
        members = processes.descendants(self.pid, now) if self.pid else []
        members += [now[self.pid]] if self.pid in now else []
        self.max_rss = max(self.max_rss, sum(one.rss_bytes for one in members))
        self.cpu_seconds = max(self.cpu_seconds, sum(one.cpu_seconds for one in members))

    def as_ended(self, state: dict[str, Any]) -> Ended:
        """The same words as for a script on the host; its init reports a signal as 128 + its number."""
        code = int(state.get("ExitCode") or 0)
        number = code - 128 if 128 < code <= 128 + 64 else None
        return Ended(code, number, self.max_rss, self.killed or self._shutdown.asked, self.killed)
