"""What a provider can do with block volumes: an interface for each ability, of which it has those that it has."""

# ruff: noqa: ARG002, B027 (a default needs no arguments)
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from datetime import timedelta
from decimal import Decimal

from runctl.core.errors import (
    Conflict,
    NotFound,
    PermissionDenied,
    Unsupported,
)
from runctl.core.ids import InstanceId, SnapshotId, VolumeId
from runctl.core.journal import Change, Effect, Journal
from runctl.core.machine_models import Snapshot, Volume
from runctl.core.progress import SILENT, Progress
from runctl.core.tags import is_ours
from runctl.providers.abilities.volume_plans import (
    ClonePlan,
    CloneRequest,
    DiskShape,
    Initialization,
    InitializationStatus,
    Modification,
    ResizePlan,
    ResizeRequest,
    SnapshotPlan,
    SnapshotRequest,
    Suggestion,
    VolumePlan,
    VolumeRequest,
)
from runctl.providers.ending_calls import end_once


class Volumes(ABC):
    """Volumes that outlive instances."""

    chosen_at_creation = False
    """True where a machine has the volumes that it was made with and no others, mounted by the provider."""

    @abstractmethod
    def plan(self, request: VolumeRequest) -> VolumePlan:
        """Check size, IOPS and throughput against the type's limits and choose the zone. Creates nothing.

        Raises `UsageError` outside the limits, `Conflict` when the name is taken, `NotFound` for a zone or snapshot.
        """

    @abstractmethod
    def create(self, plan: VolumePlan, progress: Progress = SILENT) -> Volume:
        """The volume exists, tagged, and is available. The same plan twice makes one volume."""

    @abstractmethod
    def find(self, id_or_name: str) -> Volume:
        """One volume, ours or not. Raises `NotFound`, `Conflict` when the name is not unique."""

    @abstractmethod
    def list(self, *, everyone: bool = False) -> tuple[Volume, ...]:
        """All of them, newest first, every page."""

    @abstractmethod
    def attach(self, volume_id: VolumeId, instance_id: InstanceId, progress: Progress = SILENT) -> Volume:
        """The volume is attached, at a free device name; already attached there is fine.

        Mounting is the agent's. Raises `Conflict` (in use elsewhere), `ZoneMismatch`, `NotFound`.
        """

    @abstractmethod
    def detach(
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

    def remember_mount(
        self, volume_id: VolumeId, instance_id: InstanceId, mount_point: str, *, read_only: bool
    ) -> None:
        """The instance and, if it is ours, the volume say from now on where the volume is mounted; the instance says
        whether for reading only, as it is mounted again when the instance is started again."""

    @abstractmethod
    def delete(
        self, volume_id: VolumeId, progress: Progress = SILENT, *, include_protected: bool = False
    ) -> None:
        """The volume is deleted; one that does not exist is fine.

        Raises `Conflict` while it is attached or (code ``protected``) persistent, `PermissionDenied` (code
        ``not-ours``) for a volume that runctl did not create. ``include_protected`` takes a persistent one too.
        """

    @abstractmethod
    def tag(self, volume_id: VolumeId, tags: Mapping[str, str], *, remove: Collection[str] = ()) -> None:
        """The volume has these tags (and not those) from now on; in one call each, adding first."""

    def chosen_shape(self, volume: Volume) -> DiskShape:
        """What another volume like it is created with: its IOPS and throughput only where they can be chosen."""
        return DiskShape(volume.type, volume.size_gib, volume.iops, volume.throughput)

    def suggest(self, purpose: str, size_gib: int) -> Suggestion | None:
        """What a volume of that size should be, for one of `volume_plans.PURPOSES`; ``None``: no advice."""
        return None

    def initialization(self, volume_id: VolumeId) -> InitializationStatus:
        """How far a volume has the data that it was created from."""
        return InitializationStatus(complete=True, progress=None, remaining_seconds=None)


class ProvidedVolumes(Volumes):
    """Those that a machine is made with, and has until it ends: the provider mounts them, and keeps no tags of them."""

    chosen_at_creation = True
    provider: str
    """Whose they are."""
    group: str
    """The provider's group of commands about them."""
    kind_name: str
    """What the provider calls one: a network volume."""
    not_ours: tuple[str, str]
    """What is said of one that may not be deleted, after its kind and id, and how it can be deleted all the same."""

    @property
    @abstractmethod
    def journal(self) -> Journal:
        """Of this caller."""

    @abstractmethod
    def delete_now(self, volume_id: VolumeId) -> None:
        """The provider's call: the volume is gone, with its data. Raises `NotFound` where it was already."""

    def find(self, id_or_name: str) -> Volume:
        """Among all of the account, by id, else by name."""
        found = self.list(everyone=True)
        named = [each for each in found if each.id == id_or_name] or [
            each for each in found if each.name == id_or_name
        ]
        if not named:
            raise NotFound(
                f"{self.provider} has no volume {id_or_name!r}",
                hint=self._command(self.group, "list", "--everyone"),
                code="volume-not-found",
            )
        if len(named) > 1:
            raise Conflict(
                f"{len(named)} volumes are called {id_or_name}",
                hint=f"use an id: {', '.join(each.id for each in named)}",
                code="ambiguous-name",
            )
        return named[0]

    def attach(self, volume_id: VolumeId, instance_id: InstanceId, progress: Progress = SILENT) -> Volume:
        """Raises `Unsupported`."""
        raise Unsupported(
            f"{instance_id} was made without {volume_id}, and cannot have it any more",
            hint=f"choose volumes when a machine is made: {self._command('create', '--volume NAME:/PATH')}",
        )

    def detach(
        self,
        volume_id: VolumeId,
        *,
        force: bool = False,
        progress: Progress = SILENT,
        instance_id: InstanceId | None = None,
    ) -> Volume:
        """Raises `Unsupported`."""
        raise Unsupported(f"a machine of {self.provider} has {volume_id} until it ends")

    def delete(
        self, volume_id: VolumeId, progress: Progress = SILENT, *, include_protected: bool = False
    ) -> None:
        """One that no machine has: what providers make of another one they do not say."""
        try:
            volume = self.find(volume_id)
        except NotFound:
            return
        if not is_ours(volume.tags):
            why, hint = self.not_ours
            raise PermissionDenied(f"{self.kind_name} {volume_id} {why}", hint=hint, code="not-ours")
        if volume.instances:
            raise Conflict(
                f"{self.kind_name} {volume.name or volume.id} is used by {', '.join(volume.instances)}",
                hint=self._command("terminate", volume.instances[0]),
                code="volume-in-use",
            )
        progress.step(f"deleting {volume.name or volume.id}")
        gone = Change(
            "volume",
            (volume.id,),
            Effect.GONE,
            f"{self.kind_name} {volume.id} is deleted, with its data",
            check=self._command(self.group, "show", volume.id),
        )
        entry = self.journal.begin(gone)
        end_once(
            lambda: self.delete_now(volume.id),
            lambda: all(each.id != volume.id for each in self.list(everyone=True)),
            entry.refused,
        )
        entry.done()
        self.forget(volume.id)

    def _command(self, *argv: str) -> str:
        """What to type, for hints."""
        return " ".join(("runctl", self.provider, *argv))

    def forget(self, volume_id: VolumeId) -> None:
        """What this computer remembers of the volume besides is not needed any more."""

    def tag(self, volume_id: VolumeId, tags: Mapping[str, str], *, remove: Collection[str] = ()) -> None:
        """Raises `Unsupported`."""
        raise Unsupported(f"{self.provider} keeps no tags of volumes")


class Snapshots(ABC):
    """Copies of volumes in time."""

    fastest_rate: int | None = None
    """MiB/s at which a snapshot's data can be put onto a volume, for a price; ``None`` where that is not for sale."""

    @abstractmethod
    def plan(self, request: SnapshotRequest) -> SnapshotPlan:
        """Resolve everything without creating anything. Raises `NotFound`, `Conflict` (name taken), `UsageError`."""

    @abstractmethod
    def create(self, plan: SnapshotPlan, progress: Progress = SILENT) -> Snapshot:
        """The snapshot holds the volume's bytes of this moment, tagged; it may still be ``pending``.

        The same plan twice makes one snapshot.
        """

    @abstractmethod
    def wait(
        self, snapshot_id: SnapshotId, progress: Progress = SILENT, timeout: timedelta = timedelta(hours=24)
    ) -> Snapshot:
        """The snapshot is complete. Raises `ProviderError` when it failed, `Unreachable` when the time is up."""

    @abstractmethod
    def find(self, id_or_name: str) -> Snapshot:
        """One snapshot of this account, ours or not. Raises `NotFound`, `Conflict` when the name is not unique."""

    @abstractmethod
    def list(self, *, everyone: bool = False, volume_id: VolumeId | None = None) -> tuple[Snapshot, ...]:
        """Those of this account, newest first, every page; of one volume only where it is given."""

    @abstractmethod
    def delete(
        self, snapshot_id: SnapshotId, progress: Progress = SILENT, *, include_protected: bool = False
    ) -> None:
        """The snapshot is deleted; one that does not exist is fine.

        Raises `PermissionDenied` (code ``not-ours``), `Conflict` (code ``protected``, or ``in-use`` by an image).
        """

    def estimate_filling(self, rate: int | None, size_gib: int, zone: str) -> Initialization:
        """How the data of a snapshot of so much gets onto a volume. Raises `UsageError` for a rate there is not."""
        return Initialization(None, Decimal(size_gib), estimated=True, takes=None, price=None)

    def original_shape(self, snapshot: Snapshot, size_gib: int) -> DiskShape | None:
        """Type and performance of the volume that it was taken of, for one of that size; ``None``: not known."""
        return None


class Clones(ABC):
    """Copies of a volume in its own zone."""

    @abstractmethod
    def plan(self, request: CloneRequest) -> ClonePlan:
        """Resolve everything without creating anything. Raises as `Volumes.plan` does."""

    @abstractmethod
    def create(self, plan: ClonePlan, progress: Progress = SILENT) -> Volume:
        """A copy of the volume, as it is at this moment, is available in its zone. The same plan twice makes one."""


class Resizing(ABC):
    """Volumes that become larger, faster or of another type."""

    @abstractmethod
    def plan(self, volume: str, request: ResizeRequest) -> ResizePlan:
        """Check the change against the limits and against what is under way; ``volume`` is an id or a name.

        Raises `UsageError` (smaller, or outside a limit), `Conflict` (code ``modifying``: another change is under
        way; code ``modification-limit``: four in 24 hours), `NotFound`.
        """

    @abstractmethod
    def resize(self, plan: ResizePlan, progress: Progress = SILENT) -> Volume:
        """The volume has its new size, and is at least optimizing towards the rest. The same plan twice is fine.

        What is on the volume is not touched: growing partition and file system is the agent's.
        """

    @abstractmethod
    def latest(self, volume_id: VolumeId) -> Modification | None:
        """The newest change of the volume; ``None`` where there was none lately."""
