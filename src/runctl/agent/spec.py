"""What the command line and the agent say to each other: plain JSON, described by frozen dataclasses.

Every verb reads one JSON object from stdin and writes one to stdout: ``{"ok": ...}`` or
``{"error": {"code", "message", "hint"}}`` (exit code 1). ``logs`` alone writes a stream of frames (see
`LogFrame`). The words here are the contract between two programs that may be of different versions: a reader
ignores keys it does not know and uses the defaults below for keys that are missing.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import field
from typing import Optional

from runctl._dataclasses import dataclass
from runctl.agent.after_run import MachineEnd
from runctl.agent.checkpoint_spec import CheckpointSchedule, CheckpointStatus, StoreSpec
from runctl.agent.deadline_spec import DeadlineSpec, ProgressStatus
from runctl.agent.encoding import ExitCode
from runctl.agent.end_reason import EndReason
from runctl.agent.interruption import HandOff
from runctl.agent.node_spec import NodeSpec

PROTOCOL = 1
"""Raised when a verb changes its meaning, not when a key is added."""

STATE_DIRECTORY = "/var/lib/runctl"
"""Where the agent keeps everything, unless ``RUNCTL_AGENT_STATE`` says otherwise."""


SAGEMAKER = "sagemaker"
CONTRACTS = (SAGEMAKER,)
"""What a run may find besides: see `RunSpec.contract`."""
NOTICE_BY_SIGTERM = "sigterm"
"""On a computer that nobody rents: whatever runs it, a scheduler say, ends the supervisor when it wants it back."""
NOTICE_BY_SHUTDOWN = "shutdown"
"""On a spot machine whose provider announces nothing: it shuts down."""
CONTRACT_ROOT = "/opt/ml"
"""Where SageMaker's scripts find their folders."""


class RunState(str, enum.Enum):
    """Where an attempt is. ``ENDED`` always comes with an `EndReason`."""

    PENDING = "PENDING"
    SETTING_UP = "SETTING_UP"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    ENDED = "ENDED"


@dataclass(frozen=True)
class MountSpec:
    """A folder of the machine that the script sees at ``target``."""

    source: str
    """Absolute path on the machine."""
    target: str
    """Absolute path that the script sees: in the container, or on the host in the run's own namespace."""
    read_only: bool = False
    volume_id: Optional[str] = None
    """The volume that ``source`` lies on; the agent refuses to start if it is not what is mounted there."""
    origin: str = "--ebs-mount"
    """Which rule asked for it, in words for a person: ``--ebs-mount``, ``config``, ``automatic``."""


class DependencyKind(str, enum.Enum):
    """Where a script's dependencies are written down, and so who installs them."""

    PEP723 = "pep723"
    """In the script's own header."""
    UV_LOCK = "uv.lock"
    """In the lock of a project that uv manages."""
    UV = "uv"
    """In a project that uv manages, without a lock."""
    PACKAGE = "package"
    """In a folder that pip can install."""
    PYPROJECT = "pyproject"
    """In a pyproject.toml that is not a package: a list of requirements."""
    REQUIREMENTS = "requirements"
    """In a requirements.txt."""
    NONE = "none"

    @property
    def is_synced_by_uv(self) -> bool:
        """``uv sync`` installs the project."""
        return self in (DependencyKind.UV_LOCK, DependencyKind.UV)

    @property
    def is_list(self) -> bool:
        """The requirements come with the request, and nothing else of the file is read."""
        return self in (DependencyKind.PEP723, DependencyKind.PYPROJECT)

    @property
    def may_read_requirements(self) -> bool:
        """A requirements.txt in the same folder is its source or its export, not another answer."""
        return self is DependencyKind.PACKAGE or self.is_synced_by_uv


@dataclass(frozen=True)
class Dependencies:
    """What the script needs on the host, as the command line resolved it from the project."""

    kind: DependencyKind = DependencyKind.NONE
    path: Optional[str] = None
    """The file it came from, relative to the project root, with forward slashes."""
    requirements: tuple[str, ...] = ()
    """PEP 508 lines of ``pep723`` and ``pyproject``; else the project's own, for showing only."""
    requires_python: Optional[str] = None
    folder: str = ""
    """Where the installer is called, relative to the project root: the file's folder, or the workspace member's."""
    uv: bool = False
    """Only uv reads it right: sources, indexes, a workspace, a lock."""
    locked: bool = False
    """There is a lock, and it must agree with what it locks."""


@dataclass(frozen=True)
class BuildSpec:
    """How an image is built from the synced project. What is secret in it comes by the verb ``entrust``."""

    tag: str
    """The image's name: it says what goes into the image, so that one that is there is the same."""
    tree: Optional[str] = None
    """Digest of the tree that ``tag`` was made for; another tree is built under a name of its own."""
    inputs: str = ""
    """The digest that ``tag`` is short for; becomes a label."""
    project: str = ""
    """What the image is labelled as; empty: the synced project's name."""
    target: Optional[str] = None
    args: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    """Ids; each has been entrusted for the run."""
    platform: Optional[str] = None
    """``None``: the machine's own."""
    cache_from: tuple[str, ...] = ()
    """Images whose layers may be taken."""
    no_cache: bool = False
    pull: bool = False
    """Look for newer base images. With either of the two an image that is there is built all the same."""
    only: bool = False
    """The run is the build: it has ended when the image is there, and nothing is started from it."""
    published: Optional[str] = None
    """The image's name in a registry: it is taken from there if it is there, else pushed before the run starts."""
    caches: Mapping[str, str] = field(default_factory=dict)
    """What is pushed beside it for builds elsewhere: a reference, and its stage; empty is the image itself."""


@dataclass(frozen=True)
class ContainerSpec:
    """How the run's container is made. Exactly one of ``dockerfile``, ``image`` and ``compose`` is set."""

    dockerfile: Optional[str] = None
    """Path relative to the project root; the build's context is the root."""
    image: Optional[str] = None
    """A reference to run as it is, pulled if the machine does not have it."""
    compose: Optional[str] = None
    """The service of a Compose project that is the run; the others run beside it."""
    compose_file: Optional[str] = None
    """Its file, relative to the project root; set with ``compose``."""
    workdir: str = "/workspace"
    """Absolute path in the container at which the project is and the script starts."""
    code: str = "auto"
    """``image``: the project is in the image. ``mount``: the synced project is put over what the image has at
    ``workdir``, or mounted where it has nothing. ``auto``: in the image if the script is found there, else as
    ``mount``; the log says which."""
    python: str = "python3"
    """Runs the script when it is a Python file; others run by their extension or as they are."""
    entrypoint: Optional[tuple[str, ...]] = None
    """Replaces the image's own; empty: there is none. ``None`` leaves the image's where that runs what it is given."""
    user: Optional[str] = None
    """As ``docker --user``; empty is the image's own, ``None`` the login user."""
    gpus: str = "auto"
    """``auto``: all where containers can be given them; ``all``, ``none``, or how many: else the run does not start."""
    shm_mib: Optional[int] = None
    """Size of /dev/shm; ``None`` is a share of the machine's memory."""
    docker_args: tuple[str, ...] = ()
    """More words for ``docker create``, each an option of its own."""
    pull_timeout_seconds: float = 300.0
    """A pull in which nothing has moved for so long has failed."""
    build: Optional[BuildSpec] = None
    """With ``dockerfile``; ``None`` builds it under a name made of the tree's digest."""
    dev_parts: Optional[Mapping[str, str]] = None
    """What the image is made of besides the code: SHA-256 by name. With ``code`` ``mount`` the last image that was
    built of the same parts is used."""
    dev_notes: tuple[str, ...] = ()
    """What to say when it is used: instructions that saw the code of then."""


@dataclass(frozen=True)
class RunSpec:
    """Everything that one attempt needs. Self-sufficient: no file of the laptop is behind any of it."""

    run_id: str
    script: str
    """Path from the project root, with forward slashes."""
    args: tuple[str, ...] = ()
    """Passed on exactly as they are."""
    is_command: bool = False
    """``script`` is a program, found on PATH, and no file of the project; empty: what the image itself starts."""
    builtin: bool = False
    """``script`` is a program that the agent brings itself (``fill``): it needs no project and no environment."""
    interpreter: tuple[str, ...] = ()
    """The words that run the script; empty: by its extension, its ``#!`` line, or by itself."""
    attempt: int = 1
    project: str = "project"
    """The synced project's name under the agent's ``projects`` folder."""
    tree: Optional[str] = None
    """Digest of the project tree to run; ``None`` means whatever was synced last."""
    env: Mapping[str, str] = field(default_factory=dict)
    compose_env: Mapping[str, str] = field(default_factory=dict)
    """What the Compose file takes from its surroundings (``${NAME}``), instead of the machine's own variables."""
    workdir: Optional[str] = None
    """On the host: where the script starts, relative to the project root, or absolute. In a container see
    `ContainerSpec.workdir`."""
    mounts: tuple[MountSpec, ...] = ()
    """Outer targets before those inside them."""
    data_target: Optional[str] = None
    """Target of the mount that ``RUNCTL_DATA_DIR`` names; ``None`` means the first one."""
    save_target: Optional[str] = None
    """Target of the mount that holds checkpoints and output; ``None`` means the first volume that may be written."""
    dependencies: Dependencies = field(default_factory=Dependencies)
    container: Optional[ContainerSpec] = None
    """``None`` runs on the host."""
    timeout_seconds: Optional[float] = None
    idle_seconds: Optional[float] = None
    """The run ends when it has used no processor, disk, network or GPU, and has written nothing, for so long."""
    grace_seconds: float = 30.0
    """Between SIGTERM and SIGKILL."""
    checkpoint_signal: Optional[str] = None
    """One of `runctl.agent.checkpoint_spec.CHECKPOINT_SIGNALS`; ``None`` is the first of them."""
    resume_from: Optional[str] = None
    """Absolute path on the machine: a checkpoint, or a folder of which the newest complete one is taken; or the address
    of a run's prefix in a store. A further
    attempt goes on from the run's own checkpoints instead, once it has any. The script finds what was chosen, as it
    sees it, in ``RUNCTL_RESUME_FROM``."""
    resume_args: tuple[str, ...] = ()
    """Appended to ``args`` where there is a checkpoint; ``{checkpoint}`` in them is its path."""
    store: Optional[StoreSpec] = None
    checkpoint_schedule: Optional[CheckpointSchedule] = None
    """``None``: the script alone decides when it saves."""
    machine_end: Optional[MachineEnd] = None
    """``None``: the machine was not rented for the run, and stays as it is."""
    notice_by: Optional[str] = None
    """`NOTICE_BY_SIGTERM` or `NOTICE_BY_SHUTDOWN`, where nothing else announces that the machine is taken back.
    ``None``: its provider does, or takes none back."""
    leased: bool = False
    """The attempt may go on only while its machine has the run's lease, which the verb ``take-up`` keeps."""
    contract: Optional[str] = None
    """One of `CONTRACTS`: the script also finds the folders, files and variables that it would find there."""
    deadline: Optional[DeadlineSpec] = None
    """``None``: the run may take as long as it takes."""
    progress_pattern: Optional[str] = None
    """A regular expression that finds the script's progress in its log: see `runctl.agent.deadline_spec`."""
    node: Optional[NodeSpec] = None
    """Which of the run's machines this one is; ``None``: it is the only one."""

    @property
    def saves_for_all(self) -> bool:
        """What the run saves is published from this machine: from the only one, or from rank 0."""
        return self.node is None or self.node.rank == 0


def without_values(spec: RunSpec) -> RunSpec:
    """The same with the names of its variables alone, and without what its machines know each other by."""
    return dataclasses.replace(
        spec,
        env=dict.fromkeys(spec.env, ""),
        compose_env=dict.fromkeys(spec.compose_env, ""),
        node=None if spec.node is None else dataclasses.replace(spec.node, secret=""),
    )


@dataclass(frozen=True)
class EndRecord:
    """The end of an attempt, written durably before anything else happens."""

    reason: EndReason
    ended_at: float
    """Seconds since the epoch."""
    exit_code: Optional[ExitCode] = None
    """The script's own; ``None`` when it never ran or was ended by a signal."""
    signal: Optional[int] = None
    message: str = ""
    """One sentence for a person."""
    log_bytes: int = 0
    """Length of the log; a reader at this offset has everything."""
    log_sha256: str = ""
    log_kept: Optional[bool] = None
    """Whether the whole log is on the volume too (see `SavedFolder`); ``None`` where there is no volume."""
    max_rss_bytes: Optional[int] = None
    cpu_seconds: Optional[float] = None
    hand_off: Optional[HandOff] = None
    """``None`` unless the machine was taken back while the run went on. Nobody may end such a machine but its
    provider: another end hides the reason."""
    caused_by: Optional[int] = None
    """The rank of another machine of the run for which this one ended; ``None``: it ended by itself."""
    script_ended_at: Optional[float] = None
    """When the script ended, or was told to, before what it saved was brought home; seconds since the epoch."""
    cause: Optional[EndReason] = None
    """How the run ended on that other machine, as this one has heard it."""
    gone: tuple[int, ...] = ()
    """The ranks of machines without which the run has gone on, as this one has heard it."""

    @property
    def run_reason(self) -> EndReason:
        """How the run has ended by this: as on the machine for which this one ended, or as here."""
        return self.cause or self.reason


@dataclass(frozen=True)
class SavedFolder:
    """Where a run keeps on a volume what must outlive its machine: ``checkpoints``, ``output`` and ``logs``."""

    volume_id: str
    path: str
    """From the root of the volume's file system, such as ``runs/run-7kq2m9xd4t``; wherever it is mounted."""


@dataclass(frozen=True)
class AttemptStatus:
    """One attempt as the agent sees it now."""

    run_id: str
    attempt: int
    state: RunState
    script: str = ""
    args: tuple[str, ...] = ()
    project: str = ""
    phase: str = ""
    """In words: "installing 12 requirements with uv"."""
    created_at: Optional[float] = None
    started_at: Optional[float] = None
    """When the script's own process started."""
    pid: Optional[int] = None
    """Of the training process, on the machine."""
    container_id: Optional[str] = None
    image: Optional[str] = None
    image_digest: Optional[str] = None
    """Of the image that the container was made from: the registry's, else the engine's id."""
    log_bytes: int = 0
    mounts: tuple[MountSpec, ...] = ()
    checkpoint_dir: Optional[str] = None
    """On the machine."""
    output_dir: Optional[str] = None
    saved: Optional[SavedFolder] = None
    """``None``: what the run saves is on the machine's own disk, and ends with it."""
    checkpoint: Optional[CheckpointStatus] = None
    """The newest complete one; ``None``: there is none."""
    resumed: Optional[CheckpointStatus] = None
    """What the attempt went on from; ``None``: from the beginning, or it is not known yet."""
    progress: Optional[ProgressStatus] = None
    """How far the script says that it is; ``None``: it says nothing."""
    machine_end: Optional[MachineEnd] = None
    """See `RunSpec.machine_end`."""
    cpu_percent: Optional[float] = None
    cpu_seconds: Optional[float] = None
    """What the script, and all that it has started and that still runs, has used so far."""
    rss_bytes: Optional[int] = None
    gpu_percent: Optional[float] = None
    rebalance_at: Optional[float] = None
    """When the provider recommended to move, in seconds since the epoch."""
    machine_ends_at: Optional[float] = None
    """When the provider takes the machine back, in seconds since the epoch; ``None`` while it may stay."""
    rank: Optional[int] = None
    """Which of the run's machines this one is; ``None``: it is the only one."""
    nodes: int = 1
    """How many machines the run was started on."""
    orphaned: bool = False
    """Its supervisor is gone: the script goes on, and nobody sees to it."""
    end: Optional[EndRecord] = None
    now: Optional[float] = None
    """The machine's clock when it answered; its other times are by the same clock, which need not be the reader's."""


@dataclass(frozen=True)
class MachineMount:
    """A volume's file system that is mounted on the machine."""

    mount_point: str
    device: str
    volume_id: Optional[str]
    """From the device's serial; ``None`` for disks that are no EBS volumes."""
    fstype: str
    size_bytes: int
    free_bytes: int
    read_only: bool = False
    persistent: bool = False
    """It is in fstab, by UUID."""


@dataclass(frozen=True)
class LogFrame:
    """One piece of a log: a JSON line of this, then ``length`` raw bytes.

    The last frame carries ``end`` (the attempt has ended and this reader has everything) or, without
    ``follow``, just ``state``. Frames of length 0 in between are heartbeats.
    """

    offset: int
    length: int
    state: RunState
    end: Optional[EndRecord] = None
    last: bool = False
