"""A run that is one service of a Compose project, with the others as its side-cars."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runctl._dataclasses import dataclass
from runctl.agent.attempt.attempt import Attempt, EndedEarlyError, Outcome
from runctl.agent.containers import (
    compose_plan,
    container_code,
    container_folder,
    container_plan,
    docker_root,
)
from runctl.agent.containers.companions import Sidecars, members, remove_project
from runctl.agent.containers.compose_plan import Service
from runctl.agent.containers.container_run import run_to_end
from runctl.agent.disks import run_folders
from runctl.agent.errors import AgentError
from runctl.agent.images.build import run_image_step
from runctl.agent.images.registry import pull_image
from runctl.agent.machine import docker, durable
from runctl.agent.machine.root import agent_as_root, login_user
from runctl.agent.spec import ContainerSpec


@dataclass(frozen=True)
class ComposeCommand:
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

    def use_override(self, override: Path) -> None:
        """From now on with this file over the project's own."""
        self._files = [self._files[0], str(override)]

    @contextlib.contextmanager
    def command(self, *arguments: str) -> Iterator[ComposeCommand]:
        """What to start. The variables may be secret: they are in the environment, never in an argument."""
        files = [option for file in self._files for option in ("--file", file)]
        options = [
            "--project-name",
            self._project,
            "--project-directory",
            str(self._folder),
            *files,
            *arguments,
        ]
        program = ["docker", "compose"] if self._plugin else ["docker-compose"]
        argv = [*program, "--ansi", "never", *options]
        if not self._engine.by_sudo:
            yield ComposeCommand(argv, self._variables, None)
            return
        # sudo passes no variables on.
        passed = {"DOCKER_HOST": os.environ["DOCKER_HOST"]} if "DOCKER_HOST" in os.environ else {}
        with tempfile.TemporaryFile() as request:
            request.write(json.dumps({"argv": argv, "env": {**passed, **self._variables}}).encode())
            request.seek(0)
            yield ComposeCommand(agent_as_root("exec"), {}, request.fileno())


def has_plugin(engine: docker.Engine) -> bool:
    """Whether ``docker compose`` is there; ``docker-compose`` of before is the other way.

    Raises `AgentError` (``no-compose``) when neither is.
    """
    done = engine.call("compose", "version", "--short")
    if done.returncode == 0 and docker.text(done.stdout)[:1].lstrip("v").isdigit():
        return True
    if shutil.which("docker-compose") is not None:
        return False
    raise AgentError(
        "no-compose",
        "this machine has neither docker compose (the plug-in) nor docker-compose",
        "install one of them: docker-compose-plugin or docker-compose, by the machine's package manager",
    )


def run_with_compose(attempt: Attempt, container: ContainerSpec, service: str, file: str) -> Outcome:
    """Start the services of ``file``, run ``service`` to its end, and remove them all, whatever happens."""
    docker_root.use_instance_store(attempt)
    engine = docker.connect()
    project = compose_plan.project_name(attempt.spec)
    variables = attempt.spec.compose_env
    compose = Compose(engine, has_plugin(engine), project, attempt.folder.work, file, variables)
    run_folders.make(attempt.folders)
    (attempt.folder.path / "home").mkdir(exist_ok=True)
    services = _services(attempt, compose, service, file)
    for found in services:
        if found.image and not found.builds:
            pull_image(attempt, engine, container, found.image)
            attempt.check()
    attempt.update(compose_project=project)
    others = [found.name for found in services if found.name != service]
    try:
        container_id = _create(attempt, engine, container, compose, service, services)
        attempt.update(container_id=container_id)
        attempt.check()

        def start() -> None:
            attempt.phase(f"starting {service}" + (f", with {', '.join(others)}" if others else ""))
            arguments = ("up", "--detach", "--no-recreate", "--no-build")
            failed = "the services could not be started"
            try:
                _run_compose(attempt, compose, arguments, failed, starts_script=True)
            except EndedEarlyError:
                # Compose may be at the other services still: a script that has begun is told to end, and may save.
                if not engine.has_started(container_id):
                    raise

        sidecars = Sidecars(attempt, engine, project, others)
        return sidecars.explain(run_to_end(attempt, engine, container, container_id, start, sidecars))
    finally:
        remove_project(engine, project, hurry=attempt.live.machine_ends_at is not None)
        if container.user not in (None, docker.owner()):
            run_folders.give_to_user(attempt.folders)


def _run_compose(
    attempt: Attempt,
    compose: Compose,
    arguments: Sequence[str],
    failed: str,
    *,
    starts_script: bool = False,
) -> None:
    with compose.command(*arguments) as command:
        run_image_step(
            attempt,
            command.argv,
            failed,
            env=command.env,
            stdin=command.stdin,
            starts_script=starts_script,
        )


def _services(attempt: Attempt, compose: Compose, service: str, file: str) -> list[Service]:
    attempt.update(phase=f"reading {file}")
    out = attempt.folder.path / "compose.txt"
    since = attempt.log.size()
    fd = os.open(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, durable.PRIVATE)
    try:
        with compose.command("config") as command:
            pid = attempt.children.start(
                command.argv,
                output=fd,
                env={**os.environ, **command.env, **attempt.marks()},
                cwd=attempt.folder.work,
                errors=attempt.log.fd,
                stdin=command.stdin,
            )
            exited = attempt.wait_setup(pid)
    finally:
        os.close(fd)
    config = out.read_text(errors="replace")
    out.unlink()
    if exited.exit_code != 0:
        output = attempt.log.last_lines(since) or config[-2000:]
        raise AgentError(
            "image-failed", f"{file} cannot be used:\n{output}", "check it with: docker compose config"
        )
    services = compose_plan.parse_services(config)
    names = [found.name for found in services]
    if service not in names:
        raise AgentError(
            "image-failed", f"{file} has no service {service}; it has {', '.join(names) or 'none'}"
        )
    return services


def _create(
    attempt: Attempt,
    engine: docker.Engine,
    container: ContainerSpec,
    compose: Compose,
    service: str,
    services: Sequence[Service],
) -> str:
    """All containers are created, the run's own with what it is to run; none has started."""
    # Only the container that Compose would create says which entry point it has and what is in it: so it is created
    # with any command first, and then with the right one.
    attempt.phase(f"creating the services of {container.compose_file}")
    code = container_code.Code(container_code.CodeSource.IMAGE)
    plan = container_plan.make_plan(attempt, engine, container, "", {}, code, quiet=True)
    document = _prepare_override(attempt, plan, service, services)
    container_id, facts = _recreate(
        attempt, engine, compose, service, compose_plan.with_some_command(document, plan, service)
    )
    code = container_code.decide_for_container(attempt, engine, container, container_id)
    image, config = str(facts.get("Image") or ""), facts.get("Config") or {}
    plan = container_plan.make_plan(attempt, engine, container, image, config, code)
    document = _prepare_override(attempt, plan, service, services)
    container_id, facts = _recreate(
        attempt, engine, compose, service, compose_plan.with_command(document, plan, service)
    )
    attempt.update(image=str((facts.get("Config") or {}).get("Image") or ""), image_digest=facts.get("Image"))
    container_folder.give_to_user(attempt, engine, container_id, plan.user, container.workdir)
    if code.source is container_code.CodeSource.OVERLAID:
        user = login_user()
        owner = (user.uid, user.gid)
        container_code.put_over(attempt, engine, container_id, container.workdir, owner)
    return container_id


def _prepare_override(
    attempt: Attempt, plan: container_plan.Plan, service: str, services: Sequence[Service]
) -> dict[str, Any]:
    run_folders.make_inner_targets(
        attempt.spec.mounts, attempt.folder.work if plan.mount_code else None, plan.container.workdir
    )
    return compose_plan.override(plan, service, services, container_plan.environment(plan))


def _recreate(
    attempt: Attempt, engine: docker.Engine, compose: Compose, service: str, document: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """All containers are created with this file over the project's own; the service's, and what the engine says of
    it."""
    written = attempt.folder.path / "compose-override.json"
    durable.write_json(written, document)
    compose.use_override(written)
    _run_compose(attempt, compose, ("up", "--no-start"), "the services could not be created")
    for member in members(engine, compose_plan.project_name(attempt.spec)):
        if member.service == service:
            facts, why = engine.inspect("container", member.container_id)
            if facts is None:
                raise AgentError("image-failed", f"the container of {service} is gone: {why}")
            return member.container_id, facts
    raise AgentError("image-failed", f"Compose created no container for {service}")
