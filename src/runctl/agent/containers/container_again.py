"""Containers whose supervisor has gone: looked at, ended and removed by whoever asks."""

from __future__ import annotations

import time
from dataclasses import dataclass

from runctl.agent.containers import docker
from runctl.agent.containers.compose_project import remove_project
from runctl.agent.containers.container_stop import ContainerShutdown
from runctl.agent.containers.container_wait import state_of
from runctl.agent.spec import EndReason
from runctl.agent.supervising import end_reason as ending
from runctl.agent.supervising.shutdown import Ending
from runctl.agent.supervising.state import Live


@dataclass(frozen=True)
class Seen:
    """What the engine says about a container whose supervisor has gone."""

    running: bool = False
    unknown: bool = False
    message: str = ""
    reason: EndReason | None = None
    exit_code: int | None = None


def look_again(live: Live) -> Seen:
    """Ask the engine: a container needs no supervisor to go on, nor to keep its exit code."""
    container_id = str(live.container_id)
    engine = docker.find()
    if not engine.available:
        return Seen(
            unknown=True,
            message="its supervisor is gone, and the Docker engine cannot be asked: " + engine.reason,
        )
    facts, why = state_of(engine, container_id)
    if facts is None:
        return Seen(unknown=True, message="its supervisor is gone: " + why) if why else Seen()
    state = facts["State"]
    if state.get("Running"):
        return Seen(running=True, message="its supervisor is gone; the container goes on")
    code = int(state.get("ExitCode") or 0)
    if state.get("Status") == "created":
        return Seen(
            reason=EndReason.LOST, message="its supervisor was killed before the container was started"
        )
    evidence = ending.Facts(exit_code=code, signal=None, oom_kills=int(bool(state.get("OOMKilled"))))
    reason, message = ending.decide_end(evidence)
    return Seen(
        reason=reason,
        message=message + " (its supervisor had gone before)",
        exit_code=code,
    )


def end_container(live: Live, grace: float) -> None:
    """A container without a supervisor is stopped and removed, with what was started beside it."""
    if live.container_id is not None:
        wish = Ending(time.monotonic(), grace)
        ContainerShutdown(docker.find(), str(live.container_id)).end(wish)
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
