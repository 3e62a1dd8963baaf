"""Runs a container that has been made to its end: started, its output copied, its end understood."""

from __future__ import annotations

import dataclasses
import re
import signal
import time
from typing import Callable

from runctl.agent.containers import container_plan, docker
from runctl.agent.containers.container_log import CollectedLog, ContainerLog
from runctl.agent.containers.container_wait import Waiter, state_of
from runctl.agent.errors import AgentError
from runctl.agent.machine import processes
from runctl.agent.spec import EndReason, RunSpec, RunState
from runctl.agent.supervising import end_reason as ending
from runctl.agent.supervising.attempt import Attempt, Outcome
from runctl.agent.supervising.host import conclude

_NO_SUCH_PROGRAM = re.compile(r"executable file not found|no such file or directory|permission denied", re.I)


class Beside:
    """What goes on beside the run's container."""

    def look(self) -> None:
        """Called about once a second."""

    def close(self) -> None:
        """The container has ended."""


def _start(attempt: Attempt, engine: docker.Engine, container_id: str) -> None:
    started = engine.call("start", container_id)
    if started.returncode != 0:
        said = docker.words(started.stderr)
        hint = what_runs(attempt.spec) if _NO_SUCH_PROGRAM.search(said) else ""
        raise AgentError("image-failed", f"the container cannot be started: {said}", hint)


def what_runs(spec: RunSpec) -> str:
    """What to look at when the program that the container starts is not there."""
    assert spec.container is not None  # noqa: S101 (the supervisor has looked)
    if spec.container.entrypoint:
        return f"is --entrypoint {spec.container.entrypoint[0]} in the image, and executable there?"
    if spec.is_command:
        return "the image needs the program that the command names"
    return "an image for training needs the program that runs the script: python3, or the shell that it names"


def engine_left(outcome: Outcome) -> str:
    """What to add to the end of a container whose engine went away meanwhile."""
    if outcome.signal in (signal.SIGTERM, signal.SIGKILL):
        return "; the Docker engine had ended, and with it its containers (it has no live-restore)"
    return "; the Docker engine was away for a while"


def run_to_end(
    attempt: Attempt,
    engine: docker.Engine,
    container_id: str,
    start: Callable[[], None] | None = None,
    beside: Beside | None = None,
) -> Outcome:
    """Start the container, copy its output, wait for its end and say why it ended.

    ``start`` starts it in another way than by itself; ``beside`` is looked after meanwhile. Raises `AgentError`.
    """
    before = ending.oom_counters()
    attempt.volumes.check_start()
    since = attempt.log.size()
    follower: CollectedLog | ContainerLog
    collected = attempt.collector.reaches_containers
    if collected:
        follower = CollectedLog(attempt, engine, container_id)
        follower.start()
    if start is None:
        _start(attempt, engine, container_id)
    else:
        start()
    attempt.script_began()
    if not collected:
        since = attempt.log.size()
        follower = ContainerLog(attempt, engine, container_id)
        follower.start()
    facts = state_of(engine, container_id)[0] or {}
    pid = int((facts.get("State") or {}).get("Pid") or 0)
    attempt.update(
        state=RunState.RUNNING,
        phase="running",
        started_at=time.time(),
        script=processes.identity(pid) if pid else None,
        follower=follower.identity(),
    )
    waiter = Waiter(attempt, engine, container_id, pid)
    state = waiter.wait(follower, beside.look if beside is not None else lambda: None)
    follower.complete()
    if beside is not None:
        beside.close()
    outcome = conclude(attempt, waiter.as_ended(state), since, before, waiter.cpu_seconds)
    if waiter.engine_left and outcome.reason is EndReason.FAILED:
        outcome = dataclasses.replace(outcome, message=outcome.message + engine_left(outcome))
    cannot_run = container_plan.init_failed(outcome.exit_code, attempt.log.tail(since))
    if cannot_run is not None:
        raise AgentError(
            "image-failed",
            f"the container cannot run the script: {cannot_run}",
            what_runs(attempt.spec),
        )
    if state.get("OOMKilled") and outcome.reason in (EndReason.FAILED, EndReason.OUT_OF_MEMORY):
        reason, message = ending.decide_end(ending.Facts(state.get("ExitCode"), None, oom_kills=1))
        limit = int((facts.get("HostConfig") or {}).get("Memory") or 0)
        if limit:
            words = "the container reached its memory limit of {} MiB and the kernel killed the training"
            message = words.format(limit >> 20)
        return Outcome(reason, message, outcome.exit_code, outcome.signal, None, outcome.cpu_seconds)
    return outcome
