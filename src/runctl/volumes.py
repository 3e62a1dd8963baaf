"""For programs: what ``runctl PROVIDER ebs`` does, by the same functions, with the same plans and errors.

Every function prints nothing, asks nobody, and takes ``provider`` and ``session``. Where there is something to see
before it is done, ``on_plan`` is called with the plan and its price; an exception from it stops the call there. A
call that ends early may have begun its work: the same call once more finishes it. Volumes and snapshots are named by
id or name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runctl.core.machine_models import Instance, Snapshot, Volume
from runctl.machines import moving as _moving
from runctl.machines import replicas as _replicas
from runctl.machines import volumes as _use_cases
from runctl.machines.finding import running_instance as _running_instance
from runctl.machines.replicas import ReplicasPlan
from runctl.machines.session import Session
from runctl.machines.volumes import VolumeDetails
from runctl.providers.abilities.volume_plans import (
    ClonePlan,
    CloneRequest,
    ResizePlan,
    ResizeRequest,
    SnapshotPlan,
    SnapshotRequest,
    VolumePlan,
    VolumeRequest,
)
from runctl.providers.interface import require as _require
from runctl.providers.registry import DEFAULT as _DEFAULT
from runctl.runs.stored.recipe import Recipes as _Recipes
from runctl.storage.attaching import MountOptions as _MountOptions
from runctl.storage.moving import MovePlan

__all__ = [
    "VolumeDetails",
    "attach",
    "clone",
    "create",
    "delete",
    "delete_snapshots",
    "detach",
    "list",
    "move",
    "replicate",
    "resize",
    "restore",
    "show",
    "snapshot",
    "snapshots",
]


def _ignore(plan: Any) -> None:
    """What happens with a plan that nobody wants to see."""


def create(
    size_gib: int | None = None,
    *,
    name: str | None = None,
    type: str | None = None,  # noqa: A002 - what everybody calls it
    iops: int | None = None,
    throughput: int | None = None,
    purpose: str | None = None,
    zone: str | None = None,
    snapshot: str | None = None,
    initialization_rate: int | None = None,
    multi_attach: bool = False,
    persistent: bool = False,
    project: str | None = None,
    tags: Mapping[str, str] | None = None,
    provider: str = _DEFAULT,
    on_plan: Callable[[VolumePlan], None] = _ignore,
    session: Session | None = None,
) -> Volume:
    """A new volume, empty or with a snapshot's data; see ``runctl aws ebs create``."""
    session = session or Session()
    request = VolumeRequest(
        size_gib=size_gib,
        name=name,
        type=type,
        iops=iops,
        throughput=throughput,
        zone=zone,
        persistent=persistent,
        project=project,
        snapshot_id=snapshot,
        initialization_rate=initialization_rate,
        multi_attach=multi_attach,
        tags=dict(tags or {}),
    )
    request = _use_cases.with_project(session, request)
    if purpose is not None:
        request = _use_cases.for_purpose(session.provider(provider), request, purpose, chosen=type)
    return _create(session, provider, request, on_plan)


def restore(
    snapshot: str,
    *,
    name: str | None = None,
    size_gib: int | None = None,
    type: str | None = None,  # noqa: A002 - what everybody calls it
    iops: int | None = None,
    throughput: int | None = None,
    zone: str | None = None,
    initialization_rate: int | None = None,
    persistent: bool = False,
    project: str | None = None,
    tags: Mapping[str, str] | None = None,
    provider: str = _DEFAULT,
    on_plan: Callable[[VolumePlan], None] = _ignore,
    session: Session | None = None,
) -> Volume:
    """A volume with a snapshot's data, of the type and speed that the original had; see ``runctl aws ebs restore``."""
    session = session or Session()
    request = VolumeRequest(
        size_gib=size_gib,
        name=name,
        iops=iops,
        throughput=throughput,
        zone=zone,
        persistent=persistent,
        project=project,
        snapshot_id=snapshot,
        initialization_rate=initialization_rate,
        tags=dict(tags or {}),
    )
    request = _use_cases.like_original(session, session.provider(provider), request, chosen=type)
    return _create(session, provider, request, on_plan)


def _create(
    session: Session, provider: str, request: VolumeRequest, on_plan: Callable[[VolumePlan], None]
) -> Volume:
    with _use_cases.new_volume(session, provider, request) as prepared:
        on_plan(prepared.plan)
        return prepared.carry_out()


def show(volume: str, *, provider: str = _DEFAULT, session: Session | None = None) -> VolumeDetails:
    """A volume, what is being changed, how far it has its data, and its snapshots."""
    return _use_cases.details((session or Session()).provider(provider), volume)


def snapshots(
    volume: str | None = None,
    *,
    everyone: bool = False,
    provider: str = _DEFAULT,
    session: Session | None = None,
) -> tuple[Snapshot, ...]:
    """Snapshots, newest first; of one volume, or of all."""
    cloud = (session or Session()).provider(provider)
    volume_id = None if volume is None else _require(cloud.volumes).find(volume).id
    return _require(cloud.snapshots).list(everyone=everyone, volume_id=volume_id)


def resize(
    volume: str,
    size_gib: int | None = None,
    *,
    type: str | None = None,  # noqa: A002 - what everybody calls it
    iops: int | None = None,
    throughput: int | None = None,
    transport: str | None = None,
    provider: str = _DEFAULT,
    on_plan: Callable[[ResizePlan], None] = _ignore,
    session: Session | None = None,
) -> Volume:
    """The volume is larger, faster or of another type, and its file system has grown with it."""
    prepared = _use_cases.larger_volume(
        session or Session(),
        provider,
        volume,
        ResizeRequest(size_gib, type, iops, throughput),
        transport=transport,
    )
    on_plan(prepared.plan)
    return prepared.carry_out().volume


def attach(
    volume: str,
    instance: Instance | str,
    *,
    mount: bool = True,
    mount_point: str | None = None,
    file_system: str = "ext4",
    may_format: bool = False,
    read_only: bool = False,
    transport: str | None = None,
    provider: str = _DEFAULT,
    session: Session | None = None,
) -> Volume:
    """The volume is attached to a running instance and, with ``mount``, mounted; see ``runctl aws ebs attach``."""
    session = session or Session()
    machine = _machine(session, provider, instance)
    options = _MountOptions(mount_point, file_system, may_format=may_format, read_only=read_only)
    return _use_cases.attach(
        session, provider, volume, machine, options if mount else None, transport=transport
    )


def detach(
    volume: str,
    *,
    instance: Instance | str | None = None,
    force: bool = False,
    transport: str | None = None,
    provider: str = _DEFAULT,
    session: Session | None = None,
) -> Volume:
    """The volume is flushed, unmounted and detached; ``instance`` says from where, if several have it."""
    session = session or Session()
    machine = None if instance is None else _machine(session, provider, instance)
    return _use_cases.detach(
        session, provider, volume, instance=machine, force=force, transport=transport
    ).volume


def _machine(session: Session, provider: str, instance: Instance | str) -> Instance:
    return instance if isinstance(instance, Instance) else _running_instance(session, provider, instance)


def snapshot(
    volume: str,
    *,
    name: str | None = None,
    description: str = "",
    persistent: bool = False,
    tags: Mapping[str, str] | None = None,
    freeze: bool = True,
    wait: bool = True,
    transport: str | None = None,
    provider: str = _DEFAULT,
    on_plan: Callable[[SnapshotPlan], None] = _ignore,
    session: Session | None = None,
) -> Snapshot:
    """A snapshot of the volume; where a machine has it mounted, the file system is held still as it begins."""
    request = SnapshotRequest(volume, name, description, persistent or None, dict(tags or {}))
    with _use_cases.new_snapshot(
        session or Session(), provider, request, freeze=freeze, wait=wait, transport=transport
    ) as prepared:
        on_plan(prepared.plan)
        return prepared.carry_out()


def clone(
    volume: str,
    *,
    name: str | None = None,
    size_gib: int | None = None,
    type: str | None = None,  # noqa: A002 - what everybody calls it
    iops: int | None = None,
    throughput: int | None = None,
    persistent: bool = False,
    tags: Mapping[str, str] | None = None,
    freeze: bool = True,
    transport: str | None = None,
    provider: str = _DEFAULT,
    on_plan: Callable[[ClonePlan], None] = _ignore,
    session: Session | None = None,
) -> Volume:
    """A copy of the volume in its zone, as it is at this moment."""
    request = CloneRequest(
        volume, name, size_gib, type, iops, throughput, persistent or None, dict(tags or {})
    )
    with _use_cases.new_clone(
        session or Session(), provider, request, freeze=freeze, transport=transport
    ) as prepared:
        on_plan(prepared.plan)
        return prepared.carry_out()


def move(
    volume: str,
    zone: str,
    *,
    initialization_rate: int | None = None,
    delete_source: bool = False,
    include_protected: bool = False,
    provider: str = _DEFAULT,
    on_plan: Callable[[MovePlan], None] = _ignore,
    session: Session | None = None,
) -> Volume:
    """The volume's data is in another zone, checked, under the same name; the old one is kept unless said otherwise.

    Without ``initialization_rate`` (MiB/s, for a price) the data gets there at the provider's own pace.
    """
    session = session or Session()
    with _moving.moving(
        session.intents,
        session.provider(provider),
        _moving.MoveRequest(volume, zone),
        rate=initialization_rate,
        delete_source=delete_source,
        include_protected=include_protected,
        progress=session.progress,
    ) as prepared:
        on_plan(prepared.plan)
        return prepared.carry_out().volume


def replicate(
    volume: str,
    *zones: str,
    provider: str = _DEFAULT,
    on_plan: Callable[[ReplicasPlan], None] = _ignore,
    session: Session | None = None,
) -> tuple[Volume, ...]:
    """Each zone has a volume with the same data, in this order, until one of them is mounted for writing."""
    session = session or Session()
    plan = _replicas.plan_replicas(
        session, provider, volume, zones, runs=_Recipes(session.database).by_volume()
    )
    on_plan(plan)
    return _replicas.replicate(session, provider, plan)


def delete(
    *volumes: str, include_protected: bool = False, provider: str = _DEFAULT, session: Session | None = None
) -> tuple[Volume, ...]:
    """The volumes and the data on them are gone. Attached ones and, without ``include_protected``, persistent ones are
    refused."""
    deleting = _use_cases.volume_deletion(
        session or Session(), provider, volumes, include_protected=include_protected
    )
    return tuple(map(deleting.delete, deleting.found))


def delete_snapshots(
    *snapshots: str, include_protected: bool = False, provider: str = _DEFAULT, session: Session | None = None
) -> tuple[Snapshot, ...]:
    """The snapshots are gone; others of the same volume stay whole."""
    deleting = _use_cases.snapshot_deletion(
        session or Session(), provider, snapshots, include_protected=include_protected
    )
    return tuple(map(deleting.delete, deleting.found))


def list(  # noqa: A001 - runctl.volumes.list reads as what it is
    *, everyone: bool = False, provider: str = _DEFAULT, session: Session | None = None
) -> tuple[Volume, ...]:
    """Volumes, newest first; with ``everyone`` those too that runctl did not create."""
    return _require((session or Session()).provider(provider).volumes).list(everyone=everyone)
