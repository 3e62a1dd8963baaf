"""What a run may ask of its container, checked and joined with how the container is made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from runctl._dataclasses import dataclass
from runctl.agent.spec import ContainerSpec
from runctl.core.errors import UsageError

NO_DOCKERFILE = "the project has no Dockerfile"
"""Why a run is on the host."""
_OWN = {
    "--entrypoint": "--entrypoint",
    "--env": "--env",
    "--env-file": "--env-file",
    "--gpus": "--gpus",
    "--shm-size": "--shm-size",
    "--user": "--user",
    "--workdir": "--workdir",
}
"""What train has an option of its own for, that does more."""
_REFUSED = {
    "--rm": "the container is removed when its exit code has been written down, not before",
    "--detach": "the run's supervisor starts the container and waits for it",
    "--name": "the run is found by the name that runctl gives",
    "--restart": "a container that starts over by itself has no end; runctl decides on another attempt",
    "--cidfile": "the run's supervisor keeps the container's id",
    "--attach": "the log is copied from the engine, so that nothing of it is lost",
    "--interactive": "a run has no terminal and nobody to ask",
    "--tty": "a run has no terminal; with one, output would be changed on its way to the log",
    "--log-driver": "the log must be complete, and readable after the end",
    "--log-opt": "the log must be complete, and readable after the end",
    "--init": "an init passes signals on and is always there; without it a script would not hear SIGTERM",
    "--stop-signal": "a run is ended by SIGTERM, as on the host",
    "--stop-timeout": "that is --grace",
    "--oom-kill-disable": "a container without memory would hang forever instead of ending",
    "--sig-proxy": "signals go through the run's supervisor",
}
_SHORT = {
    "-a": "--attach",
    "-d": "--detach",
    "-e": "--env",
    "-i": "--interactive",
    "-t": "--tty",
    "-u": "--user",
    "-w": "--workdir",
}
_BARE = frozenset(
    (
        *("--no-healthcheck", "--privileged", "--publish-all", "--quiet", "--read-only", "--use-api-socket"),
        *("-P", "-q"),
    )
)
"""Options that have no value."""
_OURS = ("runctl.run", "runctl.attempt", "runctl.project")
_GPUS = re.compile(r"auto|all|none|[1-9][0-9]*")


@dataclass(frozen=True)
class ContainerOptions:
    """What was asked for beyond the defaults."""

    entrypoint: tuple[str, ...] | None = None
    user: str | None = None
    gpus: str | None = None
    shm_mib: int | None = None
    docker_args: tuple[str, ...] = ()
    compose: str | None = None
    pull_timeout: timedelta = timedelta(minutes=5)

    @property
    def named(self) -> tuple[str, ...]:
        """The options that these came from."""
        given = {
            "--entrypoint": self.entrypoint is not None,
            "--user": self.user is not None,
            "--gpus": self.gpus is not None,
            "--shm-size": self.shm_mib is not None,
            "--docker-arg": bool(self.docker_args),
            "--compose": self.compose is not None,
        }
        return tuple(name for name, there in given.items() if there)


NO_OPTIONS = ContainerOptions()


def with_options(spec: ContainerSpec, options: ContainerOptions) -> ContainerSpec:
    """The container as it was asked for. Raises `UsageError`."""
    check_docker_args(options.docker_args)
    if options.docker_args and spec.compose is not None:
        raise UsageError(
            "--docker-arg and --compose contradict each other",
            hint=f"write it into {spec.compose_file}, at the service {spec.compose}",
        )
    if options.gpus is not None and not _GPUS.fullmatch(options.gpus):
        raise UsageError(
            f"--gpus {options.gpus}: it is auto, all, none or a number",
            hint="leave it out to get all GPUs where there are some",
        )
    return replace(
        spec,
        entrypoint=options.entrypoint,
        user=options.user,
        gpus=options.gpus or "auto",
        shm_mib=options.shm_mib,
        docker_args=options.docker_args,
        pull_timeout_seconds=options.pull_timeout.total_seconds(),
    )


def refuse_without_container(options: ContainerOptions, reason: str) -> None:
    """The run is on the host, where these mean nothing. Raises `UsageError` naming the first."""
    if options.named:
        raise UsageError(
            f"{options.named[0]} is about a container, and this run is on the host ({reason})",
            hint=without_it("name an image with --image", "leave it out", reason),
            code="no-container",
        )


def without_it(remedy: str, leave_out: str, reason: str) -> str:
    """A hint to who asks for what the run has not: the ``remedy`` where only a Dockerfile is missing (``reason``), as
    options that say what it runs in contradict others of their kind. Pure."""
    if reason == NO_DOCKERFILE:
        return f"{remedy}, or {leave_out}"
    return f"{leave_out}, or {reason}" if reason.startswith("--") else leave_out


def check_docker_args(options: Sequence[str]) -> None:
    """Each option leaves the run to its supervisor. Raises `UsageError`."""
    for option in options:
        name = _name_of(option)
        if name is None:
            raise UsageError(
                f"--docker-arg {option}: it is not an option of docker run",
                hint="give one option as one argument: --docker-arg=--network=host",
                code="bad-docker-arg",
            )
        if name in _OWN:
            raise UsageError(
                f"--docker-arg {option}: runctl has {_OWN[name]} for that",
                hint=f"say {_OWN[name]} itself",
                code="bad-docker-arg",
            )
        if name in _REFUSED:
            raise UsageError(
                f"--docker-arg {option} is refused: {_REFUSED[name]}",
                hint="leave it out",
                code="bad-docker-arg",
            )
        _check_value(option, name)


def _name_of(option: str) -> str | None:
    """The long name of an option, the short one where it has no meaning for us, ``None`` for what is none."""
    if option.startswith("--") and len(option) > 2:
        return option.partition("=")[0]
    if option.startswith("-") and len(option) > 1 and option[1].isalpha():
        return _SHORT.get(option[:2], option[:2])
    return None


def _check_value(option: str, name: str) -> None:
    has_value = "=" in option if name.startswith("--") else len(option) > 2
    if not has_value and name not in _BARE:
        raise UsageError(
            f"--docker-arg {option}: its value is missing",
            hint=f"give one option as one argument: --docker-arg={name}=VALUE"
            if name.startswith("--")
            else f"give one option as one argument: --docker-arg={name}VALUE",
            code="bad-docker-arg",
        )
    value = option.partition("=")[2] if name.startswith("--") else option[2:]
    if name in ("--label", "-l") and value.partition("=")[0] in _OURS:
        raise UsageError(
            f"--docker-arg {option} is refused: by this label runctl finds the run",
            hint="take another label",
            code="bad-docker-arg",
        )
