"""A run's container as command lines: plain data in, argument lists out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from runctl.agent.disks import places as places_of
from runctl.agent.disks.places import (
    CONTAINER_CHECKPOINTS,
    CONTAINER_HOME,
    CONTAINER_IO,
    CONTAINER_OUTPUT,
    Places,
)
from runctl.agent.spec import ContainerSpec, RunSpec
from runctl.agent.starter import starter
from runctl.agent.supervising.state import AttemptFolder

SHM_SHARE = 0.25
SHM_LEAST_MIB = 64


@dataclass(frozen=True)
class Plan:
    """Everything that decides how a container is made."""

    spec: RunSpec
    image: str
    where: Places
    folder: AttemptFolder
    mount_code: bool
    entrypoint: Sequence[str] | None
    """The image's own entry point, where it stays; else ``None``."""
    user: str
    """``uid:gid``, or what the run asked for; empty for the image's own."""
    user_name: str
    gpus: str
    """``all``, how many, or empty."""
    shm_mib: int
    head: bytes = b""
    """The beginning of the script, for its ``#!`` line."""
    image_command: Sequence[str] = ()
    """What the image runs by itself, after its entry point."""
    io: str | None = None
    """The folder with the pipe for the output, and the program that leads it there; ``None``: the engine's log."""

    @property
    def container(self) -> ContainerSpec:
        """The run's own wishes."""
        assert self.spec.container is not None  # noqa: S101 (a plan is made of a run in a container)
        return self.spec.container


def name(spec: RunSpec) -> str:
    """What ``docker ps`` shows."""
    return f"runctl-{spec.run_id}-{spec.attempt}"


def shm_mib(memory_bytes: int) -> int:
    """A quarter of the memory: data loaders hand over batches there, and 64 MiB (the engine's default) ends them
    with a bus error. It is a limit, not a reservation; half, as the kernel gives /dev/shm, could push the
    machine itself out of memory beside the training's own."""
    return max(SHM_LEAST_MIB, int(memory_bytes * SHM_SHARE) >> 20)


_WRAPPER = re.compile(r"(\.sh|/tini|/dumb-init|/catatonit|^tini|^dumb-init|/nvidia_entrypoint[^/]*)$")


def entrypoint(image_has: Sequence[str] | None) -> list[str] | None:
    """The image's entry point if it is a wrapper that goes on to run its arguments (a shell script, an init),
    ``None`` if it would run something else instead of the script (``["python", "serve.py"]``)."""
    words = list(image_has or [])
    if not words:
        return None
    command = next((word for word in words if not word.startswith("-")), "")
    rest = [word for word in words[1:] if word not in ("--",) and not word.startswith("-")]
    if words[0] in ("/bin/sh", "sh", "bash", "/bin/bash"):
        # The shell form: a string of its own, which ignores arguments, or a script that takes them.
        return words if len(rest) == 1 and rest[0].endswith(".sh") and "-c" not in words else None
    return words if _WRAPPER.search(command) and not rest else None


_INIT = re.compile(
    rb"^(?:\[FATAL tini \(\d+\)\] (exec .* failed: .*)"
    rb"|\[runctl\] (there is no program in the image: .*|the program (?:that its first line|cannot be started).*))$",
    re.MULTILINE,
)


def init_failed(exit_code: int | None, output: bytes) -> str | None:
    """What the container's init says when there is no such program in the image; ``None`` if the program ran."""
    found = _INIT.search(output) if exit_code in (126, 127) else None
    return (found.group(1) or found.group(2)).decode(errors="replace") if found else None


def script_in_image(spec: RunSpec) -> str:
    """Where the script must be in an image that brings the project along."""
    assert spec.container is not None  # noqa: S101 (a plan is made of a run in a container)
    return str(PurePosixPath(spec.container.workdir) / spec.script)


def kept_entrypoint(spec: RunSpec, image_has: Sequence[str] | None) -> list[str] | None:
    """The image's entry point, if the run goes through it.

    A command goes through whatever the image has, as with ``docker run``; a script only through a wrapper that goes
    on to run its arguments.
    """
    assert spec.container is not None  # noqa: S101 (a plan is made of a run in a container)
    if spec.container.entrypoint is not None:
        return None
    return list(image_has or []) or None if spec.is_command else entrypoint(image_has)


def command(spec: RunSpec, python: str, head: bytes = b"") -> list[str]:
    """What runs in the container, from the project's folder, with the script's own folder kept; empty for what
    the image itself starts."""
    if spec.is_command:
        return [spec.script, *spec.args] if spec.script else []
    words = starter(spec.script, python, spec.interpreter, head, executable=True, bash="sh")
    # In an image the executable bit is the image's; the engine says if it is not there.
    return [*(words or []), *spec.args]


def mount(source: str, target: str, *, read_only: bool = False) -> list[str]:
    """``--mount`` takes any path: it is a line of CSV (RFC 4180)."""
    fields = ["type=bind", "source=" + source, "target=" + target, *(["readonly"] if read_only else [])]
    return [
        "--mount",
        ",".join('"{}"'.format(f.replace('"', '""')) if re.search(r'[,"\n]', f) else f for f in fields),
    ]


def environment(plan: Plan) -> dict[str, str]:
    """The script's variables: the user's, then the contract."""
    env: dict[str, str] = {
        "HOME": CONTAINER_HOME,
        "USER": plan.user_name,
        "LOGNAME": plan.user_name,
        "PYTHONUNBUFFERED": "1",
    }
    env.update(plan.spec.env)
    env.update(places_of.variables(plan.spec, plan.where))
    return env


def start_words(plan: Plan) -> tuple[list[str], list[str]]:
    """``--entrypoint`` where the image's own does not stay, and the words after the image's name."""
    if plan.io is not None:
        words = _everything(plan)
        if words:
            return ["--entrypoint", CONTAINER_IO + "/redirect"], [CONTAINER_IO + "/log", *words]
    run = command(plan.spec, plan.container.python, plan.head)
    given = plan.container.entrypoint
    if given:
        return ["--entrypoint", given[0]], [*given[1:], *run]
    if plan.entrypoint is not None or not run:
        return [], run
    return ["--entrypoint", run[0]], run[1:]


def _everything(plan: Plan) -> list[str]:
    """What the engine would run without us: the entry point, and its words."""
    run = command(plan.spec, plan.container.python, plan.head)
    if plan.container.entrypoint:
        return [*plan.container.entrypoint, *run]
    return [*(plan.entrypoint or ()), *(run or plan.image_command)]


def binds(plan: Plan) -> list[tuple[str, str, bool]]:
    """Source, target and whether it is read-only, of everything that the run's container sees."""
    found = [(str(plan.folder.path / "home"), CONTAINER_HOME, False)]
    if plan.mount_code:
        found.append((str(plan.folder.work), plan.container.workdir, False))
    if plan.io is not None:
        found.append((plan.io, CONTAINER_IO, True))
    found += [(one.source, one.target, one.read_only) for one in plan.spec.mounts]
    if plan.where.on_volume is None:
        found.append((str(plan.where.checkpoints), CONTAINER_CHECKPOINTS, False))
        found.append((str(plan.where.output), CONTAINER_OUTPUT, False))
    return found


def create(plan: Plan, variables: Sequence[str]) -> list[str]:
    """``docker create``; values of variables come from docker's own environment and are on no command line."""
    spec, container = plan.spec, plan.container
    start, run = start_words(plan)
    labels = {"runctl.run": spec.run_id, "runctl.attempt": str(spec.attempt), "runctl.project": spec.project}
    return [
        *("create", "--name", name(spec)),
        *(word for key, value in labels.items() for word in ("--label", f"{key}={value}")),
        "--init",
        *(("--user", plan.user) if plan.user else ()),
        *(("--workdir", container.workdir) if spec.script else ()),
        *("--shm-size", f"{plan.shm_mib}m"),
        *("--oom-score-adj", "500"),
        *("--stop-signal", "SIGTERM"),
        # Whatever the engine's default is (none, journald, rotation): the log must be complete.
        *("--log-driver", "json-file", "--log-opt", "max-size=1000t", "--log-opt", "max-file=1"),
        *("--log-opt", "compress=false"),
        *(["--gpus", plan.gpus] if plan.gpus else []),
        *(word for one in binds(plan) for word in mount(one[0], one[1], read_only=one[2])),
        *container.docker_args,
        *(word for variable in variables for word in ("--env", variable)),
        *start,
        plan.image,
        *run,
    ]
