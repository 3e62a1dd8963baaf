"""What a training is asked to be: the options of a command or a program, joined with the configuration. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from runctl.checkpoints.keeping import with_defaults
from runctl.containers.container_options import ContainerOptions
from runctl.containers.mounts import CONFIG, parse_mount
from runctl.core.clock import parse_duration
from runctl.core.config import Config
from runctl.core.errors import UsageError
from runctl.project.docker.dockerfile import DockerfileRequest
from runctl.project.label import sync_limits
from runctl.providers.plugin import Defaults
from runctl.runs.train.environment import gather
from runctl.runs.train.project_plan import TrainRequest


def with_configuration(request: TrainRequest, config: Config, defaults: Defaults) -> TrainRequest:
    """The request, with what the configuration says where it says nothing.

    ``defaults`` are those of the provider. Raises `UsageError`.
    """
    docker = request.docker
    names_dockerfile = request.dockerfile.named is not None or request.dockerfile.search
    if docker is None:
        docker = True if names_dockerfile else config.docker.enabled
    uses_configured_image = docker is not False and not names_dockerfile and request.container.compose is None
    timeout = request.timeout or (parse_duration(config.train.timeout) if config.train.timeout else None)
    mounts = tuple(parse_mount(text, CONFIG) for text in defaults.mount_points)
    return replace(
        request,
        is_command=request.is_command or starts_service(request.script, request.args, request.container),
        interpreter=request.interpreter or configured_interpreter(request.script, config.train.interpreters),
        container=replace(request.container, pull_timeout=parse_duration(config.docker.pull_timeout)),
        configured_mounts=mounts,
        docker=docker,
        image=request.image or (config.docker.image if uses_configured_image else None),
        dockerfile=DockerfileRequest(
            request.dockerfile.named, config.docker.dockerfile_path, request.dockerfile.search
        ),
        container_workdir=config.docker.workdir,
        env=gather(config.train.env, (), [f"{name}={value}" for name, value in request.env.items()], {}),
        timeout=timeout,
        keeping=with_defaults(request.keeping, config.checkpoints),
        grace=request.grace or parse_duration(config.train.grace),
        include_patterns=(*config.sync.include_patterns, *request.include_patterns),
        limits=request.limits or sync_limits(config),
    )


def build_request(config: Config, cwd: Path, dockerfile: DockerfileRequest) -> TrainRequest:
    """A run that does nothing but build the image of the project around ``cwd`` on its machine."""
    return TrainRequest(
        script=None,
        cwd=cwd,
        is_command=True,
        automatic_mounts=False,
        docker=True,
        dockerfile=dockerfile,
        include_patterns=config.sync.include_patterns,
        limits=sync_limits(config),
    )


def configured_interpreter(script: Path | None, configured: Mapping[str, str]) -> tuple[str, ...]:
    """The command that runs scripts of this extension; empty where none is configured."""
    if script is None or not script.suffix:
        return ()
    extension = script.suffix.lower().removeprefix(".")
    known = {name.lower().removeprefix("."): text for name, text in configured.items()}
    return split_command(known[extension], f"train.interpreters.{extension}") if extension in known else ()


def split_command(text: str, option: str) -> tuple[str, ...]:
    """The arguments of a short command line. Raises `UsageError` for a quote that is not closed."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}", hint="close the quotes") from error


def starts_service(script: Path | None, args: tuple[str, ...], options: ContainerOptions) -> bool:
    """A Compose service without a script runs its own command. Raises `UsageError` for arguments without a script."""
    if script is not None or options.compose is None:
        return False
    if args:
        raise UsageError(
            "there are arguments after --, and no script for them",
            hint="name a script, or run them as a command with --command",
        )
    return True
