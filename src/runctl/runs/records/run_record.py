"""What this computer remembers of a run."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timedelta
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.agent.after_run import MachineEnd
from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.deadline_spec import DeadlineSpec, ProgressStatus
from runctl.agent.end_reason import EndReason
from runctl.agent.interruption import HandOff as HandOffSpec
from runctl.core.ids import InstanceId, RunId, VolumeId
from runctl.core.machine_models import Mount
from runctl.core.run_models import (
    FetchedResults,
    GitState,
    MovedVolume,
    RunPhase,
    SpotFallback,
    UnattendedRun,
)
from runctl.runs.records.node_records import KnownNodes


@dataclass(frozen=True)
class KnownAttempt:
    """An attempt, or what is remembered of one that another has followed."""

    attempt: int
    instance_id: InstanceId
    instance_type: str | None
    market: str | None
    zone: str | None
    price_per_hour: Decimal | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    end_reason: EndReason | None
    message: str
    checkpoint: CheckpointStatus | None
    resumed: CheckpointStatus | None
    fallback: SpotFallback | None = None
    progress: ProgressStatus | None = None
    lead_seconds: float | None = None
    machines: tuple[InstanceId, ...] = ()
    """All of them, by rank; empty: ``instance_id`` alone."""
    nodes_token: str | None = None
    """By which what was made beside several machines is found; ``None``: nothing of that is left."""


@dataclass(frozen=True)
class RunRecord:
    """A run, and what is needed to find it again and to say what it cost."""

    id: RunId
    provider: str
    region: str | None
    instance_id: InstanceId
    project: str
    script: str
    args: tuple[str, ...]
    state: RunPhase
    attempt: int
    created_at: datetime
    mounts: tuple[Mount, ...] = ()
    image: str | None = None
    instance_type: str | None = None
    market: str | None = None
    price_per_hour: Decimal | None = None
    """USD, of the instance, when the run began."""
    end_reason: EndReason | None = None
    exit_code: int | None = None
    message: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    checkpoint_dir: str | None = None
    """On the machine."""
    output_dir: str | None = None
    name: str | None = None
    """The user's, for people; not unique."""
    instance_name: str | None = None
    """What the user called the instance when the run began."""
    interpreter: tuple[str, ...] = ()
    workdir: str | None = None
    timeout_seconds: float | None = None
    image_digest: str | None = None
    variables: tuple[str, ...] = ()
    """Names of what the user set in the script's environment; never values."""
    git: GitState | None = None
    saved_volume: VolumeId | None = None
    saved_folder: str | None = None
    """On ``saved_volume``, from the root of its file system: ``checkpoints``, ``output`` and ``logs`` are there."""
    log_bytes: int | None = None
    log_sha256: str | None = None
    """Of the whole log; once the run has ended."""
    hand_off: HandOffSpec | None = None
    """What the attempt has left for the next one, if its machine was taken back."""
    machine_end: MachineEnd | None = None
    """What becomes of the machine, which was rented for the run; ``None``: it was not."""
    results: str | None = None
    """Where what the run wrote is brought after it: a folder of this computer, or an address."""
    fetched: FetchedResults | None = None
    """Where it is on this computer, once all of it was brought here. `RunStore.note_fetched` alone writes it."""
    zone: str | None = None
    store: str | None = None
    """Where its checkpoints and its log are kept besides: below ``STORE/ID/``."""
    checkpoint: CheckpointStatus | None = None
    """The newest complete one, when the machine was last asked."""
    resumed: CheckpointStatus | None = None
    """What the attempt went on from; ``None``: from the beginning, or not known yet."""
    fallback: SpotFallback | None = None
    """The attempt was to be on a spot machine."""
    moved_volumes: tuple[MovedVolume, ...] = ()
    """Each time that a volume has followed the run to another zone."""
    progress: ProgressStatus | None = None
    """How far the script said last that it is."""
    deadline: DeadlineSpec | None = None
    lead_seconds: float | None = None
    """From the request for the attempt's machine until the attempt was sent there; ``None``: the machine was there."""
    past: tuple[KnownAttempt, ...] = ()
    """The attempts before this one, the first one first."""
    unattended: UnattendedRun | None = None
    """How it goes on with no computer watching it; ``None``: its machine was not rented by a group."""
    nodes: KnownNodes | None = None
    """Its machines, of which ``instance_id`` is rank 0's; ``None``: it has one."""
    search_began_at: datetime | None = None
    """When a machine was looked for first after this attempt; ``None``: not yet. Nobody may have looked for long."""
    account: str | None = None
    """Who is billed for its machines, as the provider names it; ``None``: nobody, or it is not known."""
    signal: int | None = None
    """Which has ended the script; ``None``: it has exited, or was never there."""
    clock_ahead: float = 0.0
    """Seconds by which the machine's clock is ahead of this computer's. The times above are by the machine's."""

    def by_its_clock(self, now: datetime) -> datetime:
        """What the machine's clock shows when this computer's shows ``now``."""
        return now + timedelta(seconds=self.clock_ahead)

    @property
    def has_ended(self) -> bool:
        """Whether nothing about it can change any more."""
        return self.state is RunPhase.ENDED

    @property
    def needs_refresh(self) -> bool:
        """Whether the run's group can have changed it, or has left something."""
        return self.unattended is not None and not self.unattended.is_removed

    @property
    def machines(self) -> tuple[InstanceId, ...]:
        """Those of the newest attempt, by rank; empty: it has none yet."""
        if self.nodes is not None:
            return self.nodes.machines
        return (self.instance_id,) if self.instance_id else ()

    @property
    def nodes_token(self) -> str | None:
        """By which what was made beside its machines is found, if it has several."""
        return None if self.nodes is None else self.nodes.token

    def rank_on(self, instance_id: str) -> int | None:
        """The rank that this machine has, or had in an earlier attempt; ``None``: it is none of the run's."""
        for machines in (
            self.machines,
            *(each.machines or (each.instance_id,) for each in reversed(self.past)),
        ):
            if instance_id in machines:
                return machines.index(InstanceId(instance_id))
        return None

    def whole_log(self, rank: int = 0) -> tuple[int | None, str | None]:
        """Length in bytes and SHA-256 of the log that this machine has written, once it has ended there."""
        if self.nodes is None:
            return self.log_bytes, self.log_sha256
        end = self.nodes.ends.get(rank)
        return (None, None) if end is None else (end.log_bytes, end.log_sha256)

    def cost(self, now: datetime) -> Decimal | None:
        """USD for the instances of all attempts, each from the attempt's creation to its end, or to ``now``."""
        if self.price_per_hour is None or not self.instance_id:
            return None
        paid = Decimal(str(self.seconds_since(self.created_at, now))) * len(self.machines)
        cost = self.price_per_hour * paid / 3600
        for before in self.past:
            if before.price_per_hour is not None and before.ended_at is not None:
                seconds = max((before.ended_at - before.created_at).total_seconds(), 0.0)
                cost += before.price_per_hour * Decimal(str(seconds)) / 3600 * max(1, len(before.machines))
        return cost

    def seconds_since(self, since: datetime, now: datetime) -> float:
        """From then until its end, or until ``now`` by this computer's clock."""
        until = self.ended_at or self.by_its_clock(now)
        return max((until - since).total_seconds(), 0.0)


def as_known(record: RunRecord) -> KnownAttempt:
    """The attempt that the record is of."""
    return KnownAttempt(**{field.name: getattr(record, field.name) for field in fields(KnownAttempt)})
