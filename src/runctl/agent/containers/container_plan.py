"""A run's container: from what the run asks for, the machine has and the image is, to docker's command line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from runctl._dataclasses import dataclass
from runctl.agent import sagemaker
from runctl.agent.attempt import distributed
from runctl.agent.attempt.attempt import Attempt
from runctl.agent.containers import container_gpus
from runctl.agent.containers.container_code import Code, CodeSource
from runctl.agent.disks import run_folders
from runctl.agent.disks.run_folders import (
    CONTAINER_CHECKPOINTS,
    CONTAINER_HOME,
    CONTAINER_IO,
    CONTAINER_OUTPUT,
    RunFolders,
)
from runctl.agent.engines import Host, ScriptStart
from runctl.agent.machine import docker
from runctl.agent.machine.facts import memory_bytes
from runctl.agent.records import AttemptFolder
from runctl.agent.spec import ContainerSpec, RunSpec
from runctl.agent.starter import starter

SHM_SHARE = 0.25
SHM_LEAST_MIB = 64


@dataclass(frozen=True)
class Plan:
    """Everything that decides how a container is made."""

    spec: RunSpec
    container: ContainerSpec
    image: str
    run_folders: RunFolders
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
    contract: Mapping[str, str] = field(default_factory=dict)
    """Variables of `RunSpec.contract`."""
    io: str | None = None
    """The folder with the pipe for the output, and the program that leads it there; ``None``: the engine's log."""
    host: Host | None = None
    """What the engine of a run on several machines needs to know of this one."""


def make_plan(
    attempt: Attempt,
    engine: docker.Engine,
    container: ContainerSpec,
    image: str,
    config: Mapping[str, Any],
    code: Code,
    *,
    quiet: bool = False,
) -> Plan:
    """The plan of a container of this image; ``config`` is what the engine says of it.

    The log says what may surprise, unless ``quiet``. Raises `AgentError` (``no-gpu``).
    """
    say = (lambda _: None) if quiet else attempt.log.line
    on_machine = container_gpus.find_gpus(engine)
    gpus = container_gpus.decide(container.gpus, on_machine)
    if gpus.warning:
        say("warning: " + gpus.warning)
    image_has = config.get("Entrypoint")
    kept = kept_entrypoint(container, image_has, is_command=attempt.spec.is_command)
    if image_has and kept is None and container.entrypoint is None:
        say(f"the image's entry point {json.dumps(image_has)} would not run the script: it is left out")
    if container.user not in (None, "", docker.owner()):
        say(f"note: checkpoints and output belong to {docker.owner()} afterwards")
    return Plan(
        spec=attempt.spec,
        container=container,
        image=image,
        run_folders=attempt.folders,
        folder=attempt.folder,
        mount_code=code.source is CodeSource.MOUNTED,
        entrypoint=kept,
        user=docker.owner() if container.user is None else container.user,
        user_name=docker.user_name(),
        gpus=gpus.value,
        shm_mib=container.shm_mib or shm_mib(memory_bytes()),
        head=code.head,
        image_command=config.get("Cmd") or (),
        contract=attempt.contract(on_machine.count if gpus.value == "all" else int(gpus.value or 0)),
        io=attempt.collector.for_container(engine.kernel),
        host=distributed.describe_host(attempt.spec.node) if attempt.spec.node is not None else None,
    )


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
    argv = list(image_has or [])
    if not argv:
        return None
    program = next((argument for argument in argv if not argument.startswith("-")), "")
    rest = [argument for argument in argv[1:] if not argument.startswith("-")]
    if argv[0] in ("/bin/sh", "sh", "bash", "/bin/bash"):
        # The shell form: a string of its own, which ignores arguments, or a script that takes them.
        return argv if len(rest) == 1 and rest[0].endswith(".sh") and "-c" not in argv else None
    return argv if _WRAPPER.search(program) and not rest else None


_INIT = re.compile(
    rb"^(?:\[FATAL tini \(\d+\)\] (exec .* failed: .*)"
    rb"|\[runctl\] (there is no program in the image: .*|the program (?:that its first line|cannot be started).*))$",
    re.MULTILINE,
)


def init_failed(exit_code: int | None, output: bytes) -> str | None:
    """What the container's init says when there is no such program in the image; ``None`` if the program ran."""
    found = _INIT.search(output) if exit_code in (126, 127) else None
    return (found.group(1) or found.group(2)).decode(errors="replace") if found else None


def kept_entrypoint(
    container: ContainerSpec, image_has: Sequence[str] | None, *, is_command: bool
) -> list[str] | None:
    """The image's entry point, if the run goes through it.

    A command goes through whatever the image has, as with ``docker run``; a script only through a wrapper that goes
    on to run its arguments.
    """
    if container.entrypoint is not None:
        return None
    return list(image_has or []) or None if is_command else entrypoint(image_has)


def command(spec: RunSpec, python: str, head: bytes = b"") -> list[str]:
    """What runs in the container, from the project's folder, with the script's own folder kept; empty for what
    the image itself starts."""
    if spec.is_command:
        return [spec.script, *spec.args] if spec.script else []
    argv = starter(spec.script, python, spec.interpreter, head, executable=True, bash="sh")
    # In an image the executable bit is the image's; the engine says if it is not there.
    return [*(argv or []), *spec.args]


def mount(source: str, target: str, *, read_only: bool = False) -> list[str]:
    """``--mount`` takes any path: it is a line of CSV (RFC 4180)."""
    fields = ["type=bind", "source=" + source, "target=" + target, *(["readonly"] if read_only else [])]
    return ["--mount", ",".join(map(_csv_field, fields))]


def _csv_field(field: str) -> str:
    if not re.search(r'[,"\n]', field):
        return field
    escaped = field.replace('"', '""')
    return f'"{escaped}"'


def environment(plan: Plan) -> dict[str, str]:
    """The script's variables: the user's, then the contract."""
    env: dict[str, str] = {
        "HOME": CONTAINER_HOME,
        "USER": plan.user_name,
        "LOGNAME": plan.user_name,
        "PYTHONUNBUFFERED": "1",
    }
    env.update(plan.spec.env)
    env.update(run_folders.variables(plan.spec, plan.run_folders))
    env.update(distributed.variables(_script_start(plan)))
    env.update(plan.contract)
    return env


def entrypoint_and_arguments(plan: Plan) -> tuple[list[str], list[str]]:
    """``--entrypoint`` where the image's own does not stay, and the arguments after the image's name."""
    if plan.io is not None:
        argv = _whole_command(plan)
        if argv:
            return ["--entrypoint", CONTAINER_IO + "/redirect"], [CONTAINER_IO + "/log", *argv]
    run = _run_by_engine(plan)
    given = plan.container.entrypoint
    if given:
        return ["--entrypoint", given[0]], [*given[1:], *run]
    if plan.entrypoint is not None or not run:
        return [], run
    return ["--entrypoint", run[0]], run[1:]


def _script_start(plan: Plan) -> ScriptStart | None:
    run = command(plan.spec, plan.container.python, plan.head)
    return distributed.script_start(plan.spec.node, plan.host, run, plan.container.python)


def _run_by_engine(plan: Plan) -> list[str]:
    """What runs in the container; empty for what the image itself starts."""
    start = _script_start(plan)
    if start is None or not start.argv:
        return command(plan.spec, plan.container.python, plan.head)
    return distributed.command(start)


def network(plan: Plan) -> list[str]:
    """On several machines the container has the machine's own network: the others reach it at the machine's address,
    on whatever port, and all are known by name."""
    node = plan.spec.node
    if node is None:
        return []
    hosts = [f"{name}:{address}" for name, address in node.names.items()]
    return ["--network", "host", *(option for host in hosts for option in ("--add-host", host))]


def _whole_command(plan: Plan) -> list[str]:
    """What the engine would run without us: the entry point, and its arguments."""
    run = _run_by_engine(plan)
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
    found += [(mount.source, mount.target, mount.read_only) for mount in plan.spec.mounts]
    if plan.run_folders.on_volume is None:
        found.append((str(plan.run_folders.checkpoints), CONTAINER_CHECKPOINTS, False))
        found.append((str(plan.run_folders.output), CONTAINER_OUTPUT, False))
    return found


def create(plan: Plan, variables: Sequence[str]) -> list[str]:
    """``docker create``; values of variables come from docker's own environment and are on no command line."""
    spec, container = plan.spec, plan.container
    start, run = entrypoint_and_arguments(plan)
    labels = {"runctl.run": spec.run_id, "runctl.attempt": str(spec.attempt), "runctl.project": spec.project}
    return [
        *("create", "--name", name(spec)),
        *(option for key, value in labels.items() for option in ("--label", f"{key}={value}")),
        "--init",
        *(("--user", plan.user) if plan.user else ()),
        *network(plan),
        *(("--workdir", container.workdir) if spec.script else ()),
        *_contract_host(plan),
        *("--shm-size", f"{plan.shm_mib}m"),
        *("--oom-score-adj", "500"),
        *("--stop-signal", "SIGTERM"),
        # Whatever the engine's default is (none, journald, rotation): the log must be complete.
        *("--log-driver", "json-file", "--log-opt", "max-size=1000t", "--log-opt", "max-file=1"),
        *("--log-opt", "compress=false"),
        *(["--gpus", plan.gpus] if plan.gpus else []),
        *(
            option
            for source, target, read_only in binds(plan)
            for option in mount(source, target, read_only=read_only)
        ),
        *container.docker_args,
        *(option for variable in variables for option in ("--env", variable)),
        *start,
        plan.image,
        *run,
    ]


def _contract_host(plan: Plan) -> list[str]:
    """The name that the contract gives the container, which leads to itself on any network."""
    if not plan.contract:
        return []
    return ["--hostname", sagemaker.CONTAINER_HOST, "--add-host", f"{sagemaker.CONTAINER_HOST}:127.0.0.1"]
