"""What a provider must do so that a run goes on with no computer watching it: a group that keeps the run's machines.

The group is made for one run. It rents a machine, or several, and another one when one was taken back or has failed;
the machine that sees the run's end ends the group, and itself with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import field
from datetime import datetime, timedelta
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.agent.after_run import GroupEnd
from runctl.core.ids import InstanceId, RunId
from runctl.core.progress import SILENT, Progress
from runctl.providers.instance_plans import CreatePlan, InstanceRequest

START_AGENT = "agent.pyz"
"""Below the run's address: the program that a machine of the group starts with."""


@dataclass(frozen=True)
class TakeUp:
    """What a machine that knows nothing else takes up."""

    url: str
    """``s3://bucket/prefix`` below which the run's own folder is, named by its id."""
    run_id: RunId
    agent_sha256: str
    """Of `START_AGENT`: another program is not started."""

    @property
    def address(self) -> str:
        """Of the run's own folder."""
        return f"{self.url.rstrip('/')}/{self.run_id}"


@dataclass(frozen=True)
class GroupRequest:
    """What a user wants of a group for a run."""

    machine: InstanceRequest
    """What each of its machines is rented by. Its volumes are attached by the machine itself; its time to live and its
    budget are the group's, for all machines together."""
    take_up: TakeUp
    reads: tuple[str, ...] = ()
    """Addresses in the object store that the machine must be able to read besides."""
    on_demand_from: datetime | None = None
    """A second group has no machine until then, and keeps one on demand from then on. The run's machine moves the
    moment; the one that comes takes over the run."""
    count: int = 1
    """How many machines it keeps; several are in one zone, and in a network of their own."""


@dataclass(frozen=True)
class GroupNetwork:
    """What is made besides for several machines, which end with the run: it goes when they have ended."""

    name: str
    """Of the firewall: they reach each other, and nobody else reaches them but those who may log in."""
    entrances: tuple[str, ...] = ()
    """From where logins over SSH are let in."""
    placement: str | None = None
    """The group that puts them close to each other, by name; ``None``: there is none."""
    placement_reason: str = ""


@dataclass(frozen=True)
class GroupPlan:
    """What `Groups.create` is about to do. Nothing has been made yet."""

    machine: CreatePlan
    """Each machine, with its price; ``offers`` are the pools that the group asks."""
    take_up: TakeUp
    name: str
    """Of the group, and of all that is made for it."""
    role: str | None
    """The rights that its machine has, made for this run; ``None``: those of ``machine.instance_profile``."""
    rights: tuple[str, ...]
    """What the machine may do, in words."""
    subnets: tuple[str, ...]
    types: tuple[str, ...]
    bid: Decimal | None = None
    """USD an hour above which the provider takes a machine back."""
    reads: tuple[str, ...] = ()
    pulls: str = ""
    """The image in the provider's own registry that its machines pull; empty: none."""
    ttl: timedelta | None = None
    """After so long the group has no machine any more, whatever the run does."""
    ends_at: datetime | None = None
    """The ``ttl`` as a moment."""
    on_demand_from: datetime | None = None
    """As in the request."""
    count: int = 1
    """As in the request."""
    network: GroupNetwork | None = None
    """That of several machines."""

    @property
    def second(self) -> str:
        """The name of the second group."""
        return f"{self.name}-on-demand"

    @property
    def end(self) -> GroupEnd:
        """What the machine does when the run has ended."""
        if self.on_demand_from is None:
            return GroupEnd(group=self.name, template=self.name)
        return GroupEnd(self.name, self.name, others=(self.second,), on_demand=self.second)


@dataclass(frozen=True)
class GroupActivity:
    """Something that the provider did for a group, or could not do."""

    at: datetime
    text: str
    """In the provider's own words."""
    failed: bool = False
    cause: str = ""
    """The provider's own, too."""
    replaced: InstanceId | None = None
    """The machine that the group ended by itself, to have another one in its place."""


@dataclass(frozen=True)
class MachineGroup:
    """A group that exists."""

    id: str
    """Its name."""
    run_id: RunId
    wanted: int
    """How many machines it keeps; 0 when it is not started yet, or is ending."""
    machines: tuple[InstanceId, ...] = ()
    """Those that it has now."""
    is_ending: bool = False
    suspended: tuple[str, ...] = ()
    """What the provider, or somebody, has stopped doing for it, besides what `Groups.create` stops."""
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def rents(self) -> bool:
        """Whether it starts another machine when it has none."""
        return self.wanted > 0 and not self.is_ending


class Groups(ABC):
    """The ability to keep a run's machines, without any computer of the user's."""

    @abstractmethod
    def plan(self, request: GroupRequest, progress: Progress = SILENT) -> GroupPlan:
        """Every open question is answered, and nothing made. Raises what `Renting.plan` raises."""

    @abstractmethod
    def create(self, plan: GroupPlan, progress: Progress = SILENT) -> MachineGroup:
        """The group exists, and is renting its machines.

        Everything has the plan's name and the run's tag from the call that makes it, and the last call is the one that
        rents: the same plan finishes what an earlier call has begun. Raises `Conflict` for a group of that name that is
        not the run's, or is being deleted, and what the provider refuses.
        """

    @abstractmethod
    def find(self, run_id: RunId) -> MachineGroup | None:
        """The run's group."""

    @abstractmethod
    def list(self) -> tuple[MachineGroup, ...]:
        """All that are ours."""

    @abstractmethod
    def activities(self, run_id: RunId, limit: int = 10) -> tuple[GroupActivity, ...]:
        """What was done for the run's group, the newest first; after it was deleted as long as the provider knows."""

    @abstractmethod
    def machines(self, run_id: RunId) -> tuple[InstanceId, ...]:
        """The machines of the run's group that have not ended, the newest first; also after the group was deleted."""

    @abstractmethod
    def end(self, run_id: RunId, progress: Progress = SILENT) -> tuple[str, ...]:
        """Nothing of what was made for the run's group is left: what was, in words. Idempotent.

        First it rents nothing more, last the rights go, when its machine has ended.
        """
