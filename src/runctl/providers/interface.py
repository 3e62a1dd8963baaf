"""What a provider of machines must implement, and what it may.

The smallest provider implements the abstract methods of `Provider`. Block volumes are a capability of their own
(`VolumeProvider`): a provider states in `Provider.capabilities` what it can do, and for the rest why not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any

from runctl.core.errors import Unsupported
from runctl.core.ids import InstanceId, SnapshotId, VolumeId
from runctl.core.journal import Journal
from runctl.core.models import Instance, Market, Snapshot, Volume
from runctl.core.progress import SILENT, Progress
from runctl.costs.prices import Price as Price  # noqa: PLC0414 (re-exported: a part of this interface)
from runctl.providers.volume_plans import (
    ClonePlan,
    CloneRequest,
    InitializationStatus,
    Modification,
    ResizePlan,
    ResizeRequest,
    SnapshotPlan,
    SnapshotRequest,
)
from runctl.providers.volume_plans import VolumePlan as VolumePlan  # noqa: PLC0414 (as above)
from runctl.providers.volume_plans import VolumeRequest as VolumeRequest  # noqa: PLC0414 (as above)
from runctl.transport.agent import AgentClient
from runctl.transport.interface import Transport


class Capability(StrEnum):
    """Something that not every provider can do."""

    SPOT = "spot"
    VOLUMES = "volumes"
    STOP_AND_START = "stop-and-start"
    DOCKER = "docker"
    REGISTRY = "registry"
    TERMINAL = "terminal"


@dataclass(frozen=True)
class VolumeMount:
    """A volume that an instance is to have, and where."""

    volume: str
    """Id or name; ids after planning."""
    mount_point: str | None = None
    """Absolute path on the machine; ``None`` leaves it where `runctl.core.mount_points.usual_places` says, and is in
    no plan."""


@dataclass(frozen=True)
class InstanceRequest:
    """What a user wants of a new instance. ``None`` leaves the choice to configuration, then to the provider."""

    instance_type: str | None = None
    market: Market = Market.ON_DEMAND
    volumes: tuple[VolumeMount, ...] = ()
    data_volume_size_gib: int | None = None
    """A fresh volume that dies with the instance, mounted at ``data_mount_point``."""
    data_mount_point: str = "/mnt/data"
    root_volume_size_gib: int | None = None
    image: str | None = None
    """The provider's image id (an AMI); else the provider chooses by architecture and GPU."""
    key_name: str | None = None
    security_groups: tuple[str, ...] = ()
    instance_profile: str | None = None
    subnet: str | None = None
    zone: str | None = None
    project: str | None = None
    name: str | None = None
    ttl: timedelta | None = None
    """The machine ends itself after this long, whatever happens to runctl."""
    helper_for: VolumeId | None = None
    """It is rented for this volume's sake only; see `runctl.providers.filling`."""
    tags: Mapping[str, str] = field(default_factory=dict)
    imds_hop_limit: int | None = None
    """How many hops away the metadata service still answers: with 2, containers can take the machine's role."""
    token: str | None = None
    """The plan's client token; ``None`` makes a new one. The same token twice makes one instance."""


@dataclass(frozen=True)
class Scope:
    """Where and for whom a provider acts: what makes the same request another one elsewhere."""

    account: str | None = None
    """Who is billed."""
    region: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What a request that leaves something open is filled up with."""


@dataclass(frozen=True)
class CreatePlan:
    """What `Provider.create` is about to do and what it will cost. Nothing has been created yet."""

    provider: str
    instance_type: str
    market: Market
    region: str
    zone: str | None
    """``None``: the provider chooses."""
    zone_reason: str
    image: str
    image_reason: str
    login_user: str
    price: Price | None
    on_demand_price: Price | None
    """What the same machine costs on demand, for comparison."""
    volumes: tuple[VolumeMount, ...]
    """By id. Every one was looked at: it exists, is free and is in ``zone``."""
    volume_prices: Mapping[str, Price]
    """Monthly, by volume id; ``root`` and ``data`` for those made with the instance."""
    data_volume_size_gib: int | None
    data_mount_point: str
    root_volume_size_gib: int | None
    key_name: str | None
    security_groups: tuple[str, ...]
    instance_profile: str | None
    subnet: str | None
    project: str | None
    owner: str | None
    name: str | None
    ttl: timedelta | None
    tags: Mapping[str, str]
    client_token: str
    """The same plan carried out twice makes one instance."""
    will_also_create: tuple[str, ...] = ()
    """In words: what else comes into being, such as an IAM role."""
    warnings: tuple[str, ...] = ()
    imds_hop_limit: int = 1


class DoctorStatus(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """One line of `runctl doctor`: what was looked at, how it is, and the exact fix."""

    name: str
    status: DoctorStatus
    detail: str
    fix: str = ""


class Provider(ABC):
    """Rents machines, and describes those it has rented.

    Any method may raise `CredentialsError`, `PermissionDenied`, `ProviderError` and, when the provider does not
    answer, `Unreachable`. Lists hold what is tagged as ours unless ``everyone`` is set.
    """

    name: str

    @cached_property
    def journal(self) -> Journal:
        """What has been changed through this object; see `runctl.core.journal`."""
        return Journal()

    def scope(self) -> Scope:
        """Where this provider acts."""
        return Scope()

    @abstractmethod
    def capabilities(self) -> Mapping[Capability, Unsupported | None]:
        """For every `Capability`: ``None`` when it is there, else the error that says why not."""

    @abstractmethod
    def plan_create(self, request: InstanceRequest, progress: Progress = SILENT) -> CreatePlan:
        """Resolve every open question of the request without creating anything.

        Raises `NotFound` (no such volume, key, group, image, type), `Conflict` (volume in use), `ZoneMismatch`
        (volumes in different zones, or not in the zone asked for), `UsageError`, `Unsupported`.
        """

    @abstractmethod
    def create(self, plan: CreatePlan, progress: Progress = SILENT) -> Instance:
        """The instance exists, tagged; it may still be booting (see `wait_ready`).

        Calling it again with the same plan returns the same instance. It may have created the machine even if it
        raised: the tags and the client token find it. Raises `CapacityError`, `QuotaExceeded`; never falls back
        to another market.
        """

    @abstractmethod
    def wait_ready(
        self, instance_id: InstanceId, *, timeout: timedelta, progress: Progress = SILENT
    ) -> Instance:
        """The machine can be used: running, reachable, user-data finished, its volumes attached and mounted.

        Each stage is a step of ``progress``. Raises `Unreachable` when the time is up (saying which stage was not
        reached), `MachineError` when user-data or a mount failed (with its log's end), `Conflict` when the
        instance ended meanwhile (with the provider's reason).
        """

    @abstractmethod
    def instance(self, instance_id: InstanceId) -> Instance:
        """As it is now. Raises `NotFound`."""

    @abstractmethod
    def instances(self, *, everyone: bool = False, include_ended: bool = False) -> tuple[Instance, ...]:
        """All of them, newest first, every page."""

    @abstractmethod
    def terminate(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        """It is shutting down or gone; its own disks go with it, volumes brought along stay. Idempotent.

        Raises `NotFound`, `PermissionDenied` (code ``not-ours``) for an instance that runctl did not create.
        """

    def wait_ended(
        self, instance_id: InstanceId, *, timeout: timedelta, progress: Progress = SILENT
    ) -> Instance:
        """An instance that is shutting down has ended, and no volume is attached to it any more.

        Raises `NotFound`, and `Unreachable` when the time is up.
        """
        raise Unsupported(f"{self.name} does not end machines")

    @abstractmethod
    def transport(self, instance: Instance, choice: str = "auto", progress: Progress = SILENT) -> Transport:
        """A way to the machine: ``auto``, ``ssh``, ``ssm``, ``local``; the reason goes to ``progress.detail``.

        Raises `Unreachable` where none works, saying what was tried, `Unsupported` for a choice it cannot make.
        """

    def agent(self, instance: Instance, choice: str = "auto", progress: Progress = SILENT) -> AgentClient:
        """The agent on the machine, over `transport`, knowing where its state is; its first call installs it."""
        from runctl.agent.package import build
        from runctl.core.places import cache_folder

        return AgentClient(
            self.transport(instance, choice, progress),
            agent_file=lambda: build(cache_folder() / "agent"),
            progress=progress,
            journal=self.journal,
        )

    def report_to(self, progress: Progress) -> None:
        """Say there from now on what no call's own progress is told: that the provider takes long to answer."""

    @property
    def region(self) -> str | None:
        """Where its machines are; ``None`` for a provider without regions."""
        return None

    def costs_money(self) -> bool:
        """Whether somebody pays for what is rented here; false for this computer and in the sandbox."""
        return True

    def platform(self, instance_type: str) -> str | None:
        """For which platform images for such a machine are built, such as ``linux/arm64``; ``None``: not known."""
        del instance_type
        return None

    @abstractmethod
    def doctor(self) -> tuple[Check, ...]:
        """What works, what is missing, and the exact fix. Never raises; a failure is a check that failed."""

    def stop(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        """It is stopped (or stopping) and no longer billed by the hour; its disks stay and are billed."""
        raise Unsupported(f"{self.name} cannot stop and start instances")

    def start(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        """A stopped instance is starting; see `wait_ready`."""
        raise Unsupported(f"{self.name} cannot stop and start instances")


class VolumeProvider(Provider):
    """A provider with block volumes that outlive instances."""

    @abstractmethod
    def plan_volume(self, request: VolumeRequest) -> VolumePlan:
        """Check size, IOPS and throughput against the type's limits and choose the zone. Creates nothing.

        Raises `UsageError` outside the limits, `Conflict` when the name is taken, `NotFound` for a zone or snapshot.
        """

    @abstractmethod
    def create_volume(self, plan: VolumePlan, progress: Progress = SILENT) -> Volume:
        """The volume exists, tagged, and is available. The same plan twice makes one volume."""

    @abstractmethod
    def volume(self, id_or_name: str) -> Volume:
        """One volume, ours or not. Raises `NotFound`, `Conflict` when the name is not unique."""

    @abstractmethod
    def volumes(self, *, everyone: bool = False) -> tuple[Volume, ...]:
        """All of them, newest first, every page."""

    @abstractmethod
    def attach_volume(
        self, volume_id: VolumeId, instance_id: InstanceId, progress: Progress = SILENT
    ) -> Volume:
        """The volume is attached, at a free device name; already attached there is fine.

        Mounting is the agent's. Raises `Conflict` (in use elsewhere), `ZoneMismatch`, `NotFound`.
        """

    @abstractmethod
    def detach_volume(
        self,
        volume_id: VolumeId,
        *,
        force: bool = False,
        progress: Progress = SILENT,
        instance_id: InstanceId | None = None,
    ) -> Volume:
        """The volume is available again; already detached is fine. Unmounting first is the caller's.

        With ``instance_id`` it is detached from that instance alone, and stays on others that have it too.
        ``force`` takes it from a machine that does not answer, at the risk of what was not written.
        """

    def is_being_released(self, volume: Volume) -> bool:
        """Whether every instance that has the volume is shutting down or gone, so that it is free in a moment."""
        return False

    def released(self, volume: Volume, progress: Progress = SILENT) -> Volume:
        """The volume, free where `is_being_released` says that it will be: that is waited for. Others as they are.

        Raises `Unreachable` when it takes too long.
        """
        return volume

    def remember_mount(self, volume_id: VolumeId, instance_id: InstanceId, mount_point: str) -> None:
        """The instance and, if it is ours, the volume say from now on where the volume is mounted."""

    @abstractmethod
    def delete_volume(
        self, volume_id: VolumeId, progress: Progress = SILENT, *, include_protected: bool = False
    ) -> None:
        """The volume is gone; already gone is fine.

        Raises `Conflict` while it is attached or (code ``protected``) persistent, `PermissionDenied` (code
        ``not-ours``) for a volume that runctl did not create. ``include_protected`` takes a persistent one too.
        """

    def tag_volume(
        self, volume_id: VolumeId, tags: Mapping[str, str], *, remove: Collection[str] = ()
    ) -> None:
        """The volume has these tags (and not those) from now on; in one call each, adding first."""
        raise Unsupported(f"{self.name} cannot tag volumes")

    def plan_resize(self, volume: str, request: ResizeRequest) -> ResizePlan:
        """Check the change against the limits and against what is under way; ``volume`` is an id or a name.

        Raises `UsageError` (smaller, or outside a limit), `Conflict` (code ``modifying``: another change is under
        way; code ``modification-limit``: four in 24 hours), `NotFound`.
        """
        raise Unsupported(f"{self.name} cannot resize volumes")

    def resize_volume(self, plan: ResizePlan, progress: Progress = SILENT) -> Volume:
        """The volume has its new size, and is at least optimizing towards the rest. The same plan twice is fine.

        What is on the volume is not touched: growing partition and file system is the agent's.
        """
        raise Unsupported(f"{self.name} cannot resize volumes")

    def modification(self, volume_id: VolumeId) -> Modification | None:
        """The newest change of the volume; ``None`` where there was none lately."""
        raise Unsupported(f"{self.name} cannot resize volumes")

    def plan_snapshot(self, request: SnapshotRequest) -> SnapshotPlan:
        """Resolve everything without creating anything. Raises `NotFound`, `Conflict` (name taken), `UsageError`."""
        raise Unsupported(f"{self.name} has no snapshots")

    def create_snapshot(self, plan: SnapshotPlan, progress: Progress = SILENT) -> Snapshot:
        """The snapshot holds the volume's bytes of this moment, tagged; it may still be ``pending``.

        The same plan twice makes one snapshot.
        """
        raise Unsupported(f"{self.name} has no snapshots")

    def wait_snapshot(
        self, snapshot_id: SnapshotId, progress: Progress = SILENT, timeout: timedelta = timedelta(hours=24)
    ) -> Snapshot:
        """The snapshot is complete. Raises `ProviderError` when it failed, `Unreachable` when the time is up."""
        raise Unsupported(f"{self.name} has no snapshots")

    def snapshot(self, id_or_name: str) -> Snapshot:
        """One snapshot of this account, ours or not. Raises `NotFound`, `Conflict` when the name is not unique."""
        raise Unsupported(f"{self.name} has no snapshots")

    def snapshots(self, *, everyone: bool = False, volume_id: VolumeId | None = None) -> tuple[Snapshot, ...]:
        """Those of this account, newest first, every page; of one volume only where it is given."""
        raise Unsupported(f"{self.name} has no snapshots")

    def delete_snapshot(
        self, snapshot_id: SnapshotId, progress: Progress = SILENT, *, include_protected: bool = False
    ) -> None:
        """The snapshot is gone; already gone is fine.

        Raises `PermissionDenied` (code ``not-ours``), `Conflict` (code ``protected``, or ``in-use`` by an image).
        """
        raise Unsupported(f"{self.name} has no snapshots")

    def plan_clone(self, request: CloneRequest) -> ClonePlan:
        """Resolve everything without creating anything. Raises as `plan_volume` does."""
        raise Unsupported(f"{self.name} cannot copy volumes")

    def clone_volume(self, plan: ClonePlan, progress: Progress = SILENT) -> Volume:
        """A copy of the volume, as it is at this moment, is available in its zone. The same plan twice makes one."""
        raise Unsupported(f"{self.name} cannot copy volumes")

    def initialization(self, volume_id: VolumeId) -> InitializationStatus:
        """How far a volume has the data that it was made from."""
        raise Unsupported(f"{self.name} has no snapshots")
