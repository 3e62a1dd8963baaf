"""Several machines for one run: rented together in one zone, in a network of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from runctl._dataclasses import dataclass
from runctl.core.machine_models import Instance
from runctl.core.progress import SILENT, Progress
from runctl.providers.capacity import RefusalListener, no_listener
from runctl.providers.instance_plans import CreatePlan, InstanceRequest, VolumeMount


@dataclass(frozen=True)
class NodesRequest:
    """What a user wants of the machines of one run."""

    machine: InstanceRequest
    """What each of them is rented by; its volumes decide the zone. Its token is the whole call's."""
    least: int
    """With fewer nothing is rented."""
    most: int


@dataclass(frozen=True)
class NodesPlan:
    """What `Nodes.create` is about to do. Nothing has been made yet."""

    machine: CreatePlan
    """Each machine, with the price of one. All come from one of its ``offers``: one type, one zone."""
    least: int
    most: int
    network: str
    """The firewall that is made for them, by name: they reach each other, and nobody else reaches them but those who
    may log in."""
    entrances: tuple[str, ...] = ()
    """From where logins over SSH are let in: address ranges, and security groups that the user has named."""
    placement: str | None = None
    """The group that puts them close to each other, by name; ``None``: there is none."""
    placement_reason: str = ""

    @property
    def token(self) -> str:
        """Of the intent; everything that is made has it as the tag `runctl.core.tags.INTENT`."""
        return self.machine.client_token


class Nodes(ABC):
    """The ability to rent several machines that reach each other, and that nobody else reaches."""

    @abstractmethod
    def plan(self, request: NodesRequest, progress: Progress = SILENT) -> NodesPlan:
        """Every open question is answered, and nothing made. Raises what `Renting.plan` raises."""

    @abstractmethod
    def create(
        self, plan: NodesPlan, progress: Progress = SILENT, refused: RefusalListener = no_listener
    ) -> tuple[Instance, ...]:
        """``least`` to ``most`` machines exist, by rank (the tag `runctl.core.tags.RANK`); they may be booting.

        The same plan finishes what an earlier call has begun, and makes nothing twice. Where fewer than ``least``
        could be had, none is left. Raises what `Renting.create` raises.
        """

    @abstractmethod
    def find(self, token: str) -> tuple[Instance, ...]:
        """The machines of that intent that have not ended, by rank."""

    @abstractmethod
    def assign(self, node: Instance, mounts: Sequence[VolumeMount]) -> Instance:
        """The machine is to have these volumes: `Provider.wait_ready` attaches and mounts them.

        A volume with the tag `runctl.core.tags.NODE` is deleted when the machine ends.
        """

    @abstractmethod
    def remove_network(self, token: str, progress: Progress = SILENT) -> tuple[str, ...]:
        """Firewall and placement group of that intent are gone: what was, in words. Idempotent.

        Raises `Conflict` while a machine uses them.
        """
