"""A run that is one service of a Compose project, with the others as its side-cars."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runctl.agent.containers import (
    compose_plan,
    container_code,
    container_folder,
    container_plan,
    docker,
    docker_root,
)
from runctl.agent.containers.compose_plan import Service
from runctl.agent.containers.compose_project import members, remove_project
from runctl.agent.containers.compose_side import SideCars
from runctl.agent.containers.container_made import make_plan
from runctl.agent.containers.container_run import run_to_end
from runctl.agent.disks import places
from runctl.agent.errors import AgentError
from runctl.agent.images.image_pull import pull_image
from runctl.agent.images.image_step import image_step
from runctl.agent.machine import durable
from runctl.agent.machine.root import agent_as_root, login_user
from runctl.agent.supervising.attempt import Attempt, Outcome


@dataclass(frozen=True)
class Call:
    """A command line of Compose, its variables, and what it reads."""

    argv: list[str]
    env: dict[str, str]
    stdin: int | None


class Compose:
    """Whichever Compose this machine has, for one project."""

    def __init__(
        self,
        engine: docker.Engine,
        plugin: bool,
        project: str,
        folder: Path,
        file: str,
        variables: Mapping[str, str],
    ) -> None:
        self._engine = engine
        self._plugin = plugin
        self._files = [str(folder / file)]
        self._folder = folder
        self._project = project
        # As `train` builds: a Dockerfile that works there works here.
        build = {"DOCKER_BUILDKIT": "1", "COMPOSE_DOCKER_CLI_BUILD": "1"} if docker.buildkit() else {}
        self._variables = {**build, "PWD": str(folder), **variables}

    def over(self, override: Path) -> None:
        """From now on with this file over the project's own."""
        self._files = [self._files[0], str(override)]

    @contextlib.contextmanager
    def call(self, *arguments: str) -> Iterator[Call]:
        """What to start. The variables may be secret: they are in the environment, never in an argument."""
        files = [word for file in self._files for word in ("--file", file)]
        every = [
            "--project-name",
            self._project,
            "--project-directory",
            str(self._folder),
            *files,
            *arguments,
        ]
        program = ["docker", "compose"] if self._plugin else ["docker-compose"]
        argv = [*program, "--ansi", "never", *every]
        if not self._engine.by_sudo:
            yield Call(argv, self._variables, None)
            return
        # sudo passes no variables on.
        passed = {"DOCKER_HOST": os.environ["DOCKER_HOST"]} if "DOCKER_HOST" in os.environ else {}
        with tempfile.TemporaryFile() as request:
            request.write(json.dumps({"argv": argv, "env": {**passed, **self._variables}}).encode())
            request.seek(0)
            yield Call(agent_as_root("exec"), {}, request.fileno())


def has_plugin(engine: docker.Engine) -> bool:
    """Whether ``docker compose`` is there; ``docker-compose`` of before is the other way.

    Raises `AgentError` (``no-compose``) when neither is.
    """
    done = engine.call("compose", "version", "--short")
    if done.returncode == 0 and docker.words(done.stdout)[:1].lstrip("v").isdigit():
        return True
    if shutil.which("docker-compose") is not None:
        return False
    raise AgentError(
        "no-compose",
        "this machine has neither docker compose (the plug-in) nor docker-compose",
        "install one of them: docker-compose-plugin or docker-compose, by the machine's package manager",
    )


def run_with_compose(attempt: Attempt) -> Outcome:
    """Start the services, run the chosen one to its end, and remove them all, whatever happens."""
    spec = attempt.spec
    assert spec.container is not None  # noqa: S101 (the supervisor has looked)
    service, file = str(spec.container.compose), str(spec.container.compose_file)
    docker_root.use_instance_store(attempt)
    engine = docker.connect()
    project = compose_plan.project_name(spec)
    compose = Compose(engine, has_plugin(engine), project, attempt.folder.work, file, spec.compose_env)
    places.make(attempt.where)
    (attempt.folder.path / "home").mkdir(exist_ok=True)
    services = _services(attempt, compose, service, file)
    for one in services:
        if one.image and not one.builds:
            pull_image(attempt, engine, one.image)
            attempt.check()
    attempt.update(compose_project=project)
    try:
        container_id = _make(attempt, engine, compose, service, services)
        attempt.update(container_id=container_id)
        attempt.check()
        return _run(attempt, engine, compose, container_id, services)
    finally:
        remove_project(engine, project)
        if spec.container.user not in (None, docker.owner()):
            places.give_to_user(attempt.where)


def _services(attempt: Attempt, compose: Compose, service: str, file: str) -> list[Service]:
    attempt.update(phase=f"reading {file}")
    out = attempt.folder.path / "compose.txt"
    since = attempt.log.size()
    fd = os.open(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, durable.PRIVATE)
    try:
        with compose.call("config") as call:
            pid = attempt.children.start(
                call.argv,
                output=fd,
                env={**os.environ, **call.env, **attempt.marks()},
                cwd=attempt.folder.work,
                errors=attempt.log.fd,
                stdin=call.stdin,
            )
            ended = attempt.wait_setup(pid)
    finally:
        os.close(fd)
    text = out.read_text(errors="replace")
    out.unlink()
    if ended.exit_code != 0:
        said = attempt.log.last_lines(since) or text[-2000:]
        raise AgentError(
            "image-failed",
            f"{file} cannot be used:\n{said}",
            "check it with: docker compose config",
        )
    services = compose_plan.parse_services(text)
    if service not in [one.name for one in services]:
        known = ", ".join(one.name for one in services) or "none"
        raise AgentError("image-failed", f"{file} has no service {service}; it has {known}")
    return services


def _make(
    attempt: Attempt, engine: docker.Engine, compose: Compose, service: str, services: list[Service]
) -> str:
    """All containers are made, the run's own with what it is to run; none has started."""
    written = attempt.folder.path / "compose-override.json"
    container_id = ""
    facts: dict[str, Any] = {}
    # Only the container that Compose would make says which entry point it has and what is in it.
    looked = container_code.Code(container_code.Place.IMAGE)
    for last in (False, True):
        plan = make_plan(
            attempt, engine, str(facts.get("Image") or ""), facts.get("Config") or {}, looked, quiet=not last
        )
        places.make_inner_targets(
            attempt.spec.mounts, attempt.folder.work if plan.mount_code else None, plan.container.workdir
        )
        env = container_plan.environment(plan)
        document = compose_plan.override(plan, service, services, env)
        complete = compose_plan.with_command if last else compose_plan.with_some_command
        durable.write_json(written, complete(document, plan, service))
        compose.over(written)
        if not last:
            attempt.phase(
                f"making the services of {attempt.spec.container and attempt.spec.container.compose_file}"
            )
        with compose.call("up", "--no-start") as call:
            image_step(attempt, call.argv, "the services could not be made", env=call.env, stdin=call.stdin)
        container_id, facts = _container_of(engine, compose_plan.project_name(attempt.spec), service)
        if not last:
            looked = container_code.decide_place(attempt, engine, container_id)
    attempt.update(image=str((facts.get("Config") or {}).get("Image") or ""), image_digest=facts.get("Image"))
    container_folder.give_to_user(attempt, engine, container_id, plan.user, plan.container.workdir)
    if looked.place is container_code.Place.OVER:
        user = login_user()
        container_code.put_over(attempt, engine, container_id, plan.container.workdir, (user.uid, user.gid))
    return container_id


def _container_of(engine: docker.Engine, project: str, service: str) -> tuple[str, dict[str, Any]]:
    for one in members(engine, project):
        if one.service == service:
            facts, why = engine.inspect("container", one.container_id)
            if facts is None:
                raise AgentError("image-failed", f"the container of {service} is gone: {why}")
            return one.container_id, facts
    raise AgentError("image-failed", f"Compose has made no container of {service}")


def _run(
    attempt: Attempt, engine: docker.Engine, compose: Compose, container_id: str, services: list[Service]
) -> Outcome:
    assert attempt.spec.container is not None  # noqa: S101 (the supervisor has looked)
    service = str(attempt.spec.container.compose)
    others = [one.name for one in services if one.name != service]
    words = ", beside " + ", ".join(others) if others else ""

    def start() -> None:
        attempt.phase(f"starting {service}{words}")
        with compose.call("up", "--detach", "--no-recreate", "--no-build") as call:
            image_step(
                attempt,
                call.argv,
                "the services could not be started",
                env=call.env,
                stdin=call.stdin,
                starts_script=True,
            )

    side = SideCars(attempt, engine, compose_plan.project_name(attempt.spec), others)
    outcome = run_to_end(attempt, engine, container_id, start, side)
    return side.explain(outcome)
