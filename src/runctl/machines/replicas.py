"""Replicas: volumes that keep another one's data ready in other zones, for as long as nobody writes to either.

A replica is made from a temporary snapshot of a volume that no machine has. Both carry the same ``runctl:content``,
which goes from whichever is mounted for writing. So what carries it has the same data, and nothing has to be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.core import tags as tag
from runctl.core.errors import Conflict, PermissionDenied, UsageError
from runctl.core.ids import new_client_token
from runctl.core.machine_models import Volume, VolumeState
from runctl.machines.session import Session
from runctl.machines.volumes import new_snapshot, new_volume
from runctl.providers.abilities.volume_plans import SnapshotRequest, VolumePlan, VolumeRequest
from runctl.providers.abilities.volumes import Volumes
from runctl.providers.interface import Provider, require
from runctl.providers.registry import volume_command

OVER = frozenset({VolumeState.DELETING, VolumeState.DELETED, VolumeState.ERROR})


@dataclass(frozen=True)
class PlannedReplica:
    """What is to be in one zone."""

    zone: str
    existing: Volume | None
    """It is there, and has the same data."""
    wanted: VolumePlan | None
    """What is made; ``None``: it exists."""
    outdated: tuple[Volume, ...] = ()
    """Earlier replicas, which lack what was written to the volume since and have nothing of their own: they are
    deleted first."""

    @property
    def usd_per_month(self) -> Decimal | None:
        """Of what is made."""
        return None if self.wanted is None or self.wanted.price is None else self.wanted.price.usd


@dataclass(frozen=True)
class ReplicasPlan:
    """What `carry_out` is about to do."""

    source: Volume
    replicas: tuple[PlannedReplica, ...]

    @property
    def is_done(self) -> bool:
        """Whether all of them are there."""
        return all(each.existing is not None for each in self.replicas)

    @property
    def outdated(self) -> tuple[Volume, ...]:
        """All that are deleted."""
        return tuple(old for each in self.replicas for old in each.outdated)


def same_data(volume: Volume, others: Sequence[Volume]) -> tuple[Volume, ...]:
    """The volume's replicas, and what it is itself a replica of, that a machine could have now. Pure.

    They have the same data for as long as all have the same content. Other copies have it too: those are somebody's.
    """
    return tuple(each for each in _same_content(volume, others) if not each.instances)


def _same_content(volume: Volume, others: Sequence[Volume]) -> tuple[Volume, ...]:
    """As `same_data`, with those that machines have."""
    content = volume.tags.get(tag.CONTENT)
    if content is None:
        return ()
    same = [each for each in others if each.tags.get(tag.CONTENT) == content]
    originals = {each.tags.get(tag.REPLICA_OF) for each in (volume, *same)}
    return tuple(
        each
        for each in same
        if (tag.REPLICA_OF in each.tags or each.id in originals)
        and each.id != volume.id
        and each.state not in OVER
    )


def replica_name(volume: Volume, zone: str) -> str | None:
    """What a replica of the volume is called. Pure."""
    return None if volume.name is None else f"{volume.name}-replica-in-{zone}"


def plan_replicas(
    session: Session, provider: str, volume_name: str, zones: Sequence[str], *, runs: Mapping[str, str]
) -> ReplicasPlan:
    """What is missing in these zones; ``runs`` says which run goes on with a volume, by its id. Does nothing yet.

    Raises `NotFound`, `Unsupported`, `UsageError` for the volume's own zone, `PermissionDenied` (``not-ours``) and
    `Conflict`: ``volume-in-use``, as what a machine has, it may be writing to; ``replica-needed`` where an earlier
    replica would have to go and may not.
    """
    cloud = session.provider(provider)
    volumes = require(cloud.volumes)
    require(cloud.snapshots)
    source = volumes.find(volume_name)
    label = source.name or source.id
    if not tag.is_ours(source.tags):
        raise PermissionDenied(f"volume {label} was not created by runctl and is left alone", code="not-ours")
    if source.zone in zones:
        raise UsageError(f"volume {label} is in {source.zone} itself", hint="name other zones")
    if source.instances and tag.CONTENT not in source.tags:
        raise Conflict(
            f"volume {label} is attached to {', '.join(source.instances)}, which may write to it",
            hint=f"{volume_command(cloud.name, 'detach', label)}, and mount it read-only afterwards",
            code="volume-in-use",
        )
    known = volumes.list()
    current = _same_content(source, known)
    return ReplicasPlan(
        source, tuple(_planned(cloud, source, zone, current, known, runs) for zone in dict.fromkeys(zones))
    )


def _check_outdated(provider: str, replica: Volume, source: Volume, runs: Mapping[str, str]) -> None:
    """Raises `Conflict` where somebody may need a replica that is out of date. Pure."""
    run = runs.get(replica.id)
    protected = " --include-protected" if replica.persistent else ""
    hint = f"where it is not needed: {volume_command(provider, 'delete', replica.id)}{protected}"
    if replica.instances:
        why = f"is attached to {', '.join(replica.instances)}"
        hint = volume_command(provider, "detach", replica.id)
    elif run is not None:
        why = f"is what {run} goes on with"
        hint = f"wait until {run} has ended for good, or runctl runs stop {run}"
    elif tag.CONTENT not in replica.tags:
        why = "may have data of its own: it was mounted for writing"
    elif replica.persistent:
        why = "is marked persistent"
    else:
        return
    label = replica.name or replica.id
    raise Conflict(
        f"{label} in {replica.zone} lacks what was written to {source.name or source.id} since, and {why}",
        hint=f"{hint}; then again",
        code="replica-needed",
    )


def _planned(
    cloud: Provider,
    source: Volume,
    zone: str,
    current: Sequence[Volume],
    known: Sequence[Volume],
    runs: Mapping[str, str],
) -> PlannedReplica:
    volumes = require(cloud.volumes)
    existing = next((each for each in current if each.zone == zone), None)
    if existing is not None:
        return PlannedReplica(zone, existing, None)
    outdated = tuple(
        each
        for each in known
        if each.tags.get(tag.REPLICA_OF) == source.id and each.zone == zone and each.state not in OVER
    )
    for each in outdated:
        _check_outdated(cloud.name, each, source, runs)
    shape = volumes.chosen_shape(source)
    wanted = volumes.plan(
        VolumeRequest(
            shape.size_gib, type=shape.type, iops=shape.iops, throughput=shape.throughput, zone=zone
        )
    )
    return PlannedReplica(zone, None, wanted, outdated)


def replicate(session: Session, provider: str, plan: ReplicasPlan) -> tuple[Volume, ...]:
    """Each zone has a volume with the same data; the temporary snapshot is gone.

    Raises what the provider raises, and `Conflict` (``volume-in-use``) where the volume was mounted for writing
    meanwhile. Called again with a new plan, it goes on where it was.
    """
    cloud = session.provider(provider)
    volumes, snapshots = require(cloud.volumes), require(cloud.snapshots)
    planned = plan.source.tags.get(tag.CONTENT)
    content = planned or volumes.find(plan.source.id).tags.get(tag.CONTENT)
    is_new = content is None
    if content is None:
        # Before the snapshot: what is written afterwards takes it off, and is seen below.
        content = new_client_token()
        volumes.tag(plan.source.id, {tag.CONTENT: content})
    _check_unwritten(volumes, plan.source, content, is_new=is_new)
    replicas = {each.zone: each.existing for each in plan.replicas if each.existing is not None}
    missing = [each for each in plan.replicas if each.existing is None]
    if missing:
        snapshot_id = _snapshot(session, provider, plan.source, content, is_new=is_new)
        for each in missing:
            for outdated in each.outdated:
                # It was asked about as it was then.
                _check_outdated(cloud.name, volumes.find(outdated.id), plan.source, {})
                volumes.delete(outdated.id, session.progress)
            session.progress.step(f"making a replica of {plan.source.name or plan.source.id} in {each.zone}")
            replicas[each.zone] = _volume(session, provider, plan.source, each.zone, snapshot_id, content)
    for left in snapshots.list():
        if left.tags.get(tag.REPLICATES) == content:
            snapshots.delete(left.id, session.progress, include_protected=True)
    _check_unwritten(volumes, plan.source, content, is_new=is_new)
    return tuple(replicas[each.zone] for each in plan.replicas)


def _check_unwritten(volumes: Volumes, source: Volume, content: str, *, is_new: bool) -> None:
    """Raises `Conflict` where somebody may have written to the volume since it had that content.

    Mounting takes the content off. Where it ``is_new``, the volume may have been mounted before it had it.
    """
    now = volumes.find(source.id)
    if now.tags.get(tag.CONTENT) == content:
        if not (is_new and now.instances):
            return
        volumes.tag(source.id, {}, remove=(tag.CONTENT,))
    raise Conflict(
        f"volume {source.name or source.id} was mounted for writing while it was to be replicated",
        hint="detach it, and again",
        code="volume-in-use",
    )


def _snapshot(session: Session, provider: str, source: Volume, content: str, *, is_new: bool) -> str:
    """One of the volume as it is, complete."""
    cloud = session.provider(provider)
    snapshots = require(cloud.snapshots)
    begun = next((each for each in snapshots.list() if each.tags.get(tag.REPLICATES) == content), None)
    if begun is None:
        request = SnapshotRequest(source.id, tags={tag.REPLICATES: content, tag.CONTENT: content})
        with new_snapshot(session, provider, request, freeze=False, wait=False) as new:
            begun = new.carry_out()
    try:
        _check_unwritten(require(cloud.volumes), source, content, is_new=is_new)
    except Conflict:
        snapshots.delete(begun.id, session.progress, include_protected=True)
        raise
    return snapshots.wait(begun.id, session.progress).id


def _volume(
    session: Session, provider: str, source: Volume, zone: str, snapshot_id: str, content: str
) -> Volume:
    shape = require(session.provider(provider).volumes).chosen_shape(source)
    request = VolumeRequest(
        size_gib=shape.size_gib,
        name=replica_name(source, zone),
        type=shape.type,
        iops=shape.iops,
        throughput=shape.throughput,
        zone=zone,
        persistent=source.persistent,
        project=source.tags.get(tag.PROJECT),
        snapshot_id=snapshot_id,
        tags={tag.REPLICA_OF: str(source.id), tag.CONTENT: content},
    )
    with new_volume(session, provider, request) as new:
        return new.carry_out()
