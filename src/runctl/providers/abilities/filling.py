"""What a provider must know and do so that volumes can be filled, on a machine of the user's or on a helper machine.

A helper machine is rented for one volume, tagged with it in the call that creates it, and has a role of its own that
may read what the volume is filled from, and no more. Both are found again by the volume's id.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from runctl._dataclasses import dataclass
from runctl.core.ids import VolumeId
from runctl.core.machine_models import Instance, Volume
from runctl.core.progress import SILENT, Progress
from runctl.costs.rates import Rate


@dataclass(frozen=True)
class StoredData:
    """What lies in an object store, as far as this account may look."""

    region: str
    objects: int | None
    """``None`` where it may not be listed from here."""
    size_bytes: int | None
    whole: bool = True
    """False when the listing was given up: there is at least that much."""
    why_not: str = ""
    """Why nothing is known, in words."""


@dataclass(frozen=True)
class MachineSpeed:
    """What an instance type can move, as baseline, and what it costs."""

    instance_type: str
    volume_mibps: float
    """To and from all its volumes."""
    network_mibps: float
    price: Rate | None
    """Per hour, on demand."""


@dataclass(frozen=True)
class VolumeOrigin:
    """Where a volume's blocks come from, and how far they have come."""

    snapshot_id: str | None
    rate_mibps: int | None
    complete: bool
    progress: int | None
    """Per cent."""
    remaining_seconds: int | None
    rate_price: Rate | None = None
    """What the highest initialisation rate costs for a new volume from the snapshot, once."""
    rate_seconds: float | None = None
    """How long that takes."""


class Filling(ABC):
    """The ability to fill volumes from an object store. Errors are as in `Provider`."""

    @abstractmethod
    def stored_data(self, bucket: str, prefix: str, progress: Progress = SILENT) -> StoredData:
        """What is to be fetched. Raises `NotFound` for a bucket that is not there, or a prefix with nothing in it."""

    @abstractmethod
    def volume_origin(self, volume_id: VolumeId) -> VolumeOrigin:
        """Whether the volume was made from a snapshot, and what is left of that."""

    helper_types: ClassVar[tuple[str, ...]]
    """The instance types from which a helper machine is chosen: small and common, some with much network."""

    @abstractmethod
    def volume_mibps(self, volume: Volume) -> float:
        """What the volume moves, as baseline."""

    @abstractmethod
    def machine_speeds(
        self, names: tuple[str, ...], zone: str | None, progress: Progress = SILENT
    ) -> tuple[MachineSpeed, ...]:
        """Those of the types that the zone has, in the order given."""

    @abstractmethod
    def helpers(self, volume_id: VolumeId) -> tuple[Instance, ...]:
        """The helper machines of the volume that have not ended, the newest first."""

    @abstractmethod
    def plan_role(self, volume_id: VolumeId) -> tuple[str, str]:
        """The name of the helper's role for the volume, and in words what comes into being."""

    @abstractmethod
    def ensure_role(self, name: str, policy: Mapping[str, Any], progress: Progress = SILENT) -> None:
        """The role exists, is ours, and may do what ``policy`` says and what reaching the machine needs.

        Raises `PermissionDenied` when the account may not make roles, or one of that name is not ours.
        """

    @abstractmethod
    def drop_role(self, name: str) -> None:
        """The role is deleted, if it is ours; one that does not exist is fine."""

    @abstractmethod
    def machine_variables(self) -> Mapping[str, str]:
        """What a program on a machine needs in its environment to find the provider's services."""
