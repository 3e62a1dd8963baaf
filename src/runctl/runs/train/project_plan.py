"""What of the user's disk a training sends, and how it is run: everything that this disk alone can answer."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from datetime import timedelta
from pathlib import Path, PurePosixPath

from runctl._dataclasses import dataclass
from runctl.agent.after_run import MachineEnd
from runctl.agent.deadline_spec import DeadlineSpec
from runctl.agent.spec import CONTRACT_ROOT, ContainerSpec, Dependencies, DependencyKind
from runctl.agent.starter import how_to_run, nothing_runs, starter
from runctl.checkpoints.keeping import NOTHING, Keeping
from runctl.checkpoints.resume import ResumeFrom
from runctl.containers.container_options import (
    NO_DOCKERFILE,
    NO_OPTIONS,
    ContainerOptions,
    refuse_without_container,
    with_options,
)
from runctl.containers.mounts import MountRequest, check_targets
from runctl.containers.reference import check_reference
from runctl.core.errors import ProjectError, UsageError
from runctl.core.mount_points import is_within
from runctl.project.dependencies import Needs, find_dependencies
from runctl.project.docker.compose_file import (
    ComposeFile,
    ComposeVariables,
    check_service,
    choose_variables,
    find_compose_file,
    read_compose_file,
    read_variables_file,
)
from runctl.project.docker.dockerfile import (
    SEARCHED,
    DockerfileRequest,
    choose_dockerfile,
    named_dockerfile,
    no_dockerfile,
)
from runctl.project.files import ProjectFiles
from runctl.project.root import ProjectRoot, find_root, find_root_of_folder
from runctl.project.selection import Limits
from runctl.project.sent import Sent, choose_sent, does_not_count, nothing_sent
from runctl.runs.recovery import Recovery

_A_MINUTE = timedelta(minutes=1)
DEFAULT_GRACE = timedelta(seconds=30)
CHANNELS = PurePosixPath(CONTRACT_ROOT, "input", "data")
"""Where the contract's input channels are."""


@dataclass(frozen=True)
class TrainRequest:
    """What the user asked for, configuration already merged in."""

    script: Path | None
    """As typed, relative to ``cwd``; ``None`` for a command."""
    args: tuple[str, ...] = ()
    is_command: bool = False
    """``args`` are the command itself; none: what the image starts."""
    interpreter: tuple[str, ...] = ()
    container: ContainerOptions = NO_OPTIONS
    cwd: Path = field(default_factory=Path.cwd)
    mounts: tuple[MountRequest, ...] = ()
    """Of ``--ebs-mount`` and ``--ebs-volume``, in this order."""
    configured_mounts: tuple[MountRequest, ...] = ()
    automatic_mounts: bool = True
    docker: bool | None = None
    """``None``: in a container if there is a Dockerfile or an image."""
    image: str | None = None
    machine_image: str | None = None
    """The machine is a container of it: the run is in no other, and has what that has."""
    dockerfile: DockerfileRequest = field(default_factory=DockerfileRequest)
    container_workdir: str = "/workspace"
    workdir: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    caller_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The variables of whoever calls: a Compose file may take some of them."""
    timeout: timedelta | None = None
    estimate: timedelta | None = None
    """How long it takes on a machine that is not taken back, as far as the user says."""
    grace: timedelta | None = None
    """``None``: `DEFAULT_GRACE`."""
    recovery: Recovery = field(default_factory=Recovery)
    checkpoint_signal: str | None = None
    """One of `runctl.agent.checkpoint_spec.CHECKPOINT_SIGNALS`; ``None``: the first of them."""
    keeping: Keeping = NOTHING
    resume: ResumeFrom | None = None
    resume_args: tuple[str, ...] = ()
    """Given to the script where there is a checkpoint; ``{checkpoint}`` in them is its path."""
    sync_code: bool | None = None
    include_patterns: tuple[str, ...] = ()
    limits: Limits | None = None
    name: str | None = None
    """``--run-name``."""
    idle_timeout: timedelta | None = None
    """The run ends when it has done nothing for so long."""
    machine_end: MachineEnd | None = None
    """What becomes of the machine after the run; ``None``: it is not rented for it."""
    results: str | None = None
    """Where what the run wrote is brought after it: an absolute folder of this computer, or an address."""
    contract: str | None = None
    """See `runctl.agent.spec.RunSpec`."""
    deadline: DeadlineSpec | None = None
    progress_pattern: str | None = None
    """See `runctl.agent.spec.RunSpec`."""


@dataclass(frozen=True)
class ComposePlan:
    """The Compose file of a run, and what it is given to fill in."""

    file: ComposeFile
    variables: ComposeVariables


@dataclass(frozen=True)
class ProjectPlan:
    """What of the user's disk goes to the machine, and how it is run there."""

    root: ProjectRoot
    script: str
    """From the root, with forward slashes; of a command, its program (empty: what the image starts)."""
    args: tuple[str, ...]
    is_command: bool
    container: ContainerSpec | None
    container_reason: str
    dependencies: Dependencies
    dependencies_reason: str
    sent: Sent
    mount_requests: tuple[MountRequest, ...]
    compose: ComposePlan | None = None
    """With a service of a Compose file."""


def plan_project(request: TrainRequest) -> ProjectPlan:
    """Resolve everything that this disk alone can answer, so that mistakes cost no round trip.

    What is not sent decides nothing. Raises `NotFound` (script, Dockerfile, Compose service), `ProjectError` (script
    outside the project, a project that is too large, a Compose file that is not YAML), `UsageError` (mounts, options
    that contradict each other, a file that nothing runs).
    """
    root = _root(request)
    named = _named(request, root)
    sent = nothing_sent(root.path, request.include_patterns)
    if request.sync_code is not False:
        sent = choose_sent(root.path, request.include_patterns, request.limits, named)
    container, why = _choose_container(request, root, sent.files)
    if sent.selection is None and container is not None and container.dockerfile is not None:
        # It is built from what is sent.
        sent = choose_sent(root.path, request.include_patterns, request.limits, named)
    compose = _plan_compose(request, root, container)
    if container is None:
        refuse_without_container(request.container, why)
        _check_host_command(request, why)
        _check_starter(request, root)
    else:
        container = with_options(container, request.container)
    requests = _mount_requests(request, container, None if request.is_command else root.script)
    needs = _needs(request, root, sent.files, container)
    warnings = [*sent.warnings, *needs.warnings, *_short_times(request)]
    warnings += does_not_count(
        root.path, [*_dockerfiles_here(request, sent.files, container), *needs.stays_here]
    )
    return ProjectPlan(
        root=root,
        script="".join(request.args[:1]) if request.is_command else root.script,
        args=request.args[1:] if request.is_command else request.args,
        is_command=request.is_command,
        container=container,
        container_reason=why,
        dependencies=needs.spec,
        dependencies_reason=needs.reason,
        sent=replace(sent, warnings=tuple(warnings)),
        mount_requests=requests,
        compose=compose,
    )


def _named(request: TrainRequest, root: ProjectRoot) -> tuple[str, ...]:
    """The files that the command names, from the root."""
    script = () if request.is_command else (root.script,)
    has_image = request.image is not None or request.machine_image is not None
    if request.docker is False or has_image or request.container.compose is not None:
        return script
    dockerfile = named_dockerfile(root.path, request.cwd, request.dockerfile)
    return script if dockerfile is None else (*script, dockerfile)


def _dockerfiles_here(
    request: TrainRequest, files: ProjectFiles, container: ContainerSpec | None
) -> list[str]:
    """Dockerfiles that would have been used, and are not sent."""
    if container is not None or request.docker is False or request.machine_image is not None:
        return []
    return [path for path in SEARCHED if files.stays_here(path)][:1]


def _check_starter(request: TrainRequest, root: ProjectRoot) -> None:
    """Something says what runs the script. Raises `UsageError`."""
    if request.is_command:
        return
    path = root.path / root.script
    try:
        with path.open("rb") as file:
            head = file.read(256) + b"\n"
    except OSError as error:
        raise ProjectError(
            f"{root.script} cannot be read: {error.strerror}", hint="change its mode", code="unreadable-file"
        ) from error
    executable = bool(path.stat().st_mode & stat.S_IXUSR)
    if starter(root.script, "python3", request.interpreter, head, executable=executable) is None:
        raise UsageError(nothing_runs(root.script), hint=how_to_run(root.script), code="bad-script")


def _short_times(request: TrainRequest) -> list[str]:
    """That a time may be too short by a unit that somebody left out. Pure."""
    named = (
        (request.timeout, "the run is ended after {} (--timeout)"),
        (request.estimate, "the run is to take {} (--estimate)"),
    )
    return [
        text.format(f"{time.total_seconds():g}s") + ": a number without a unit is seconds"
        for time, text in named
        if time is not None and time < _A_MINUTE
    ]


def _needs(
    request: TrainRequest, root: ProjectRoot, files: ProjectFiles, container: ContainerSpec | None
) -> Needs:
    """Of the script on the host; an image must have it all, and the plan says what that is."""
    if container is None and request.machine_image is None:
        return find_dependencies(files, root.script)
    if request.is_command and not request.args:
        return Needs(Dependencies(), "what the image has")
    try:
        found = find_dependencies(files, root.script)
    except ProjectError:
        # Nothing of it is used.
        return Needs(Dependencies(), "what the image has")
    if found.spec.kind is DependencyKind.NONE:
        return Needs(Dependencies(), "what the image has")
    reason = f"what the image has; not installed in a container: {found.reason}"
    warnings: tuple[str, ...] = ()
    header = found.spec.kind is DependencyKind.PEP723 and (
        found.spec.requirements or found.spec.requires_python
    )
    is_named = request.image is not None or (container is not None and container.image is not None)
    if header or (is_named and found.spec.kind is not DependencyKind.PEP723):
        way_out = "--no-docker installs them, or let the image have them"
        warnings = (f"{found.spec.path}: what it needs is not installed in a container; {way_out}",)
    return Needs(Dependencies(), reason, warnings)


def _plan_compose(
    request: TrainRequest, root: ProjectRoot, container: ContainerSpec | None
) -> ComposePlan | None:
    if container is None or container.compose is None or container.compose_file is None:
        return None
    file = read_compose_file(root.path, container.compose_file)
    check_service(file, container.compose)
    variables = choose_variables(file, request.env, request.caller_env, read_variables_file(root.path))
    return ComposePlan(file, variables)


def _mount_requests(
    request: TrainRequest, container: ContainerSpec | None, script: str | None
) -> tuple[MountRequest, ...]:
    """Of the command line, then those of the configuration whose targets it has not taken."""
    taken = {mount.target for mount in request.mounts}
    configured = tuple(mount for mount in request.configured_mounts if mount.target not in taken)
    with_target = tuple(mount for mount in request.mounts if mount.target)
    # A volume without a target comes after all that have one: it may be named by one of them.
    requests = with_target + configured + tuple(mount for mount in request.mounts if not mount.target)
    if request.contract is not None:
        check_contract(requests, container)
    check_targets(requests, container.workdir if container else None, script)
    return requests


def check_contract(requests: Sequence[MountRequest], container: ContainerSpec | None) -> None:
    """Nothing is where the contract's own folders are, but for its input channels. Raises `UsageError`."""
    if container is not None and container.compose is not None:
        raise UsageError(
            "--contract and --compose contradict each other",
            hint="run the script in one container, or on the host",
        )
    for mount in requests:
        if is_within(mount.target, CONTRACT_ROOT) and PurePosixPath(mount.target).parent != CHANNELS:
            raise UsageError(
                f"the mount {mount.text}: what is in {CONTRACT_ROOT} is the contract's",
                hint=f"an input channel is mounted at {CHANNELS}/NAME",
                code="bad-mount",
            )


def _root(request: TrainRequest) -> ProjectRoot:
    if request.is_command:
        if request.script is not None:
            raise UsageError(
                f"--command and the script {request.script} contradict each other",
                hint="the command goes after two dashes: --command -- python -m package",
            )
        if request.interpreter:
            raise UsageError("--command names its own program", hint="leave --interpreter out")
        return find_root_of_folder(request.cwd)
    if request.script is None:
        raise UsageError(
            "no script is given",
            hint="name one, or run a command: --command -- python -m package",
            code="no-script",
        )
    return find_root(request.script, request.cwd)


def _check_host_command(request: TrainRequest, why: str) -> None:
    if request.is_command and not request.args:
        raise UsageError(
            f"--command without a command runs what an image starts, and this run is on the host ({why})",
            hint="--command -- python -m package",
            code="no-command",
        )


def _choose_container(
    request: TrainRequest, root: ProjectRoot, files: ProjectFiles
) -> tuple[ContainerSpec | None, str]:
    if request.machine_image is not None:
        return None, f"the machine is a container of {request.machine_image}"
    if request.docker is False:
        if request.image is not None:
            raise UsageError("--image and --no-docker contradict each other", hint="leave one of them out")
        _refuse_dockerfile(request, "--no-docker")
        return None, "--no-docker"
    workdir = request.workdir or request.container_workdir
    if not workdir.startswith("/"):
        raise UsageError(
            f"--workdir {workdir}: in a container it must be an absolute path", hint="for example /workspace"
        )
    code = {None: "auto", True: "mount", False: "image"}[request.sync_code]
    if request.container.compose is not None:
        return _compose_service(request, files, workdir, code)
    if request.image is not None:
        _refuse_dockerfile(request, "--image")
        check_reference(request.image, "--image")
        return ContainerSpec(image=request.image, workdir=workdir, code=code), f"image {request.image}"
    found = choose_dockerfile(root.path, request.cwd, request.dockerfile, files)
    if found is not None:
        return ContainerSpec(dockerfile=found.path, workdir=workdir, code=code), found.reason
    if request.docker:
        raise no_dockerfile(root.path)
    return None, NO_DOCKERFILE


def _compose_service(
    request: TrainRequest, files: ProjectFiles, workdir: str, code: str
) -> tuple[ContainerSpec, str]:
    _refuse_dockerfile(request, "--compose")
    if request.image is not None:
        raise UsageError("--image and --compose contradict each other", hint="leave one of them out")
    file = find_compose_file(files)
    service = request.container.compose
    return ContainerSpec(compose=service, compose_file=file, workdir=workdir, code=code), "--compose"


def _refuse_dockerfile(request: TrainRequest, other: str) -> None:
    flag = "--dockerfile" if request.dockerfile.named is not None else "--dockerfile-search"
    if request.dockerfile.named is not None or request.dockerfile.search:
        raise UsageError(f"{flag} and {other} contradict each other", hint="leave one of them out")
