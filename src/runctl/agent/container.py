"""The phases of an attempt in a container: its image, its container, its output and its end."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import Any, Dict, Optional

from runctl.agent import (
    container_code,
    container_gpus,
    container_plan,
    dev_image,
    docker,
    ending,
    places,
    processes,
)
from runctl.agent.attempt import Attempt, Outcome
from runctl.agent.container_log import ContainerLog
from runctl.agent.container_wait import Waiter, state_of
from runctl.agent.errors import AgentError
from runctl.agent.facts import memory_bytes
from runctl.agent.host import conclude
from runctl.agent.image import ready_image
from runctl.agent.machine import login_user
from runctl.agent.spec import EndReason, RunSpec, RunState
from runctl.agent.state import Live

_NO_SUCH_PROGRAM = re.compile(r"executable file not found|no such file or directory|permission denied", re.I)


def run_in_container(attempt: Attempt) -> Outcome:
    """Make the image and the container, run it to its end, and remove the container."""
    spec = attempt.spec
    assert spec.container is not None  # noqa: S101 (the supervisor has looked)
    engine = docker.connect()
    places.make(attempt.where)
    (attempt.folder.path / "home").mkdir(exist_ok=True)
    image = _image(attempt, engine)
    attempt.update(image=image)
    facts, why = engine.inspect("image", image)
    if facts is None:
        raise AgentError(
            "image-failed", "the image {} cannot be inspected: {}".format(image, why or "it is gone")
        )
    code = container_code.place_code(attempt, engine, image)
    plan = _plan(attempt, engine, image, facts, code)
    places.make_inner_targets(
        spec.mounts, attempt.folder.work if plan.mount_code else None, plan.container.workdir
    )
    container_id = _create(attempt, engine, plan)
    attempt.update(container_id=container_id)
    try:
        if code.place is container_code.Place.OVER:
            user = login_user()
            container_code.put_over(
                attempt, engine, container_id, plan.container.workdir, (user.uid, user.gid)
            )
        attempt.check()
        return _run(attempt, engine, container_id)
    finally:
        engine.call("rm", "--force", "--volumes", container_id)
        if plan.user != docker.owner():
            places.give_to_user(attempt.where)


def _image(attempt: Attempt, engine: docker.Engine) -> str:
    reused = dev_image.reusable(attempt, engine)
    if reused is not None:
        return reused
    image = ready_image(attempt, engine)
    dev_image.remember(attempt, image)
    return image


def _plan(
    attempt: Attempt, engine: docker.Engine, image: str, facts: Dict[str, Any], code: container_code.Code
) -> container_plan.Plan:
    spec = attempt.spec
    assert spec.container is not None  # noqa: S101 (the supervisor has looked)
    gpus = container_gpus.decide(spec.container.gpus, container_gpus.look(engine))
    if gpus.warning:
        attempt.log.line("warning: " + gpus.warning)
    image_has = (facts.get("Config") or {}).get("Entrypoint")
    kept = container_plan.kept_entrypoint(spec, image_has)
    if image_has and kept is None and spec.container.entrypoint is None:
        attempt.log.line(
            "the image's entry point {} would not run the script: it is left out".format(
                json.dumps(image_has)
            )
        )
    user = spec.container.user
    if user not in (None, "", docker.owner()):
        attempt.log.line("note: checkpoints and output belong to {} afterwards".format(docker.owner()))
    return container_plan.Plan(
        spec=spec,
        image=image,
        where=attempt.where,
        folder=attempt.folder,
        mount_code=code.place is container_code.Place.MOUNT,
        entrypoint=kept,
        user=docker.owner() if user is None else user,
        user_name=docker.user_name(),
        gpus=gpus.value,
        shm_mib=spec.container.shm_mib or container_plan.shm_mib(memory_bytes()),
        head=code.head,
    )


def _create(attempt: Attempt, engine: docker.Engine, plan: container_plan.Plan) -> str:
    attempt.update(phase="creating the container")
    name = container_plan.name(plan.spec)
    env = container_plan.environment(plan)
    done = engine.call_with_secrets(container_plan.create(plan, sorted(env)), env)
    if done.returncode != 0:
        said = docker.words(done.stderr)
        raise AgentError("image-failed", "the container {} cannot be made: {}".format(name, said))
    gpus = {"": "", "all": ", with all GPUs"}.get(plan.gpus, ", with {} GPUs".format(plan.gpus))
    attempt.log.line(
        "container {} as {}{}".format(name, "user " + plan.user if plan.user else "the image's user", gpus)
    )
    return docker.words(done.stdout).splitlines()[-1]


def _what_runs(spec: RunSpec) -> str:
    """What to look at when the program that the container starts is not there."""
    assert spec.container is not None  # noqa: S101 (the supervisor has looked)
    if spec.container.entrypoint:
        return "is --entrypoint {} in the image, and executable there?".format(spec.container.entrypoint[0])
    if spec.is_command:
        return "the image needs the program that the command names"
    return "an image for training needs the program that runs the script: python3, or the shell that it names"


def _run(attempt: Attempt, engine: docker.Engine, container_id: str) -> Outcome:
    before, since = ending.oom_counters(), attempt.log.size()
    attempt.volumes.check_start()
    started = engine.call("start", container_id)
    if started.returncode != 0:
        said = docker.words(started.stderr)
        hint = _what_runs(attempt.spec) if _NO_SUCH_PROGRAM.search(said) else ""
        raise AgentError("image-failed", "the container cannot be started: {}".format(said), hint)
    attempt.script_began()
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
    state = waiter.wait(follower)
    follower.complete()
    outcome = conclude(attempt, waiter.as_ended(state), since, before, waiter.cpu_seconds)
    cannot_run = container_plan.init_failed(outcome.exit_code, attempt.log.tail(since))
    if cannot_run is not None:
        raise AgentError(
            "image-failed",
            "the container cannot run the script: {}".format(cannot_run),
            _what_runs(attempt.spec),
        )
    if state.get("OOMKilled") and outcome.reason in (EndReason.FAILED, EndReason.OUT_OF_MEMORY):
        reason, message = ending.decide_end(ending.Facts(state.get("ExitCode"), None, oom_kills=1))
        limit = int((facts.get("HostConfig") or {}).get("Memory") or 0)
        if limit:
            words = "the container reached its memory limit of {} MiB and the kernel killed the training"
            message = words.format(limit >> 20)
        return Outcome(reason, message, outcome.exit_code, outcome.signal, None, outcome.cpu_seconds)
    return outcome


@dataclass(frozen=True)
class Seen:
    """What the engine says about a container whose supervisor has gone."""

    running: bool = False
    unknown: bool = False
    message: str = ""
    reason: Optional[EndReason] = None
    exit_code: Optional[int] = None
    container_id: str = ""

    def forget(self) -> None:
        """The container is removed; its end has been written down."""
        docker.find().call("rm", "--force", "--volumes", self.container_id)


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
            reason=EndReason.LOST,
            message="its supervisor was killed before the container was started",
            container_id=container_id,
        )
    evidence = ending.Facts(exit_code=code, signal=None, oom_kills=int(bool(state.get("OOMKilled"))))
    reason, message = ending.decide_end(evidence)
    return Seen(
        reason=reason,
        message=message + " (its supervisor had gone before)",
        exit_code=code,
        container_id=container_id,
    )


def end_container(live: Live, grace: float) -> None:
    """A container without a supervisor is stopped and removed."""
    engine = docker.find()
    engine.call("stop", "--time", str(int(grace)), str(live.container_id), timeout=grace + 60)
    engine.call("rm", "--force", "--volumes", str(live.container_id))
