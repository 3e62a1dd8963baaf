"""What a provider can say of everything that runctl has left with it: listed in all regions, removed one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from runctl._dataclasses import dataclass
from runctl.core import tags as tag
from runctl.core.errors import Unsupported
from runctl.core.progress import SILENT, Progress

EVERYTHING = "everything"
"""What is unread of a provider that cannot be asked at all."""


class ResourceKind(StrEnum):
    """The kinds of resources."""

    GROUP = "instance-group"
    """It rents instances again by itself."""
    FLEET = "fleet"
    SPOT_REQUEST = "spot-request"
    INSTANCE = "instance"
    VOLUME = "volume"
    SNAPSHOT = "snapshot"
    LAUNCH_TEMPLATE = "launch-template"
    UPLOAD = "upload"
    """A multipart upload that was not completed: its parts are billed, and no listing of objects shows them."""
    OBJECTS = "objects"
    """All objects of one run, or those that pass through the staging bucket."""
    BUCKET = "bucket"
    IMAGE = "image"
    REPOSITORY = "repository"
    INSTANCE_PROFILE = "instance-profile"
    ROLE = "role"
    SECURITY_GROUP = "security-group"
    PLACEMENT_GROUP = "placement-group"
    """It keeps the machines of one run close to each other."""
    KEY_PAIR = "key-pair"
    INTENT = "intent"
    """What this computer was about to make when a command was cut short."""

    @property
    def label(self) -> str:
        """For a person: ``spot request``."""
        return self.value.replace("-", " ")


@dataclass(frozen=True)
class Resource:
    """One thing that runctl has made, or that was made for it; fields in the JSON contract's order."""

    kind: ResourceKind
    id: str
    """As the provider calls it; with `kind` and `region` it is unique."""
    name: str | None
    provider: str
    region: str | None
    """``None``: it belongs to the account, not to a region."""
    zone: str | None
    state: str
    """In the provider's words; empty where the kind has no states."""
    created_at: datetime | None
    """``None``: the provider does not say."""
    project: str | None
    owner: str | None
    """Who made it; ``None``: it is shared by all of the account."""
    size_bytes: int | None
    attached_to: tuple[str, ...] = ()
    """The ids of what uses it at the moment: it cannot be removed before these."""
    ends_with: str | None = None
    """The id of what takes it along when it is removed."""
    type: str | None = None
    """Of an instance or a volume."""
    market: str | None = None
    """Of an instance."""
    iops: int | None = None
    throughput: int | None = None
    """MiB/s."""
    source: str | None = None
    """Of a snapshot, the volume; of an image, its repository; of an instance, its rights."""
    helper_for: str | None = None
    """The volume that it was made to fill: nobody needs it afterwards."""
    checkpoints: int = 0
    """How many whole ones are among the objects of a run."""
    details: str = ""
    """What else a person should know."""
    known_since: datetime | None = None
    """Where nobody says when it was created: when this computer saw it first. It is at least so old."""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def existed_at(self) -> datetime | None:
        """The earliest moment at which it certainly existed; ``None``: nobody knows one."""
        return self.created_at or self.known_since

    @property
    def label(self) -> str:
        """For a person: ``volume datasets``."""
        return f"{self.kind.label} {self.name or self.id}"

    @property
    def is_persistent(self) -> bool:
        """Whether its owner has said that it stays."""
        return self.tags.get(tag.PERSISTENT) == "true"


@dataclass(frozen=True)
class Unread:
    """What could not be listed. Nothing is known of it: it is not empty."""

    provider: str
    region: str | None
    """``None``: the account's."""
    what: str
    """The kinds, or the one resource, in words."""
    reason: str
    code: str
    """Of the error."""
    kinds: tuple[ResourceKind, ...] = ()
    """Those of which something may be missing; empty: of every kind."""


@dataclass(frozen=True)
class Listing:
    """What there is."""

    resources: tuple[Resource, ...]
    unread: tuple[Unread, ...] = ()
    regions: tuple[str, ...] = ()
    """Those that were asked."""


MEASURED_HOURS = 6
"""What was measured for a shorter time says little."""


@dataclass(frozen=True)
class Measurement:
    """What a provider has measured of a machine or a volume in the last day; ``None``: nothing."""

    hours: int = 0
    """Of that day, those that are measured."""
    cpu_percent: float | None = None
    """Of all processors of a machine, the mean."""
    highest_cpu_percent: float | None = None
    """The mean of the busiest hour."""
    gpus: int = 0
    """How many the machine has; nobody measures them from outside."""
    most_iops: float | None = None
    """Operations a second of a volume, in the busiest five minutes."""


@dataclass(frozen=True)
class Measurements:
    """Of several resources, by id."""

    found: Mapping[str, Measurement] = field(default_factory=dict)
    unread: tuple[Unread, ...] = ()
    """What could not be asked for."""


@dataclass(frozen=True)
class Alternative:
    """The same for less, or what is enough."""

    text: str
    """What would be different, in words."""
    options: tuple[str, ...]
    """Of the command that changes a volume, or creates a machine."""
    usd_per_month: Decimal
    by_use: bool = False
    """It is enough for what was measured, and not as fast as what is there."""


class Inventory(ABC):
    """The ability to list and remove everything that runctl has made, whichever computer made it."""

    @abstractmethod
    def user(self) -> str | None:
        """What resources of the caller have as their owner; ``None``: the provider knows no users."""

    @abstractmethod
    def list(
        self,
        *,
        regions: Sequence[str] | None = None,
        kinds: Collection[ResourceKind] | None = None,
        stores: Mapping[str, str] | None = None,
        progress: Progress = SILENT,
    ) -> Listing:
        """Everything that has runctl's tag, of every owner, in ``regions`` (all that the account uses), side by side.

        ``kinds`` are all that is asked for (default: every kind); what else comes along may be listed as well.
        ``stores`` are addresses in an object store that runs of this computer have their own, each with the run's id:
        objects have no tags. Never raises for one region or kind that cannot be read: that is in ``unread``.
        Raises `CredentialsError` where nobody can be asked at all.
        """

    def protection(self, resource: Resource) -> str:
        """Why the provider would refuse to remove it, in words; empty where it would not, or does not say."""
        del resource
        return ""

    def measurements(
        self, resources: Sequence[Resource], now: datetime, progress: Progress = SILENT
    ) -> Measurements:
        """What the provider has measured of machines and volumes. Never raises for what cannot be read."""
        del resources, now, progress
        return Measurements()

    def alternatives(
        self, resource: Resource, measured: Measurement | None = None
    ) -> tuple[Alternative, ...]:
        """What a volume could be instead, as fast and as large, or enough for what was measured, and the next smaller
        machine; only what costs less for sure is of use."""
        del resource, measured
        return ()

    @abstractmethod
    def remove(self, resource: Resource, progress: Progress = SILENT) -> None:
        """It is removed, or on its way; one that is gone is fine. Whether it is ours is asked once more.

        Raises `PermissionDenied` (code ``not-ours``) for what runctl did not create, `Conflict` while it is used.
        """

    @abstractmethod
    def is_gone(self, resource: Resource) -> bool:
        """Whether it does not exist any more, and is not billed."""

    def find_foreign(self, identifier: str) -> Resource | None:
        """Something that runctl did not create and can take over, by its id, in the provider's own region.

        ``None``: there is none, or runctl could not do anything with it. Its tags say that it is not runctl's.
        """
        del identifier
        return None

    def take_over(self, resource: Resource, progress: Progress = SILENT) -> None:
        """The caller is its owner from now on; what `find_foreign` has found is runctl's from now on.

        Raises `Unsupported` where the provider knows no owners, and `PermissionDenied` (code ``not-ours``) for what was
        runctl's when it was listed, and is not any more.
        """
        del progress
        raise Unsupported(f"the owner of {resource.label} cannot be changed with this provider")

    def stop(self, resource: Resource, progress: Progress = SILENT) -> None:
        """An instance costs nothing by the hour any more, and can be started again.

        Raises `Conflict` where it can only be ended.
        """
        self.remove(resource, progress)

    def is_stopped(self, resource: Resource) -> bool:
        """Whether it costs nothing by the hour any more."""
        return self.is_gone(resource)
