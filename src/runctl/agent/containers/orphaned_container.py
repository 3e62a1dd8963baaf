"""Containers whose supervisor has gone: inspected, ended and removed by whoever asks."""

from __future__ import annotations

import time

from runctl._dataclasses import dataclass
from runctl.agent.attempt.end_decision import Facts, decide_end
from runctl.agent.containers.companions import remove_project
from runctl.agent.containers.container_stop import ContainerStopper
from runctl.agent.end_reason import EndReason
from runctl.agent.machine import docker
from runctl.agent.machine.shutdown import Shutdown
from runctl.agent.records import Live


@dataclass(frozen=True)
class OrphanedContainer:
    """What the engine says about a container whose supervisor has gone."""

    running: bool = False
    unknown: bool = False
    message: str = ""
    reason: EndReason | None = None
    exit_code: int | None = None


def inspect_orphan(live: Live) -> OrphanedContainer:
    """Ask the engine: a container needs no supervisor to go on, nor to keep its exit code."""
    container_id = str(live.container_id)
    engine = docker.find()
    if not engine.available:
        return OrphanedContainer(
            unknown=True,
            message="its supervisor is gone, and the Docker engine cannot be asked: " + engine.reason,
        )
    facts, why = engine.inspect("container", container_id)
    if facts is None:
        return (
            OrphanedContainer(unknown=True, message="its supervisor is gone: " + why)
            if why
            else OrphanedContainer()
        )
    state = facts["State"]
    if state.get("Running"):
        return OrphanedContainer(running=True, message="its supervisor is gone; the container goes on")
    code = int(state.get("ExitCode") or 0)
    if state.get("Status") == "created":
        return OrphanedContainer(
            reason=EndReason.LOST, message="its supervisor was killed before the container was started"
        )
    evidence = Facts(exit_code=code, signal=None, oom_kills=int(bool(state.get("OOMKilled"))))
    reason, message = decide_end(evidence)
    return OrphanedContainer(
        reason=reason,
        message=message + " (its supervisor had gone before)",
        exit_code=code,
    )


def end_container(live: Live, grace: float) -> None:
    """A container without a supervisor is stopped and removed, with the services that were started for it."""
    if live.container_id is not None:
        shutdown = Shutdown(time.monotonic(), grace)
        ContainerStopper(docker.find(), str(live.container_id)).end(shutdown)
    forget(live)


def forget(live: Live) -> None:
    """Nothing is left of the attempt in the engine; its end has been, or is about to be, written down."""
    engine = docker.find()
    if not engine.available:
        return
    if live.container_id is not None:
        engine.call("rm", "--force", "--volumes", str(live.container_id))
    if live.compose_project is not None:
        remove_project(engine, live.compose_project)
