"""What can be asked of a provider of volumes, and the plans it makes of that: frozen values, nothing done yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime, timedelta
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.core.machine_models import Snapshot, Volume
from runctl.costs.rates import Rate

PURPOSES = ("datasets", "checkpoints", "scratch", "archive")
"""What a volume may be for, where the provider is to suggest one."""


@dataclass(frozen=True)
class Suggestion:
    """A type and its numbers; ``None`` leaves a number to the type's default."""

    type: str
    iops: int | None
    throughput: int | None
    """MiB/s."""
    reason: str


@dataclass(frozen=True)
class DiskShape:
    """A volume's type and numbers, complete and within the limits."""

    type: str
    size_gib: int
    iops: int | None
    throughput: int | None
    """MiB/s."""


@dataclass(frozen=True)
class Initialization:
    """How the data of a snapshot gets onto a volume created from it."""

    rate: int | None
    """MiB/s; ``None``: in the background at the provider's own pace, and block by block when one is read first."""
    data_gib: Decimal
    """What there is to copy."""
    estimated: bool
    """The provider does not say how much data there is: it is at most the volume's size."""
    takes: timedelta | None
    """At the most; ``None`` where no rate is promised."""
    price: Rate | None
    """Once."""


@dataclass(frozen=True)
class VolumeRequest:
    """What a user wants of a new volume."""

    size_gib: int | None
    """``None``: as large as the snapshot's volume."""
    name: str | None = None
    type: str | None = None
    """``None``: the provider's usual one, said in the plan."""
    iops: int | None = None
    throughput: int | None = None
    """MiB/s."""
    zone: str | None = None
    """``None``: the provider's choice, said in the plan."""
    encrypted: bool = True
    persistent: bool = False
    project: str | None = None
    snapshot_id: str | None = None
    """Id or name; an id after planning."""
    tags: Mapping[str, str] = field(default_factory=dict)
    initialization_rate: int | None = None
    """MiB/s at which the snapshot's data is put onto the volume."""
    multi_attach: bool = False
    token: str | None = None
    """The plan's client token; ``None`` makes a new one. The same token twice makes one volume."""
    type_reason: str = ""


@dataclass(frozen=True)
class VolumePlan:
    """What `Volumes.create` is about to do and cost; every field decided."""

    request: VolumeRequest
    """With size, type, zone, IOPS and throughput filled in."""
    zone_reason: str
    price: Rate | None
    """Per month."""
    client_token: str
    initialization: Initialization | None = None
    """``None``: there is no snapshot to fill it from."""

    @property
    def size_gib(self) -> int:
        """Decided."""
        if self.request.size_gib is None:
            raise AssertionError("a volume plan has a size")
        return self.request.size_gib


@dataclass(frozen=True)
class SnapshotRequest:
    """What a user wants of a new snapshot."""

    volume: str
    """Id or name."""
    name: str | None = None
    description: str = ""
    persistent: bool | None = None
    """``None``: as the volume is."""
    tags: Mapping[str, str] = field(default_factory=dict)
    token: str | None = None
    """``None`` makes a new one. The same token twice makes one snapshot."""


@dataclass(frozen=True)
class SnapshotPlan:
    """What `Snapshots.create` is about to do and cost."""

    volume: Volume
    name: str | None
    description: str
    persistent: bool
    tags: Mapping[str, str]
    price: Rate | None
    """Per month, at the most: if every block of the volume were written, and none in an earlier snapshot."""
    incremental_to: Snapshot | None
    """The newest snapshot of the same volume: only what has changed since is copied and billed."""
    client_token: str


@dataclass(frozen=True)
class ResizeRequest:
    """What a volume shall be; ``None`` leaves it as it is."""

    size_gib: int | None = None
    type: str | None = None
    iops: int | None = None
    throughput: int | None = None
    """MiB/s."""


@dataclass(frozen=True)
class Modification:
    """The newest change of a volume that the provider knows of."""

    state: str
    """``modifying``, ``optimizing``, ``completed`` or ``failed``."""
    progress: int | None
    """Per cent."""
    target_size_gib: int | None
    target_type: str | None
    target_iops: int | None
    target_throughput: int | None
    started_at: datetime
    message: str = ""

    @property
    def is_under_way(self) -> bool:
        """Another one is refused until it is over."""
        return self.state in {"modifying", "optimizing"}


@dataclass(frozen=True)
class ResizePlan:
    """What `Resizing.resize` is about to change."""

    volume: Volume
    """As it is now."""
    size_gib: int
    type: str
    iops: int | None
    throughput: int | None
    changes: tuple[str, ...]
    """In words, such as ``size 10 → 20 GiB``; empty where the volume is (or is becoming) so already."""
    pending: Modification | None
    """What is under way already, and is what was asked for."""
    price_before: Rate | None
    price_after: Rate | None
    """Per month."""
    modifications_today: int
    """Made by runctl in the last 24 hours."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class CloneRequest:
    """What a user wants of a copy of a volume in its own zone."""

    volume: str
    """Id or name."""
    name: str | None = None
    size_gib: int | None = None
    """``None``, here and below: as the source is."""
    type: str | None = None
    iops: int | None = None
    throughput: int | None = None
    persistent: bool | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    token: str | None = None
    """``None`` makes a new one. The same token twice makes one volume."""


@dataclass(frozen=True)
class ClonePlan:
    """What `Clones.create` is about to make."""

    source: Volume
    name: str | None
    size_gib: int
    type: str
    iops: int | None
    throughput: int | None
    persistent: bool
    multi_attach: bool
    tags: Mapping[str, str]
    price: Rate | None
    """Per month."""
    copy_fee: str
    """In words: what is billed once for the copying."""
    client_token: str


@dataclass(frozen=True)
class InitializationStatus:
    """How much of its data a volume created from a snapshot or another volume has."""

    complete: bool
    progress: int | None
    """Per cent; ``None`` where the provider does not say."""
    remaining_seconds: int | None
    rate: int | None = None
    """MiB/s that were promised when it was created."""


def changes_between(
    volume: Volume, size_gib: int, type_: str, iops: int | None, throughput: int | None
) -> tuple[str, ...]:
    """What differs, in words."""
    found = []
    if size_gib != volume.size_gib:
        found.append(f"size {volume.size_gib:,} → {size_gib:,} GiB")
    if type_ != volume.type:
        found.append(f"type {volume.type} → {type_}")
    for name, before, after, unit in (
        ("IOPS", volume.iops, iops, ""),
        ("throughput", volume.throughput, throughput, " MiB/s"),
    ):
        if after is not None and after != before:
            was = "the type's own" if before is None else f"{before:,}"
            found.append(f"{name} {was} → {after:,}{unit}")
    return tuple(found)


def difference(before: Rate | None, after: Rate | None) -> Decimal | None:
    """USD a month more; ``None`` where a price is not known."""
    return None if before is None or after is None else after.usd - before.usd
