"""How a volume comes to several machines: had by all read-only, or copied for each but the first.

The volume itself goes to rank 0, which saves on it as it would alone; the others have copies, which are deleted with
their machines. So nothing that only one rank wrote is lost, unless another rank than 0 wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING

from runctl._dataclasses import dataclass
from runctl.core import tags as tag
from runctl.core.errors import Unreachable, Unsupported, ZoneMismatch
from runctl.core.ids import VolumeId
from runctl.core.machine_models import Instance, Volume
from runctl.core.money import HOURS_PER_MONTH
from runctl.core.mount_points import usual_mount_points
from runctl.core.text import time_span
from runctl.core.waiting import attempts
from runctl.machines.volumes import agents, new_clone, new_volume
from runctl.providers.abilities.volume_plans import CloneRequest, VolumeRequest
from runctl.providers.instance_plans import InstanceRequest
from runctl.providers.interface import Provider, Rate, require
from runctl.storage.attaching import MountOptions, attach_and_mount

if TYPE_CHECKING:
    from runctl.machines.session import Session

COPIES_AT_ONCE = 1
"""Of one volume: the next copy can begin when the one before has all of its data (EBS user guide, "Copy an Amazon EBS
volume")."""
MOST_SHARING = 16
"""Machines that may have one volume at the same time (EBS user guide, "Multi-Attach")."""
COPY_TIMEOUT = timedelta(hours=12)


class Sharing(StrEnum):
    """How a volume comes to the machines."""

    ALONE = "alone"
    """There is one machine."""
    COPIED = "copied"
    """The first has the volume, each of the others a copy of it."""
    EMPTY = "empty"
    """It has never been used: the first has the volume, each of the others an empty one like it."""
    SHARED = "shared"
    """All have it, read-only."""

    @property
    def is_per_machine(self) -> bool:
        """Whether each machine but the first has a volume of its own in its place."""
        return self in {Sharing.COPIED, Sharing.EMPTY}


@dataclass(frozen=True)
class NodeVolume:
    """One volume of a run on several machines."""

    volume: Volume
    mount_point: str
    """The same on each."""
    sharing: Sharing
    reason: str
    copies: int = 0
    """At most, of copies and of empty ones."""
    copy_price: Rate | None = None
    """A month of each copy; ``None``: there is none, or its price is not known."""
    copy_fee: str = ""
    """What the copying costs once, in words."""

    @property
    def copies_per_hour(self) -> Decimal:
        """USD, of all copies together, as far as their price is known."""
        price = self.copy_price.usd if self.copy_price is not None else Decimal(0)
        return price * self.copies / HOURS_PER_MONTH


def decide_sharing(volume: Volume, machines: int, *, read_only: bool) -> tuple[Sharing, str]:
    """How it comes to so many machines, and why. Pure."""
    if machines == 1:
        return Sharing.ALONE, "there is one machine"
    if volume.tags.get(tag.UNUSED) == "true":
        return Sharing.EMPTY, "it has never been used: there is nothing to copy"
    if not volume.multi_attach:
        return Sharing.COPIED, "one machine at a time can have it"
    if not read_only:
        return Sharing.COPIED, "the run may write to it, and two writers destroy a file system"
    if machines > MOST_SHARING:
        return Sharing.COPIED, f"at most {MOST_SHARING} machines can have it at the same time"
    return Sharing.SHARED, "several machines can have it, and the run only reads it"


def plan_node_volumes(provider: Provider, request: InstanceRequest, machines: int) -> tuple[NodeVolume, ...]:
    """What becomes of each volume of the request. Raises `NotFound`, and `Unsupported` where copies are needed that the
    provider cannot make."""
    found = []
    taken = {mount.mount_point for mount in request.volumes}
    for mount in request.volumes:
        volume = require(provider.volumes).find(mount.volume)
        point = mount.mount_point or _usual(volume, taken)
        taken.add(point)
        sharing, reason = decide_sharing(volume, machines, read_only=mount.read_only)
        planned = NodeVolume(volume, point, sharing, reason)
        if sharing is Sharing.COPIED:
            plan = require(provider.clones).plan(CloneRequest(volume.id, persistent=False))
            planned = replace(planned, copies=machines - 1, copy_price=plan.price, copy_fee=plan.copy_fee)
        elif sharing is Sharing.EMPTY:
            price = require(provider.volumes).plan(_like(provider, volume)).price
            planned = replace(planned, copies=machines - 1, copy_price=price)
        found.append(planned)
    return tuple(found)


def _like(provider: Provider, volume: Volume, tags: Mapping[str, str] | None = None) -> VolumeRequest:
    """The request for an empty volume of the same shape, in the same zone."""
    shape = require(provider.volumes).chosen_shape(volume)
    return VolumeRequest(
        shape.size_gib,
        zone=volume.zone,
        type=shape.type,
        iops=shape.iops,
        throughput=shape.throughput,
        tags=tags or {},
    )


def _usual(volume: Volume, taken: Iterable[str | None]) -> str:
    points = usual_mount_points(volume)
    return next((point.path for point in points if point.path not in taken), points[-1].path)


def without_shared(request: InstanceRequest, volumes: Sequence[NodeVolume]) -> InstanceRequest:
    """The request for one of the machines: the volumes that only rank 0 has, in the zone that all decide. Pure.

    Raises `ZoneMismatch` for a volume that all machines are to have, and that is in another zone.
    """
    mounts, zone = [], request.zone
    for mount, planned in zip(request.volumes, volumes, strict=True):
        if planned.sharing is Sharing.SHARED:
            if zone not in {None, planned.volume.zone}:
                raise ZoneMismatch(
                    planned.volume.id,
                    planned.volume.zone,
                    str(zone),
                    hint=f"all machines are in one zone: leave --zone {zone} out, or one of the volumes",
                )
            zone = planned.volume.zone
        else:
            mounts.append(replace(mount, volume=str(planned.volume.id), mount_point=planned.mount_point))
    return replace(request, volumes=tuple(mounts), zone=zone)


class NodeCopies:
    """The copies that are made for the machines of one intent: found by their tag, so that none is made twice."""

    def __init__(
        self, session: Session, provider: str, token: str, volumes: Sequence[NodeVolume] = ()
    ) -> None:
        self._session = session
        self._provider = provider
        self._token = token
        self._volumes = volumes

    def of(self, rank: int) -> dict[str, VolumeId]:
        """By volume id, what that machine has in its place. Every copy must have been made."""
        created = self._created()
        return {
            str(each.volume.id): created[rank, str(each.volume.id)]
            if each.sharing.is_per_machine and rank > 0
            else each.volume.id
            for each in self._volumes
        }

    def make(self, ranks: Iterable[int]) -> None:
        """Each of these machines has its copies; those that are there already are left as they are.

        Raises what `Clones.create` raises.
        """
        wanted = [(rank, each) for each in self._volumes if each.sharing.is_per_machine for rank in ranks]
        created = self._created() if wanted else {}
        busy: dict[str, VolumeId] = {}
        for rank, each in wanted:
            volume = str(each.volume.id)
            if (rank, volume) in created:
                busy[volume] = created[rank, volume]
                continue
            tags = {tag.NODE: f"{self._token}/{rank}/{volume}"}
            if each.sharing is Sharing.EMPTY:
                like = _like(self._session.provider(self._provider), each.volume, tags)
                with new_volume(self._session, self._provider, like) as empty:
                    empty.carry_out()
                continue
            if volume in busy:
                self._wait(busy[volume])
            request = CloneRequest(volume, persistent=False, tags=tags)
            with new_clone(self._session, self._provider, request) as copy:
                busy[volume] = copy.carry_out().id

    def delete_from(self, rank: int) -> None:
        """The copies of that machine and of all after it are gone. Raises what `Volumes.delete` raises."""
        volumes = self._session.provider(self._provider).volumes
        if isinstance(volumes, Unsupported):
            return
        for (own, _), identifier in self._created().items():
            if own >= rank:
                volumes.delete(identifier, self._session.progress)

    def pass_on(self, token: str) -> None:
        """They are another intent's: the same machines are asked for again."""
        volumes = self._session.provider(self._provider).volumes
        for (rank, volume), identifier in self._created().items():
            require(volumes).tag(identifier, {tag.NODE: f"{token}/{rank}/{volume}"})

    def _created(self) -> dict[tuple[int, str], VolumeId]:
        """By rank, and by the id of the volume that it stands for."""
        volumes = self._session.provider(self._provider).volumes
        if isinstance(volumes, Unsupported):
            return {}
        found = {}
        for volume in volumes.list():
            token, rank, original = (*volume.tags.get(tag.NODE, "").split("/"), "", "")[:3]
            if token == self._token and rank.isdigit():
                found[int(rank), original] = volume.id
        return found

    def _wait(self, copy: VolumeId) -> None:
        """It has all of its data, so that the next copy of the same volume can begin."""
        volumes, progress = require(self._session.provider(self._provider).volumes), self._session.progress
        rentals = self._session.rentals(self._provider)
        progress.step(f"waiting until {copy} has its data: one copy of a volume is made at a time")
        for _ in attempts(rentals.clock, COPY_TIMEOUT):
            status = volumes.initialization(copy)
            if status.complete:
                return
            if status.progress is not None:
                progress.update(done=status.progress, total=100)
        raise Unreachable(
            f"{copy} does not have its data after {time_span(COPY_TIMEOUT)}",
            hint="the same command continues",
        )


def mount_shared(
    session: Session, provider: str, volumes: Sequence[NodeVolume], instances: Sequence[Instance]
) -> None:
    """Every machine has what all have, mounted read-only. Raises what `attach_and_mount` raises."""
    cloud, agent_on = session.provider(provider), agents(session)
    for each in volumes:
        if each.sharing is not Sharing.SHARED:
            continue
        options = MountOptions(mount_point=each.mount_point, read_only=True)
        for instance in instances:
            volume = require(cloud.volumes).find(each.volume.id)
            attach_and_mount(cloud, agent_on, volume, instance, options, session.progress)
