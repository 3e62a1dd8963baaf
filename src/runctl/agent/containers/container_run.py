"""Runs a container to its end: started, its output copied, told to end when asked, and its end understood."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import time
from pathlib import Path
from typing import Any, Callable, Protocol

from runctl.agent.attempt.attempt import Attempt, Outcome
from runctl.agent.attempt.children import Exited
from runctl.agent.attempt.end_decision import Facts, decide_end
from runctl.agent.attempt.evidence import conclude, oom_counters
from runctl.agent.containers import container_plan
from runctl.agent.containers.container_log import CollectedLog, ContainerLog
from runctl.agent.containers.container_stop import ContainerStopper
from runctl.agent.end_reason import EndReason
from runctl.agent.errors import AgentError
from runctl.agent.machine import docker, processes
from runctl.agent.machine.shutdown import POLL_SECONDS as SHUTDOWN_POLL_SECONDS
from runctl.agent.spec import ContainerSpec, RunState

ENGINE_GONE_SECONDS = float(os.environ.get("RUNCTL_ENGINE_GONE_SECONDS") or 120.0)
"""How long an engine may be away (an upgrade restarts it) before the attempt counts as lost."""
_NO_SUCH_PROGRAM = re.compile(r"executable file not found|no such file or directory|permission denied", re.I)


class Companion(Protocol):
    """What runs while the run's container runs, and ends with it."""

    def keep_going(self) -> None:
        """Called about once a second."""
        ...

    def close(self) -> None:
        """The container has ended."""
        ...


def run_to_end(
    attempt: Attempt,
    engine: docker.Engine,
    container: ContainerSpec,
    container_id: str,
    start: Callable[[], None] | None = None,
    companion: Companion | None = None,
) -> Outcome:
    """Start the container, copy its output, wait for its end and say why it ended.

    ``start`` starts it in another way than by itself; the ``companion`` is kept going meanwhile. Raises `AgentError`.
    """
    attempt.wait_for_nodes()
    before = oom_counters()
    attempt.volumes.check_start()
    since = attempt.log.size()
    log: CollectedLog | ContainerLog
    collected = attempt.collector.reaches_containers
    if collected:
        log = CollectedLog(attempt, engine, container_id)
        log.start()
    if start is None:
        _start(attempt, engine, container, container_id)
    else:
        start()
    attempt.script_began()
    if not collected:
        since = attempt.log.size()
        log = ContainerLog(attempt, engine, container_id)
        log.start()
    facts = engine.inspect("container", container_id)[0] or {}
    pid = int((facts.get("State") or {}).get("Pid") or 0)
    attempt.update(
        state=RunState.RUNNING,
        phase="running",
        started_at=attempt.live.started_at or time.time(),
        script=processes.identity(pid) if pid else None,
        follower=log.identity(),
    )
    waiter = Waiter(attempt, engine, container_id, pid)
    state = waiter.wait(log, companion)
    attempt.script_ended(waiter.told_at)
    log.complete()
    if companion is not None:
        companion.close()
    outcome = conclude(attempt, waiter.exited(state), since, before, waiter.cpu_seconds)
    if waiter.engine_left and outcome.reason is EndReason.FAILED:
        outcome = dataclasses.replace(outcome, message=outcome.message + engine_left(outcome))
    cannot_run = container_plan.init_failed(outcome.exit_code, attempt.log.tail(since))
    if cannot_run is not None:
        raise AgentError(
            "image-failed",
            f"the container cannot run the script: {cannot_run}",
            program_hint(container, is_command=attempt.spec.is_command),
        )
    if state.get("OOMKilled") and outcome.reason in (EndReason.FAILED, EndReason.OUT_OF_MEMORY):
        memory_limit = int((facts.get("HostConfig") or {}).get("Memory") or 0)
        return _out_of_memory(outcome, state.get("ExitCode"), memory_limit)
    return outcome


def _start(attempt: Attempt, engine: docker.Engine, container: ContainerSpec, container_id: str) -> None:
    started = engine.call("start", container_id)
    if started.returncode != 0:
        reason, hint = docker.text(started.stderr), ""
        if _NO_SUCH_PROGRAM.search(reason):
            hint = program_hint(container, is_command=attempt.spec.is_command)
        raise AgentError("image-failed", f"the container cannot be started: {reason}", hint)


def _out_of_memory(outcome: Outcome, exit_code: int | None, memory_limit: int) -> Outcome:
    reason, message = decide_end(Facts(exit_code, None, oom_kills=1))
    if memory_limit:
        limit = f"{memory_limit >> 20} MiB"
        message = f"the container reached its memory limit of {limit} and the kernel killed the training"
    return Outcome(reason, message, outcome.exit_code, outcome.signal, None, outcome.cpu_seconds)


def program_hint(container: ContainerSpec, *, is_command: bool) -> str:
    """What to check when the program that the container starts is not there."""
    if container.entrypoint:
        return f"is --entrypoint {container.entrypoint[0]} in the image, and executable there?"
    if is_command:
        return "the image needs the program that the command names"
    return "an image for training needs the program that runs the script: python3, or the shell that it names"


def engine_left(outcome: Outcome) -> str:
    """What to add to the end of a container whose engine went away meanwhile."""
    if outcome.signal in (signal.SIGTERM, signal.SIGKILL):
        return "; the Docker engine had ended, and with it its containers (it has no live-restore)"
    return "; the Docker engine was away for a while"


class Waiter:
    """Waits for a container, ends it when asked to, and tolerates a restart of the engine."""

    def __init__(self, attempt: Attempt, engine: docker.Engine, container_id: str, pid: int) -> None:
        self.attempt = attempt
        self.engine = engine
        self.container_id = container_id
        self.pid = pid
        self._stopper = ContainerStopper(engine, container_id, pid)
        self._kill_sent = False
        self.engine_left = False
        """The engine went away meanwhile; without live-restore it takes its containers along."""
        self.killed = False
        self.max_rss = 0
        self.cpu_seconds = 0.0
        self._began = self._next_sample = time.monotonic()

    def wait(self, log: CollectedLog | ContainerLog, companion: Companion | None = None) -> dict[str, Any]:
        """The container's ``State`` when it has ended; ``log`` and ``companion`` are kept going meanwhile.

        Raises `AgentError` (``lost``).
        """
        children = self.attempt.children
        waiting = self._docker_wait()
        unseen: float | None = None
        while True:
            self._sample()
            log.keep_going()
            if companion is not None:
                companion.keep_going()
            self._shut_down_if_asked()
            if children.ended(waiting):
                broken = children.wait(waiting).exit_code != 0
                facts, why = self.engine.inspect("container", self.container_id)
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
                waiting = self._docker_wait()
            children.pause(SHUTDOWN_POLL_SECONDS if self._stopper.requested else 1.0)

    def _docker_wait(self) -> int:
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            argv = self.engine.command("wait", self.container_id)
            return self.attempt.children.start(argv, output=null, env=os.environ, cwd=Path("/"))
        finally:
            os.close(null)

    def _shut_down_if_asked(self) -> None:
        shutdown = self.attempt.shutdown()
        if shutdown is None:
            return
        if not shutdown.over:
            self._stopper.request(shutdown)
        elif not self._kill_sent:
            self.killed = True
            self._kill_sent = self._stopper.kill()

    @property
    def told_at(self) -> float | None:
        """When the container was told to end, in seconds since the epoch."""
        return self._stopper.told_at

    def _sample(self) -> None:
        """The engine does not say what a container has used when it is over, so it is measured meanwhile."""
        moment = time.monotonic()
        if moment < self._next_sample:
            return
        # Often at first, so that short runs are seen, then rarely: the machine is the training's.
        self._next_sample = moment + min(10.0, (moment - self._began) / 5)
        now = processes.table()
        members = processes.descendants(self.pid, now) if self.pid else []
        members += [now[self.pid]] if self.pid in now else []
        self.max_rss = max(self.max_rss, sum(process.rss_bytes for process in members))
        self.cpu_seconds = max(self.cpu_seconds, sum(process.cpu_seconds for process in members))

    def exited(self, state: dict[str, Any]) -> Exited:
        """As for a script on the host; the container's init reports a signal as 128 + its number."""
        code = int(state.get("ExitCode") or 0)
        number = code - 128 if 128 < code <= 128 + 64 else None
        return Exited(code, number, self.max_rss, self.killed or self._stopper.requested, self.killed)
