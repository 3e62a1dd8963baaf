"""The phases of an attempt in a container: its image, its container, its output and its end."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from runctl.agent import container_plan, docker, ending, places, processes
from runctl.agent.attempt import Attempt, Outcome
from runctl.agent.children import Ended
from runctl.agent.container_log import ContainerLog
from runctl.agent.errors import AgentError
from runctl.agent.facts import memory_bytes
from runctl.agent.host import conclude
from runctl.agent.image import ready_image
from runctl.agent.spec import EndReason, RunState
from runctl.agent.state import Live

NO_PROGRAM = (
    "an image for training needs the program that runs the script: python3, or the shell that it names"
)
ENGINE_GONE_SECONDS = 120.0
"""How long an engine may be away (an upgrade restarts it) before the attempt counts as lost."""


def run_in_container(attempt: Attempt) -> Outcome:
    """Make the image and the container, run it to its end, and remove the container."""
    spec = attempt.spec
    assert spec.container is not None  # noqa: S101 (the supervisor has looked)
    engine = docker.connect()
    places.make(attempt.where)
    (attempt.folder.path / "home").mkdir(exist_ok=True)
    image = ready_image(attempt, engine)
    attempt.update(image=image)
    facts, why = engine.inspect("image", image)
    if facts is None:
        raise AgentError(
            "image-failed", "the image {} cannot be inspected: {}".format(image, why or "it is gone")
        )
    mount_code = _mount_code(attempt, engine, image)
    entrypoint = container_plan.entrypoint((facts.get("Config") or {}).get("Entrypoint"))
    plan = container_plan.Plan(
        spec=spec,
        image=image,
        where=attempt.where,
        folder=attempt.folder,
        mount_code=mount_code,
        entrypoint=entrypoint,
        user=docker.owner(),
        user_name=docker.user_name(),
        gpus=docker.gpu_ready(engine),
        shm_mib=container_plan.shm_mib(memory_bytes()),
    )
    container_id = _create(attempt, engine, plan)
    attempt.update(container_id=container_id)
    try:
        attempt.check()
        return _run(attempt, engine, container_id)
    finally:
        engine.call("rm", "--force", "--volumes", container_id)


def _mount_code(attempt: Attempt, engine: docker.Engine, image: str) -> bool:
    """Whether the synced project is mounted over the image's working folder."""
    container = attempt.spec.container
    assert container is not None  # noqa: S101 (the supervisor has looked)
    in_tree = attempt.folder.work / attempt.spec.script
    if container.code == "mount":
        return True
    path = container_plan.script_in_image(attempt.spec)
    content = _file_in_image(engine, image, path)
    if content is None:
        if container.code == "auto" and in_tree.is_file():
            attempt.log.line(
                "the image has no {}: the synced project is mounted at {}".format(path, container.workdir)
            )
            return True
        raise AgentError(
            "image-failed",
            "the image has no {}".format(path),
            "COPY the project to {} in the Dockerfile, or sync the code and have it mounted".format(
                container.workdir
            ),
        )
    attempt.log.line("running {} as it is in the image".format(path))
    if in_tree.is_file() and container.image is not None and in_tree.read_bytes() != content:
        attempt.log.line("warning: it differs from the synced {}".format(attempt.spec.script))
    return False


def _file_in_image(engine: docker.Engine, image: str, path: str) -> Optional[bytes]:
    """The content of a file of an image, ``None`` if it has none: looked at without running anything."""
    import io
    import tarfile

    made = engine.call("create", "--entrypoint", "/runctl-looks-only", image)
    if made.returncode != 0:
        raise AgentError(
            "image-failed", "no container can be made of {}: {}".format(image, docker.words(made.stderr))
        )
    probe = docker.words(made.stdout)
    try:
        copied = engine.call("cp", "--follow-link", "{}:{}".format(probe, path), "-", timeout=120.0)
    finally:
        engine.call("rm", "--force", "--volumes", probe)
    if copied.returncode != 0:
        return None
    with tarfile.open(fileobj=io.BytesIO(copied.stdout)) as archive:
        for entry in archive:
            if entry.isfile():
                file = archive.extractfile(entry)
                return file.read() if file is not None else b""
    return None


def _create(attempt: Attempt, engine: docker.Engine, plan: container_plan.Plan) -> str:
    attempt.update(phase="creating the container")
    name = container_plan.name(plan.spec)
    env = container_plan.environment(plan)
    done = engine.call_with_secrets(container_plan.create(plan, sorted(env)), env)
    if done.returncode != 0:
        said = docker.words(done.stderr)
        raise AgentError("image-failed", "the container {} cannot be made: {}".format(name, said))
    user = "as user {}".format(plan.user)
    attempt.log.line("container {} {}{}".format(name, user, ", with GPUs" if plan.gpus else ""))
    return docker.words(done.stdout).splitlines()[-1]


def _run(attempt: Attempt, engine: docker.Engine, container_id: str) -> Outcome:
    before, since = ending.oom_counters(), attempt.log.size()
    started = engine.call("start", container_id)
    if started.returncode != 0:
        said = docker.words(started.stderr)
        hint = NO_PROGRAM if "executable file not found" in said else ""
        raise AgentError("image-failed", "the container cannot be started: {}".format(said), hint)
    attempt.script_began()
    follower = ContainerLog(attempt, engine, container_id)
    follower.start()
    facts = _state(engine, container_id)[0] or {}
    pid = int((facts.get("State") or {}).get("Pid") or 0)
    attempt.update(
        state=RunState.RUNNING,
        phase="running",
        started_at=time.time(),
        script=processes.identity(pid) if pid else None,
        follower=follower.identity(),
    )
    waiter = _Waiter(attempt, engine, container_id, pid)
    state = waiter.wait(follower)
    follower.complete()
    outcome = conclude(attempt, waiter.as_ended(state), since, before, waiter.cpu_seconds)
    cannot_run = container_plan.init_failed(outcome.exit_code, attempt.log.tail(since))
    if cannot_run is not None:
        raise AgentError(
            "image-failed", "the container cannot run the script: {}".format(cannot_run), NO_PROGRAM
        )
    if state.get("OOMKilled") and outcome.reason is EndReason.FAILED:
        reason, message = ending.decide_end(ending.Facts(state.get("ExitCode"), None, oom_kills=1))
        return Outcome(reason, message, outcome.exit_code, outcome.signal, None, outcome.cpu_seconds)
    return outcome


def _state(engine: docker.Engine, container_id: str) -> Tuple[Optional[Dict[str, Any]], str]:
    return engine.inspect("container", container_id)


class _Waiter:
    """Waits for a container, ends it when asked to, and bears with an engine that goes away for a while."""

    def __init__(self, attempt: Attempt, engine: docker.Engine, container_id: str, pid: int) -> None:
        self.attempt = attempt
        self.engine = engine
        self.container_id = container_id
        self.pid = pid
        self.asked = False
        self.killed = False
        self.max_rss = 0
        self.cpu_seconds = 0.0
        self._began = self._next_sample = time.monotonic()

    def wait(self, follower: ContainerLog) -> Dict[str, Any]:
        """The container's ``State`` when it has ended."""
        children = self.attempt.children
        waiting = self._docker("wait", self.container_id)
        unseen: Optional[float] = None
        while True:
            self._sample()
            follower.keep_going()
            self._end_if_wished()
            if children.ended(waiting):
                children.wait(waiting)
                facts, why = _state(self.engine, self.container_id)
                state: Dict[str, Any] = (facts or {}).get("State") or {}
                if facts is not None and not state.get("Running"):
                    return state
                if facts is None and not why:
                    raise AgentError(
                        "lost", "somebody removed the container; how the script ended is not known"
                    )
                unseen = None if facts is not None else unseen or time.monotonic()
                if unseen is not None and time.monotonic() - unseen > ENGINE_GONE_SECONDS:
                    raise AgentError("lost", "the Docker engine is gone: {}".format(why))
                children.pause(1.0)
                waiting = self._docker("wait", self.container_id)
            children.pause(1.0)

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
        if not self.asked:
            self.asked = True
            self.engine.call("kill", "--signal", "TERM", self.container_id)
        if not self.killed and time.monotonic() - wish.began >= wish.grace:
            self.killed = True
            self.engine.call("kill", "--signal", "KILL", self.container_id)

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

    def as_ended(self, state: Dict[str, Any]) -> Ended:
        """The same words as for a script on the host; its init reports a signal as 128 + its number."""
        code = int(state.get("ExitCode") or 0)
        number = code - 128 if 128 < code <= 128 + 64 else None
        return Ended(code, number, self.max_rss, self.asked, self.killed)


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
    facts, why = _state(engine, container_id)
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
