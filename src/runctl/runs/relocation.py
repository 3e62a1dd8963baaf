"""Whether a run's volumes follow it to another zone, how, and when that is sooner than waiting for their own. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from functools import partial

from runctl._dataclasses import dataclass
from runctl.core.ids import VolumeId
from runctl.core.machine_models import Volume
from runctl.core.tags import FILLED_FROM, FILLED_WITH, is_ours
from runctl.storage.machines import BOOT_SECONDS

USUAL_OUTAGE = timedelta(minutes=10)
"""For how long a zone that has just refused is taken to refuse: spot capacity comes back within minutes, or for long
it does not."""
SNAPSHOT_SECONDS = 60.0
"""From asking for a snapshot of little until a volume made of it can be attached in another zone."""
SNAPSHOT_SECONDS_PER_GIB = 6.0
"""For each GiB besides: a snapshot takes in about 170 MiB a second. Its volume is read from while it fills."""


class Way(StrEnum):
    """How a volume's data gets to another zone."""

    SNAPSHOT = "snapshot"
    """A volume is made of a snapshot of it, and takes its name."""
    REFILL = "refill"
    """An empty volume is filled from the object store that this one was filled from."""
    REPLICA = "replica"
    """A volume that is there already, with the same data, takes its place."""


REPLICA_SECONDS = 10.0
"""Until a volume that is in the zone already is attached."""


@dataclass(frozen=True)
class Refill:
    """A volume that can be had anew from an object store."""

    source: str
    """``s3://bucket/prefix``."""
    seconds: float
    """From an empty volume until it is full."""


@dataclass(frozen=True)
class VolumeMove:
    """How one volume follows."""

    volume_id: VolumeId
    name: str | None
    zone: str
    """Where it is."""
    way: Way
    seconds: float
    """About how long that takes."""
    usd_per_month: Decimal | None = None
    """What the old volume goes on costing, which is kept."""
    source: str | None = None
    """Of a refill."""
    replica: Volume | None = None
    """Of a replica: what takes its place."""

    @property
    def label(self) -> str:
        """What a person calls the volume."""
        return self.name or str(self.volume_id)


@dataclass(frozen=True)
class Relocation:
    """How all volumes of a run follow it."""

    moves: tuple[VolumeMove, ...] = ()
    why_not: str = ""
    """Why they cannot, in words; empty where they can, or there are none."""
    to: str | None = None
    """The zone that they go to; ``None``: any that has a machine."""

    @property
    def seconds(self) -> float:
        """Until all are there."""
        return sum(move.seconds for move in self.moves)


@dataclass(frozen=True)
class VolumeInUse:
    """A volume as the run has it."""

    volume: Volume
    read_only: bool
    """The run does not write to it."""
    refill: Refill | None = None
    replicas: tuple[Volume, ...] = ()
    """Volumes in other zones that have the same data: nobody has written to it since they were made."""

    @property
    def in_its_place(self) -> tuple[Volume, ...]:
        """The replicas that the run can go on with: of what it writes to itself, they lack that from its start on."""
        return self.replicas if self.read_only else ()


def refill_of(volume: Volume, mibps: float) -> Refill | None:
    """How long a helper machine takes to bring the same onto another volume like it, if it is known where that is;
    ``mibps`` is what the volume moves."""
    source = volume.tags.get(FILLED_FROM)
    if source is None or FILLED_WITH not in volume.tags:
        return None
    return Refill(source, BOOT_SECONDS + volume.size_gib * 1024 / mibps)


def plan_relocations(
    volumes: Sequence[VolumeInUse], *, named_zone: str | None = None, no_snapshots: str = ""
) -> tuple[Relocation, ...]:
    """The quickest way for each volume: first to zones that have replicas, the soonest first, then to any zone.

    ``named_zone`` is the one that the user wants the machine in, ``no_snapshots`` why the provider has none. Where
    there is no way, one that says why.
    """
    if named_zone is not None and volumes:
        return (Relocation(why_not=f"{named_zone} was asked for by name"),)
    anywhere = plan_relocation(volumes, no_snapshots=no_snapshots)
    zones = sorted({replica.zone for used in volumes for replica in used.in_its_place})
    there = [plan_relocation(volumes, zone=zone, no_snapshots=no_snapshots) for zone in zones]
    sooner = sorted((each for each in there if not each.why_not), key=lambda each: each.seconds)
    return (*sooner, anywhere) if not anywhere.why_not or not sooner else tuple(sooner)


def plan_relocation(
    volumes: Sequence[VolumeInUse], *, zone: str | None = None, no_snapshots: str = ""
) -> Relocation:
    """The quickest way for each volume to one zone; ``None``: to one in which there are no replicas."""
    moves = []
    for used in volumes:
        move, why_not = _quickest(used, zone, no_snapshots)
        if move is None:
            return Relocation(why_not=f"{used.volume.name or used.volume.id} {why_not}", to=zone)
        moves.append(move)
    return Relocation(tuple(moves), to=zone)


def _quickest(used: VolumeInUse, zone: str | None, no_snapshots: str) -> tuple[VolumeMove | None, str]:
    volume, refill = used.volume, used.refill
    if not is_ours(volume.tags):
        return None, "was not created by runctl"
    move = partial(VolumeMove, volume.id, volume.name, volume.zone, usd_per_month=volume.price_per_month)
    ways: list[VolumeMove] = []
    if not no_snapshots:
        ways.append(move(Way.SNAPSHOT, SNAPSHOT_SECONDS + SNAPSHOT_SECONDS_PER_GIB * volume.size_gib))
    # What the run has written itself is in no object store.
    if refill is not None and used.read_only:
        ways.append(move(Way.REFILL, refill.seconds, source=refill.source))
    ways += [
        move(Way.REPLICA, REPLICA_SECONDS, replica=replica)
        for replica in used.in_its_place
        if replica.zone == zone
    ]
    if not ways:
        return None, f"cannot be copied: {no_snapshots}"
    return min(ways, key=lambda found: found.seconds), ""


def is_due(relocation: Relocation, searched: timedelta) -> bool:
    """Whether to move now, ``searched`` after the run had its machine; the zone of its volumes has just refused one.

    At once where that takes no longer than an outage usually does. Else once as long was waited as moving takes:
    whoever does so waits at most twice as long as with knowing the future (the ski rental problem).
    """
    if relocation.why_not or not relocation.moves:
        return False
    return relocation.seconds <= max(USUAL_OUTAGE.total_seconds(), searched.total_seconds())


def relocation_text(relocation: Relocation) -> str:
    """How the volumes follow, as the end of a sentence."""
    if relocation.why_not:
        return f"volumes stay in their zone: {relocation.why_not}"
    ways = ", ".join(map(_way_text, relocation.moves))
    zones = " and ".join(sorted({move.zone for move in relocation.moves}))
    minutes = max(1, round(relocation.seconds / 60))
    to = relocation.to or "another zone"
    return f"without a machine in {zones}, volumes follow to {to}: {ways}, in about {minutes} min"


def _way_text(move: VolumeMove) -> str:
    if move.replica is not None:
        return f"{move.label} by its replica {move.replica.name or move.replica.id}"
    return (
        f"{move.label} by snapshot" if move.way is Way.SNAPSHOT else f"{move.label} filled from {move.source}"
    )
