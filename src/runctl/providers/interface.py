"""What a provider of machines must implement, and what it may have.

A `Provider` finds machines and reaches them. Everything else is an ability: an attribute that holds an object with a
small interface of its own (`Renting`, `StopAndStart`, `Volumes`, …), or the `Unsupported` that says why the provider
has not got it. The attributes are all there is, so nothing can disagree with them. A use case takes the ability that
it needs with `require`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import field
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from runctl._dataclasses import dataclass
from runctl.core.errors import Unsupported
from runctl.core.ids import InstanceId
from runctl.core.journal import Journal
from runctl.core.machine_models import Instance
from runctl.core.progress import SILENT, Progress
from runctl.costs.billing import BillingRules
from runctl.costs.rates import Rate as Rate  # noqa: PLC0414 (re-exported: a part of this interface)
from runctl.providers.capacity import (
    RefusalListener,
    SpotMarket,
    no_listener,
)
from runctl.providers.instance_plans import CreatePlan, InstanceRequest

if TYPE_CHECKING:
    from runctl.providers.abilities.account import AccountSetup
    from runctl.providers.abilities.bill import Bill
    from runctl.providers.abilities.catalogue import Catalogue
    from runctl.providers.abilities.filling import Filling
    from runctl.providers.abilities.groups import Groups
    from runctl.providers.abilities.image_registry import ImageRegistry
    from runctl.providers.abilities.inventory import Inventory
    from runctl.providers.abilities.kubernetes import Kubernetes
    from runctl.providers.abilities.lent_bucket import LentBucket
    from runctl.providers.abilities.limits import Limiting
    from runctl.providers.abilities.machine_images import MachineImages
    from runctl.providers.abilities.nodes import Nodes
    from runctl.providers.abilities.object_storage import ObjectStorage
    from runctl.providers.abilities.preview import CallPreview
    from runctl.providers.abilities.prices import Prices
    from runctl.providers.abilities.terraform import TerraformExport
    from runctl.providers.abilities.volumes import Clones, Resizing, Snapshots, Volumes
    from runctl.transport.agent import AgentClient
    from runctl.transport.interface import Transport


@dataclass(frozen=True)
class Scope:
    """Where and for whom a provider acts: what makes the same request another one elsewhere."""

    account: str | None = None
    """Who is billed."""
    region: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What a request that leaves something open is filled up with."""
    user: str | None = None
    """The owner of what is created here; ``None``: the account."""
    home: str | None = None
    """What shows all that was rented, where ``account`` changes with the key; ``None``: the account."""

    @property
    def rented_in(self) -> str | None:
        """Where something must have been rented for this to be asked what became of it."""
        return self.home or self.account


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


Ability = TypeVar("Ability")


def require(found: Ability | Unsupported) -> Ability:
    """The ability. Raises the provider's reason where it has not got it."""
    if isinstance(found, Unsupported):
        raise Unsupported(found.message, hint=found.hint, code=found.code)
    return found


class Renting(ABC):
    """Machines that are created and ended."""

    ends_on_shutdown = False
    """A machine that shuts itself down is given back by that: it is billed no longer."""
    choosing: bool | Unsupported = Unsupported(
        "this provider rents one instance type at a time, at its price"
    )
    """True where requests may have ``other_types``, ``needs`` and ``max_price``."""

    @abstractmethod
    def plan(self, request: InstanceRequest, progress: Progress = SILENT) -> CreatePlan:
        """Resolve every open question of the request without creating anything.

        Raises `NotFound` (no such volume, key, group, image, type), `Conflict` (volume in use), `ZoneMismatch`
        (volumes in different zones, or not in the zone asked for), `UsageError`, `Unsupported`.
        """

    @abstractmethod
    def create(
        self, plan: CreatePlan, progress: Progress = SILENT, refused: RefusalListener = no_listener
    ) -> Instance:
        """The instance exists, tagged; it may still be booting (see `Provider.wait_ready`).

        Calling it again with the same plan returns the same instance. It may have created the machine even if it
        raised: the tags and the client token find it. ``refused`` hears of every pool that was asked in vain, also
        where another one had a machine. Raises `CapacityError`, `QuotaExceeded`, saying what each pool answered; never
        falls back to another market.
        """

    def request_like(self, instance: Instance) -> InstanceRequest:
        """What another machine like this one would be rented by, anywhere in the region; its volumes are left out.

        Raises `NotFound` where the provider does not know the machine any more.
        """
        return InstanceRequest(
            instance_type=instance.instance_type, market=instance.market, project=instance.project
        )

    @abstractmethod
    def terminate(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        """It is shutting down or terminated; its own disks go with it, volumes brought along stay. Idempotent.

        Raises `NotFound`, `PermissionDenied` (code ``not-ours``) for an instance that runctl did not create.
        """

    @abstractmethod
    def wait_ended(
        self, instance_id: InstanceId, *, timeout: timedelta, progress: Progress = SILENT
    ) -> Instance:
        """An instance that is shutting down has ended, and no volume is attached to it any more.

        Raises `NotFound`, and `Unreachable` when the time is up.
        """


class StopAndStart(ABC):
    """Machines that can be stopped, to be started later."""

    keeps_disks = True
    """False where what is on a machine's own disk is lost when it stops."""

    @abstractmethod
    def stop(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        """It is stopped (or stopping) and no longer billed by the hour; its disks stay and are billed."""

    @abstractmethod
    def start(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        """A stopped instance is starting; see `Provider.wait_ready`."""


class Provider(ABC):
    """Finds machines and reaches them; what else it can do are its abilities.

    Any method, of an ability too, may raise `CredentialsError`, `PermissionDenied`, `ProviderError` and, when the
    provider does not answer, `Unreachable`. Lists hold what is tagged as ours unless ``everyone`` is set.
    """

    name: str
    transports: tuple[str, ...] = ("ssh",)
    """The names that `transport` takes besides ``auto``, in the order in which that tries them."""

    announces_interruptions = False
    """A machine hears from the provider that it is taken back. Where not, a shutdown says so, on
    `Market.OWNED` any SIGTERM."""
    containers: bool | Unsupported = True
    """Why its machines cannot run a project's image; ``True``: they can, where they have Docker."""
    machine_images: MachineImages | Unsupported = Unsupported(
        "this provider's machines are not containers themselves"
    )
    renting: Renting | Unsupported = Unsupported("this provider cannot create machines")
    stop_and_start: StopAndStart | Unsupported = Unsupported("this provider cannot stop and start machines")
    volumes: Volumes | Unsupported = Unsupported("this provider has no block volumes")
    snapshots: Snapshots | Unsupported = Unsupported("this provider has no snapshots")
    clones: Clones | Unsupported = Unsupported("this provider cannot copy volumes")
    resizing: Resizing | Unsupported = Unsupported("this provider cannot resize volumes")
    filling: Filling | Unsupported = Unsupported(
        "this provider's volumes cannot be filled from an object store"
    )
    prices: Prices | Unsupported = Unsupported("this provider does not tell what its machines cost")
    account: AccountSetup | Unsupported = Unsupported("nothing has to be set up for this provider")
    limits: Limiting | Unsupported = Unsupported("this provider's machines do not end themselves")
    catalogue: Catalogue | Unsupported = Unsupported("this provider does not list what can be rented")
    spot_market: SpotMarket | Unsupported = Unsupported("this provider has no spot market")
    registry: ImageRegistry | Unsupported = Unsupported("this provider has no image registry")
    object_storage: ObjectStorage | Unsupported = Unsupported("this provider has no object store")
    lent_bucket: LentBucket | Unsupported = Unsupported(
        "this provider has no bucket of the account's own whose keys end by themselves"
    )
    groups: Groups | Unsupported = Unsupported("this provider does not replace a machine by itself")
    nodes: Nodes | Unsupported = Unsupported(
        "this provider's machines have no network of their own, in which those of one run could reach each other"
    )
    inventory: Inventory | Unsupported = Unsupported(
        "this provider cannot list everything that runctl has made"
    )
    terraform: TerraformExport | Unsupported = Unsupported(
        "runctl cannot write this provider's resources for Terraform"
    )
    kubernetes: Kubernetes | Unsupported = Unsupported(
        "this provider's machines are in no Kubernetes cluster"
    )
    preview: CallPreview | Unsupported = Unsupported("this provider has no command line to show its calls in")
    bill: Bill | Unsupported = Unsupported("this provider does not tell what it has billed")
    billing: BillingRules = BillingRules()
    """How it bills what it rents by the hour: by the second, from the first one, unless it says otherwise."""

    @cached_property
    def journal(self) -> Journal:
        """What has been changed through this object; see `runctl.core.journal`."""
        return Journal()

    @abstractmethod
    def instance(self, instance_id: InstanceId) -> Instance:
        """As it is now. Raises `NotFound`."""

    @abstractmethod
    def instances(self, *, everyone: bool = False, include_ended: bool = False) -> tuple[Instance, ...]:
        """All of them, newest first, every page."""

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
    def transport(self, instance: Instance, choice: str = "auto", progress: Progress = SILENT) -> Transport:
        """A way to the machine: ``auto`` or one of `transports`; the reason goes to ``progress.detail``.

        Raises `Unreachable` where none works, saying what was tried, `Unsupported` for a choice it cannot make.
        """

    @abstractmethod
    def doctor(self) -> tuple[Check, ...]:
        """What works, what is missing, and the exact fix. Never raises; a failure is a check that failed."""

    def scope(self) -> Scope:
        """Where this provider acts."""
        return Scope()

    def agent(self, instance: Instance, choice: str = "auto", progress: Progress = SILENT) -> AgentClient:
        """The agent on the machine, over `transport`, knowing where its state is; its first call installs it."""
        from runctl.agent.package import build
        from runctl.core.files import cache_folder
        from runctl.transport.agent import AgentClient

        return AgentClient(
            self.transport(instance, choice, progress),
            agent_file=lambda: build(cache_folder() / "agent"),
            progress=progress,
            journal=self.journal,
        )

    def report_to(self, progress: Progress) -> None:
        """Say there from now on what no call's own progress is told: that the provider takes long to answer."""

    def client(self, service: str, *, region: str | None = None) -> Any:
        """A client of the provider's own library for one of its services, with the credentials that runctl uses.

        runctl does not hear of what is done with it. Raises `Unsupported` where there is no such library.
        """
        del region
        raise Unsupported(f"{self.name} has no library with a client for {service}")

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
