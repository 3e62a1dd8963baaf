"""Machines, volumes and snapshots, as every provider describes them; fields in the JSON contract's order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from runctl._dataclasses import dataclass
from runctl.core.ids import InstanceId, SnapshotId, VolumeId


class Market(StrEnum):
    """How an instance is paid for."""

    SPOT = "spot"
    ON_DEMAND = "on-demand"
    OWNED = "owned"
    """It is the user's own, such as this computer: it is not rented and costs nothing."""


class InstanceState(StrEnum):
    """Where an instance is in its life."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    SHUTTING_DOWN = "shutting-down"
    TERMINATED = "terminated"
    UNREACHABLE = "unreachable"
    """It does not answer, and nobody else can say how it is: it may well be running."""

    @property
    def is_over(self) -> bool:
        """Whether it will never run again."""
        return self in {InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED}


class VolumeState(StrEnum):
    """Where a volume is in its life, in EC2's words."""

    CREATING = "creating"
    AVAILABLE = "available"
    IN_USE = "in-use"
    DELETING = "deleting"
    DELETED = "deleted"
    ERROR = "error"


@dataclass(frozen=True)
class AttachedVolume:
    """A volume on an instance."""

    volume_id: VolumeId
    device: str
    """As the provider's API names it, such as ``/dev/sdf``; the kernel's name differs."""
    mount_point: str | None = None
    """Where it was asked to be mounted; ``None`` for root disks and unmounted ones."""


@dataclass(frozen=True)
class Instance:
    """One rented machine, or this computer."""

    id: InstanceId
    provider: str
    state: InstanceState
    instance_type: str
    market: Market
    zone: str | None
    public_ip: str | None
    private_ip: str | None
    price_per_hour: Decimal | None
    """USD; ``None`` where no price is known."""
    project: str | None
    owner: str | None
    created_at: datetime
    volumes: tuple[AttachedVolume, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    state_reason: str | None = None
    """Why it is in this state, in the provider's words; ``None`` where it does not say."""
    interrupted: bool = False
    """The provider took it back, or is about to: a spot instance's end."""
    ended_at: datetime | None = None
    """When it stopped or ended, by the provider's clock; ``None`` while it goes on, and where the provider does not
    say."""
    ended_itself: bool = False
    """It was shut down from inside, by the provider's word."""


@dataclass(frozen=True)
class Volume:
    """Block storage that outlives an instance."""

    id: VolumeId
    name: str | None
    state: VolumeState
    size_gib: int
    type: str
    iops: int | None
    throughput: int | None
    """MiB/s."""
    zone: str
    encrypted: bool
    attached_to: InstanceId | None
    device: str | None
    """The path on the machine; ``None`` when not attached, or not known without asking the machine."""
    mount_point: str | None
    persistent: bool
    price_per_month: Decimal | None
    """USD."""
    tags: Mapping[str, str] = field(default_factory=dict)
    multi_attach: bool = False
    """Several instances may have it at once."""
    instances: tuple[InstanceId, ...] = ()
    """All that have it; more than one only with ``multi_attach``."""
    snapshot_id: SnapshotId | None = None
    """What it was created from."""
    created_at: datetime | None = None
    source_volume_id: VolumeId | None = None
    """The volume that it was copied from."""
    ends_with_instance: bool = False
    """It was created with the instance that it is attached to, and is deleted with it: its root disk, for one."""


class SnapshotState(StrEnum):
    """Where a snapshot is in its life, in EC2's words."""

    PENDING = "pending"
    COMPLETED = "completed"
    ERROR = "error"
    RECOVERABLE = "recoverable"
    RECOVERING = "recovering"
    DELETED = "deleted"
    """Not EC2's: what runctl says of one that it has just deleted."""


@dataclass(frozen=True)
class Snapshot:
    """A volume's copy in time. It outlives the volume and belongs to no zone."""

    id: SnapshotId
    name: str | None
    state: SnapshotState
    progress: int | None
    """Per cent of the copying that is done."""
    volume_id: VolumeId | None
    """What it was taken of; that volume may no longer exist."""
    volume_size_gib: int
    """Of that volume, and the smallest size of a volume created from it."""
    data_gib: Decimal | None
    """What is in it in full, as if it were the only snapshot; ``None`` where EC2 does not say."""
    encrypted: bool
    persistent: bool
    price_per_month: Decimal | None
    """USD at the most: a snapshot is billed for what it does not share with the one before it."""
    description: str
    created_at: datetime
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Mount:
    """A folder of the machine that the script sees at ``target``."""

    source: str
    target: str
    read_only: bool
    volume_id: VolumeId | None
    origin: str
    """Which rule asked for it: ``--ebs-mount``, ``config``, ``automatic``."""
