"""Runs, their attempts and their checkpoints; fields in the JSON contract's order."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from runctl._dataclasses import dataclass
from runctl.core.ids import InstanceId, RunId, VolumeId
from runctl.core.machine_models import Mount
from runctl.core.run_phase import RunPhase as RunPhase  # noqa: PLC0414 (it is one of the models)


class CheckpointState(StrEnum):
    """What is known of a checkpoint's bytes."""

    COMPLETE = "complete"
    """By its format it was written to its end; in a store, everything that its manifest names is there."""
    VERIFIED = "verified"
    """All of it was read and compared with checksums: its formats', its folder's or its manifest's."""
    BROKEN = "broken"
    """It is still being written, was cut short, or has changed; ``problem`` says which."""


@dataclass(frozen=True)
class CheckpointFile:
    """One file of a checkpoint."""

    path: str
    """From the folder that the checkpoint is in."""
    size_bytes: int
    sha256: str | None
    """``None`` where nobody has read it yet."""


@dataclass(frozen=True)
class Checkpoint:
    """What a script has saved to go on from: a file or a folder, with the files that belong to it."""

    name: str
    """The file or folder, from the folder of checkpoints."""
    step: int | None
    """As its own files or its name say; ``None`` where neither does."""
    state: CheckpointState
    problem: str
    """Why it is broken, in words; else empty."""
    saved_at: datetime
    """When its last file was written, by the clock of the machine that wrote it."""
    size_bytes: int
    where: str
    """The folder or the store that it is in."""
    attempt: int | None = None
    """Of the run, in a store."""
    number: int | None = None
    """Within the attempt, in a store: of two, the later one is the newer."""
    files: tuple[CheckpointFile, ...] = ()


@dataclass(frozen=True)
class GitState:
    """What of a project git had when a run began."""

    commit: str | None
    """Full hash; ``None`` before the first commit."""
    changed: tuple[str, ...] = ()
    """Files that differ from the commit, and files that git does not track; at most 200 of them."""
    changed_count: int = 0
    """How many there were."""


@dataclass(frozen=True)
class HandOff:
    """What an attempt has left for the next one when its machine was taken back. Times by the machine's clock."""

    machine_ends_at: datetime
    """As the provider announced it."""
    stages: Mapping[str, datetime]
    """When each was reached, in their order: ``heard``, ``signalled``, ``script_ended``, ``verified``, ``published``,
    ``flushed``, ``unmounted``, ``detached``. A stage that was not reached is missing."""
    checkpoint: str | None
    """The newest complete one, from the run's checkpoint folder."""
    sha256: str | None
    """Of the file; of a folder, that of its files' list as ``sha256sum`` writes it, sorted by name."""
    step: int | None
    left: tuple[str, ...]
    """What was not done, and where it is instead, a sentence each."""
    is_rehearsal: bool
    """A user played the notice (``runs interrupt``): the machine stays."""


@dataclass(frozen=True)
class MachineAfterRun:
    """When a machine that was rented for a run ends itself. Every time counts from the run's end."""

    keep: bool
    """It stays until somebody ends it."""
    read_within_seconds: float
    """Where results and log are safe elsewhere: how long it waits for somebody to read the end."""
    fetch_within_seconds: float
    """Where they are on its own disk alone: how long it waits for somebody to fetch them."""
    keep_on_failure_seconds: float
    """It stays this long after an end other than COMPLETED."""
    results_url: str | None
    """Where in an object store the machine puts what the run wrote, below the run's id."""


@dataclass(frozen=True)
class SpotFallback:
    """An attempt that was to be on a spot machine, and is on demand as none could be had."""

    spot_price_per_hour: Decimal | None
    """USD, of the spot machine that it was to have; ``None``: not known."""


@dataclass(frozen=True)
class MovedVolume:
    """A volume of a run whose data has followed it to another zone."""

    name: str | None
    volume_id: VolumeId
    """The one that the run had, which is kept unless it was such a copy itself."""
    zone: str
    to_volume_id: VolumeId
    to_zone: str
    attempt: int
    """For which it was moved."""
    filled_from: str | None = None
    """The address in an object store that the new one was filled from; ``None``: it was made of a snapshot."""


@dataclass(frozen=True)
class RunAttempt:
    """One attempt of a run. Times by its machine's clock."""

    attempt: int
    """From 1."""
    instance_id: InstanceId
    instance_type: str | None
    market: str | None
    zone: str | None
    price_per_hour: Decimal | None
    """USD, of the instance, when the attempt began."""
    created_at: datetime
    started_at: datetime | None
    """When the script's process started."""
    ended_at: datetime | None
    end_reason: str | None
    message: str
    resumed_from: str | None
    """Name of the checkpoint that it went on from; ``None``: from the beginning, or not known yet."""
    resumed_step: int | None
    """Of that checkpoint, as far as it tells."""
    checkpoint: str | None
    """Name of the newest complete checkpoint, when the machine was last asked."""
    step: int | None
    """Of that one."""
    lost_seconds: float | None
    """Work that had to be done again: from the last checkpoint that the next attempt went on from until the end;
    ``None`` where there is no next attempt, or it has not said yet."""
    fallback: SpotFallback | None = None
    """``None``: it is on the market that was asked for."""


@dataclass(frozen=True)
class RunProgress:
    """How far a run's script said last that it is."""

    step: float
    total: float | None
    """Of the same unit; ``None``: the script has not said it."""
    seen_at: datetime
    done: float | None
    """As a share: 0.25 is a quarter; ``None`` without a total."""
    seconds_left: float | None
    """Until the last step, at the pace of this attempt; ``None`` until that can be told."""


@dataclass(frozen=True)
class RunDeadline:
    """By when a run is to have ended, and what its policy says of that now."""

    policy: str
    ends_at: datetime
    estimate_seconds: float | None
    """As it was given."""
    work_seconds: float | None
    """How long all of the work takes without interruptions, by estimate and progress; ``None``: not known yet."""
    done_seconds: float
    """Of that, what lies in checkpoints that another machine can have."""
    slack_seconds: float | None
    """What may still be lost before the deadline is; ``None`` until the work is known."""
    on_demand_at: datetime | None
    """When an on-demand machine must be asked for if nothing more is done until then; ``None`` until the work is known.
    """
    decision: str
    """``spot``, ``on-demand`` or ``wait``: where the run is to be now; of one that has ended, ``ended``."""
    why: str
    """In words, after "because"."""


@dataclass(frozen=True)
class NewestCheckpoint:
    """The newest complete checkpoint of a run, when its machine was last asked."""

    path: str | None
    """On the machine; ``None``: there is none, and the rest says why."""
    saved_at: datetime | None
    step: int | None
    published_at: datetime | None
    """When all of it was in the run's store; ``None``: it is not, or there is no store."""
    sha256: str | None
    """Of the file; of a folder, of its files' list as ``sha256sum`` writes it, sorted by name."""
    trouble: str
    """Why it is not in the store; empty if nothing is wrong."""
    late_seconds: float
    """By how much it is older than it should be; 0 if it is not."""


class GroupPhase(StrEnum):
    """What the group of an unattended run does."""

    PLANNED = "planned"
    """It does not exist yet: the command that makes it was cut short, or is at work."""
    RENTING = "renting"
    """It has no machine, and asks for one."""
    HAS_MACHINE = "has-machine"
    IDLE = "idle"
    """It is to have no machine: somebody, or its time to live, has set it to zero."""
    ENDING = "ending"
    GONE = "gone"


@dataclass(frozen=True)
class UnattendedRun:
    """How a run goes on with no computer watching it."""

    group: str
    """What rents its machines: at AWS an Auto Scaling group of this name."""
    phase: GroupPhase
    suspended: tuple[str, ...] = ()
    """What the provider has stopped doing for the group."""
    activities: tuple[str, ...] = ()
    """What the provider said last, the newest first, where machines are missing."""
    is_removed: bool = False
    """Nothing of what was made for it is left, its rights included."""
    machines: int = 0
    """How many machines it has now."""
    wanted: int = 0
    """How many it keeps."""


@dataclass(frozen=True)
class RunNode:
    """One of the machines of a run that has several."""

    rank: int
    instance_id: InstanceId
    address: str
    """At which the others reach it."""
    state: RunPhase
    started_at: datetime | None
    ended_at: datetime | None
    end_reason: str | None
    exit_code: int | None
    caused_by: int | None
    """The rank of another machine for which it ended; ``None``: it ended by itself, or goes on."""
    message: str


@dataclass(frozen=True)
class FetchedResults:
    """Where all that a run wrote was brought to on this computer. The user may have moved or removed it since."""

    folder: str
    """The run's own, with ``output``, ``checkpoints`` and ``logs``."""
    attempt: int
    """The one after whose end that was."""
    files: int
    bytes: int
    fetched_at: datetime
    """By this computer's clock."""


@dataclass(frozen=True)
class Run:
    """One training job, from its plan to its end reason, and what is needed to repeat it."""

    id: RunId
    name: str | None
    """As given with ``--run-name``; several runs may have the same."""
    provider: str
    region: str | None
    instance_id: InstanceId
    instance_name: str | None
    """What it was called when the run began."""
    instance_type: str | None
    market: str | None
    project: str
    script: str
    args: tuple[str, ...]
    interpreter: tuple[str, ...]
    """As asked for; empty: the script's own, or by its extension."""
    workdir: str | None
    state: RunPhase
    attempt: int
    end_reason: str | None
    message: str
    """One sentence about the end; empty for a run that goes on or has nothing to say."""
    exit_code: int | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    timeout_seconds: float | None
    mounts: tuple[Mount, ...]
    image: str | None
    image_digest: str | None
    """The registry's digest, else the engine's id of the image; ``None`` on the host, and before it is known."""
    variables: tuple[str, ...]
    """Names of the variables that the user set; their values are not kept."""
    git: GitState | None
    """``None`` where the project is not under git."""
    checkpoint_dir: str | None
    """On the machine."""
    output_dir: str | None
    price_per_hour: Decimal | None
    """USD, of the instance, when the run began."""
    cost: Decimal | None
    """USD of the instances (not of volumes) over the time of all attempts so far; ``None`` where no price is known.
    Of instances that were rented for the run, all of their time, where the ledger is asked."""
    elapsed_seconds: float | None = None
    """Since the script started, until its end or now, by the machine's clock alone."""
    saved_volume: VolumeId | None = None
    """What has the run's checkpoints, output and log; ``None``: the machine's own disk, which ends with it."""
    saved_folder: str | None = None
    """Where on that volume, from the root of its file system."""
    log_bytes: int | None = None
    """Length of the log when the machine was last asked."""
    store: str | None = None
    """Where its checkpoints and its log are kept besides: below ``STORE/ID/``."""
    checkpoint: NewestCheckpoint | None = None
    hand_off: HandOff | None = None
    """``None`` unless the machine was taken back while the run went on."""
    machine_end: MachineAfterRun | None = None
    """What becomes of the machine, which was rented for the run; ``None``: it was not."""
    results: str | None = None
    """Where what the run wrote is brought after it: a folder of this computer, or an address."""
    fetched: FetchedResults | None = None
    """``None`` until all of it was brought to this computer."""
    zone: str | None = None
    """Where the instance is."""
    progress: RunProgress | None = None
    """``None``: the script says nothing of it."""
    deadline: RunDeadline | None = None
    """``None``: it may take as long as it takes."""
    attempts: tuple[RunAttempt, ...] = ()
    """All of them, the first one first. What the run itself says is of the last one."""
    moved_volumes: tuple[MovedVolume, ...] = ()
    """Each time that a volume has followed the run to another zone."""
    unattended: UnattendedRun | None = None
    """``None``: its machine was not rented by a group."""
    engine: str | None = None
    """What makes one run of several machines; ``None``: it has one."""
    nodes: tuple[RunNode, ...] = ()
    """Its machines by rank, where it has several; ``instance_id`` is that of rank 0."""
