"""What is done with volumes and snapshots, by the command line and by programs: planned, shown, carried out.

What makes something is a context manager: it lasts from the plan to the end of the work, and the same request takes up
what an earlier one began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from runctl._dataclasses import dataclass
from runctl.core import tags as tag
from runctl.core.errors import Conflict, Unsupported, UsageError
from runctl.core.machine_models import Instance, Snapshot, SnapshotState, Volume, VolumeState
from runctl.machines.creation import Creation
from runctl.machines.deletion import Deleting, deleting
from runctl.machines.intents import Kind
from runctl.machines.machine import transport_choice
from runctl.machines.session import Session
from runctl.project.label import project_label
from runctl.providers.abilities.volume_plans import (
    ClonePlan,
    CloneRequest,
    InitializationStatus,
    Modification,
    ResizePlan,
    ResizeRequest,
    SnapshotPlan,
    SnapshotRequest,
    VolumePlan,
    VolumeRequest,
)
from runctl.providers.interface import Provider, require
from runctl.providers.names import check_resource_name
from runctl.storage.agents import AgentOn
from runctl.storage.attaching import (
    Detached,
    MountOptions,
    attach_and_mount,
    attach_only,
    check_mount_point,
    unmount_and_detach,
)
from runctl.storage.consistency import holding_still, let_go
from runctl.storage.growing import Resized, resize
from runctl.storage.sharing import SHARED, others

if TYPE_CHECKING:
    from runctl.transport.agent import AgentClient

Plan = TypeVar("Plan")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Prepared(Generic[Plan, Result]):
    """Something that is planned, and done when `carry_out` is called."""

    plan: Plan
    carry_out: Callable[[], Result]


def agents(session: Session, transport: str | None = None) -> AgentOn:
    """How to reach the agent of an instance."""

    def agent_on(instance: Instance) -> AgentClient:
        choice = transport_choice(session, instance, transport)
        return session.provider(instance.provider).agent(instance, choice, session.progress)

    return agent_on


def check_name(name: str | None) -> None:
    """Raises `UsageError` for a name that could not be used in other commands."""
    if name is not None:
        check_resource_name(name, "a volume or snapshot", "datasets")


def with_project(session: Session, request: VolumeRequest) -> VolumeRequest:
    """The request for the project that the configuration or the folder says, where none was given."""
    return replace(request, project=project_label(request.project, session.config, Path.cwd()))


def for_purpose(
    provider: Provider, request: VolumeRequest, purpose: str, *, chosen: str | None
) -> VolumeRequest:
    """The request with what suits the purpose; numbers that were given stay. Raises `UsageError`."""
    if chosen is not None:
        raise UsageError(
            f"--for {purpose} chooses the type, and --volume-type {chosen} does too",
            hint="leave one of them out",
        )
    size = request.size_gib or require(provider.snapshots).find(request.snapshot_id or "").volume_size_gib
    found = require(provider.volumes).suggest(purpose, size)
    if found is None:
        raise UsageError(f"{provider.name} has no advice for {purpose}", hint="choose with --volume-type")
    return replace(
        request,
        type=found.type,
        iops=request.iops or found.iops,
        throughput=request.throughput or found.throughput,
        type_reason=f"for {purpose}: {found.reason}",
        tags={**request.tags, tag.PURPOSE: purpose},
    )


def like_original(
    session: Session, provider: Provider, request: VolumeRequest, *, chosen: str | None
) -> VolumeRequest:
    """The request for a volume of a snapshot, with the type, speed and project that the original had.

    ``chosen`` is the type that was asked for. Raises `NotFound`.
    """
    snapshots = require(provider.snapshots)
    snapshot = snapshots.find(request.snapshot_id or "")
    was = snapshots.original_shape(snapshot, request.size_gib or snapshot.volume_size_gib)
    same = was is not None and chosen in {None, was.type}
    project = request.project or snapshot.tags.get(tag.PROJECT)
    return replace(
        request,
        type=chosen or (None if was is None else was.type),
        iops=request.iops or (was.iops if was is not None and same else None),
        throughput=request.throughput or (was.throughput if was is not None and same else None),
        project=project_label(project, session.config, Path.cwd()),
        snapshot_id=snapshot.id,
        type_reason="as the volume was" if same and chosen is None else "",
    )


@contextmanager
def new_volume(
    session: Session, provider: str, request: VolumeRequest
) -> Iterator[Prepared[VolumePlan, Volume]]:
    """A volume that is made once. Raises what `Volumes.plan` raises."""
    check_name(request.name)
    if request.size_gib is None and request.snapshot_id is None:
        raise UsageError("a new volume needs a size", hint="--size GIB, or --from-snapshot")
    cloud = session.provider(provider)
    volumes = require(cloud.volumes)
    with session.creating(cloud, Kind.VOLUME, request) as creation:

        def planned(token: str) -> VolumePlan:
            return volumes.plan(replace(request, token=token))

        plan = planned(creation.token)
        yield Prepared(
            plan,
            lambda: creation.make(plan, lambda plan: volumes.create(plan, session.progress), planned),
        )


@contextmanager
def new_snapshot(
    session: Session,
    provider: str,
    request: SnapshotRequest,
    *,
    freeze: bool = True,
    wait: bool = True,
    transport: str | None = None,
) -> Iterator[Prepared[SnapshotPlan, Snapshot]]:
    """A snapshot that is taken once, while the file system of its volume is held still."""
    check_name(request.name)
    cloud = session.provider(provider)
    snapshots = require(cloud.snapshots)
    with session.creating(cloud, Kind.SNAPSHOT, request) as creation:
        plan = snapshots.plan(replace(request, token=creation.token))

        def take() -> Snapshot:
            creation.begin()
            taken = snapshots.create(plan, session.progress)
            creation.note(taken)
            return taken

        def carry_out() -> Snapshot:
            taken = _held_still(session, cloud, plan.volume, creation, take, freeze, transport)
            return snapshots.wait(taken.id, session.progress) if wait else taken

        yield Prepared(plan, carry_out)


@contextmanager
def new_clone(
    session: Session,
    provider: str,
    request: CloneRequest,
    *,
    freeze: bool = True,
    transport: str | None = None,
) -> Iterator[Prepared[ClonePlan, Volume]]:
    """A copy of a volume that is made once, while the file system of the original is held still."""
    check_name(request.name)
    cloud = session.provider(provider)
    clones = require(cloud.clones)
    with session.creating(cloud, Kind.CLONE, request) as creation:

        def planned(token: str) -> ClonePlan:
            return clones.plan(replace(request, token=token))

        plan = planned(creation.token)

        def clone() -> Volume:
            return creation.make(plan, lambda plan: clones.create(plan, session.progress), planned)

        yield Prepared(
            plan,
            lambda: _held_still(session, cloud, plan.source, creation, clone, freeze, transport),
        )


def _held_still(
    session: Session,
    cloud: Provider,
    volume: Volume,
    creation: Creation,
    make: Callable[[], Result],
    freeze: bool,
    transport: str | None,
) -> Result:
    agent_on, progress = agents(session, transport), session.progress
    creation.begin()
    if creation.existing is not None:
        # It has the data of the moment at which it was begun; what was frozen then is let go.
        if freeze:
            let_go(cloud, agent_on, volume, creation.token, progress)
        return make()
    # Written down before: after a kill the same command finds what it froze by the same token.
    with holding_still(cloud, agent_on, volume, creation.token, freeze=freeze, progress=progress) as still:
        result = make()
    progress.note(still.description)
    return result


def larger_volume(
    session: Session, provider: str, volume: str, request: ResizeRequest, *, transport: str | None = None
) -> Prepared[ResizePlan, Resized]:
    """A volume that becomes larger or faster, with its file system. Raises what `Resizing.plan` raises."""
    if request == ResizeRequest():
        raise UsageError("no change is named", hint="add --size, --volume-type, --iops or --throughput")
    cloud = session.provider(provider)
    plan = require(cloud.resizing).plan(volume, request)

    def carry_out() -> Resized:
        done = resize(cloud, agents(session, transport), plan, session.progress)
        session.ledger_record(provider).seen(done.volume)
        if done.growth is not None and tag.GROW in done.volume.tags and tag.is_ours(done.volume.tags):
            require(cloud.volumes).tag(done.volume.id, {}, remove=(tag.GROW,))
        return done

    return Prepared(plan, carry_out)


def attach(
    session: Session,
    provider: str,
    volume: str,
    instance: Instance,
    options: MountOptions | None,
    *,
    transport: str | None = None,
) -> Volume:
    """The volume is attached to the running instance and mounted there; without ``options`` attached only.

    Raises what `attach_and_mount` raises.
    """
    cloud = session.provider(provider)
    found = require(cloud.volumes).find(volume)
    if options is None:
        _check_alone(found, instance)
        return attach_only(cloud, found, instance, session.progress)
    agent_on = agents(session, transport)
    if instance.id not in found.instances:
        check_mount_point(agent_on, found, instance, options.mount_point)
    return attach_and_mount(cloud, agent_on, found, instance, options, session.progress).volume


def _check_alone(volume: Volume, instance: Instance) -> None:
    elsewhere = others(volume, instance)
    if volume.multi_attach and elsewhere:
        raise Conflict(
            f"volume {volume.name or volume.id} is on {', '.join(elsewhere)} too, and what mounts it here is not known",
            hint="attach it with --read-only",
            code=SHARED,
        )


def detach(
    session: Session,
    provider: str,
    volume: str,
    *,
    instance: Instance | None = None,
    force: bool = False,
    transport: str | None = None,
) -> Detached:
    """The volume is unmounted and detached; see `unmount_and_detach`."""
    cloud = session.provider(provider)
    found = require(cloud.volumes).find(volume)
    detached = unmount_and_detach(
        cloud,
        agents(session, transport),
        found,
        force=force,
        instance_id=None if instance is None else instance.id,
        progress=session.progress,
    )
    if found.attached_to is None:
        session.progress.note(f"{found.name or found.id} was attached to no machine")
    return detached


@dataclass(frozen=True)
class VolumeDetails:
    """A volume, and what is known about it."""

    volume: Volume
    modification: Modification | None
    """The newest change of it."""
    initialization: InitializationStatus | None
    """How far it has the data that it was made from; ``None`` where it was made empty."""
    snapshots: tuple[Snapshot, ...]


def details(provider: Provider, volume: str) -> VolumeDetails:
    """Raises `NotFound`."""
    volumes, resizing, snapshots = require(provider.volumes), provider.resizing, provider.snapshots
    found = volumes.find(volume)
    return VolumeDetails(
        found,
        None if isinstance(resizing, Unsupported) else resizing.latest(found.id),
        None if found.snapshot_id is None else volumes.initialization(found.id),
        () if isinstance(snapshots, Unsupported) else snapshots.list(everyone=True, volume_id=found.id),
    )


def volume_deletion(
    session: Session, provider: str, references: Sequence[str], *, include_protected: bool = False
) -> Deleting[Volume]:
    """Volumes by id or name. Raises what `Deletions.find` raises; deleting, what `Volumes.delete` raises."""
    cloud = session.provider(provider)
    volumes = require(cloud.volumes)

    def delete(volume: Volume) -> Volume:
        volumes.delete(volume.id, session.progress, include_protected=include_protected)
        return replace(volume, state=VolumeState.DELETED)

    return deleting(session.deletions(cloud, Kind.VOLUME_DELETION), references, volumes.find, delete)


def snapshot_deletion(
    session: Session, provider: str, references: Sequence[str], *, include_protected: bool = False
) -> Deleting[Snapshot]:
    """Snapshots by id or name. Raises what `Deletions.find` raises; deleting, what `Snapshots.delete` raises."""
    cloud = session.provider(provider)
    snapshots = require(cloud.snapshots)

    def delete(snapshot: Snapshot) -> Snapshot:
        snapshots.delete(snapshot.id, session.progress, include_protected=include_protected)
        return replace(snapshot, state=SnapshotState.DELETED)

    return deleting(session.deletions(cloud, Kind.SNAPSHOT_DELETION), references, snapshots.find, delete)
