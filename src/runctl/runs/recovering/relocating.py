"""The run's volumes follow it to the zone of its next machine, where their own zone has none.

Each move is one of `runctl.machines.moving`, or a volume that is filled anew: both are taken up where they were cut
short. The user's own volume stays as it was; copies that an earlier move of the same run has made are deleted once the
newest is in use.
"""

from __future__ import annotations

from dataclasses import replace

from runctl.agent.object_store import parse_source
from runctl.core.errors import Conflict, MachineError, NotFound, RunctlError, Unsupported
from runctl.core.ids import VolumeId
from runctl.core.machine_models import Instance, Volume, VolumeState
from runctl.core.money import monthly
from runctl.core.run_models import MovedVolume
from runctl.core.tags import (
    COPY_FOR,
    CREATED_FROM,
    FILLED_FROM,
    FILLED_WITH,
    MOVED_TO,
    PROJECT,
    REPLICA_OF,
)
from runctl.machines.moving import MoveRequest, moving
from runctl.machines.replicas import same_data
from runctl.machines.volumes import new_volume
from runctl.providers.abilities.volume_plans import VolumeRequest
from runctl.providers.interface import require
from runctl.providers.registry import volume_command
from runctl.runs.filling.fill import Prewarm
from runctl.runs.filling.plan import PrewarmRequest
from runctl.runs.recovering.run import RecoveredRun
from runctl.runs.recovering.volumes import wait_for_release
from runctl.runs.relocation import (
    Refill,
    Relocation,
    VolumeInUse,
    plan_relocation,
    plan_relocations,
    refill_of,
)
from runctl.runs.stored.recipe import KeptVolume, Recipe

_SOURCE_CHANGED = frozenset({"source-changed", "nothing-there", "no-bucket", "disk-full"})
"""Codes of a prewarm that cannot bring what another volume, as large as this one, was filled with."""


def current_volume(run: RecoveredRun, kept: KeptVolume) -> Volume:
    """The volume that has the data now: somebody may have moved it since.

    Where that is gone, and the run only reads it, it is the user's own. Raises `NotFound`.
    """
    find = require(run.provider.volumes).find
    try:
        volume = find(kept.volume_id)
    except NotFound:
        if not (kept.read_only and kept.moved_from):
            raise
        volume = find(kept.moved_from[0])
    # What the run has left behind itself, it does not follow.
    seen = {volume.id, *map(VolumeId, kept.moved_from)}
    while (following := volume.tags.get(MOVED_TO)) is not None and following not in seen:
        try:
            there = find(following)
        except NotFound:
            break
        if there.state in {VolumeState.DELETING, VolumeState.DELETED}:
            break
        seen.add(there.id)
        volume = there
    return volume


def volumes_zone(run: RecoveredRun) -> str | None:
    """Where the run's volumes are; ``None``: it has none. Raises `NotFound`."""
    return next((current_volume(run, kept).zone for kept in run.recipe.volumes), None)


def relocations_of(run: RecoveredRun) -> tuple[Relocation, ...]:
    """How the run's volumes can follow it, the soonest way first."""
    request = run.recipe.request
    named = (request.zone or request.subnet) if request is not None else None
    return plan_relocations(_volumes_in_use(run), named_zone=named, no_snapshots=_no_snapshots(run))


def _volumes_in_use(run: RecoveredRun) -> list[VolumeInUse]:
    known = require(run.provider.volumes).list() if run.recipe.volumes else ()
    used = []
    for kept in run.recipe.volumes:
        volume = current_volume(run, kept)
        used.append(VolumeInUse(volume, kept.read_only, _refill(run, volume), same_data(volume, known)))
    return used


def _no_snapshots(run: RecoveredRun) -> str:
    snapshots = run.provider.snapshots
    return snapshots.message if isinstance(snapshots, Unsupported) else ""


def _refill(run: RecoveredRun, volume: Volume) -> Refill | None:
    """What a helper machine would bring onto another volume like it."""
    filling = run.provider.filling
    return None if isinstance(filling, Unsupported) else refill_of(volume, filling.volume_mibps(volume))


def bring_volumes(run: RecoveredRun, instance: Instance) -> None:
    """Every volume of the run is in the machine's zone, and the run's recipe names it. Raises what moving and filling
    raise."""
    found = [(kept, current_volume(run, kept)) for kept in run.recipe.volumes]
    away = any(instance.zone is not None and volume.zone != instance.zone for _, volume in found)
    relocation = plan_relocation(
        _volumes_in_use(run) if away else (), zone=instance.zone, no_snapshots=_no_snapshots(run)
    )
    ways = {move.volume_id: move for move in relocation.moves}
    for known, volume in found:
        kept = known
        if volume.id != kept.volume_id:
            kept = _found_elsewhere(run, kept, volume)
        if instance.zone is None or volume.zone == instance.zone:
            continue
        way = ways.get(volume.id)
        source = way.source if way is not None else None
        following = replica = way.replica if way is not None else None
        if replica is not None:
            label = volume.name or volume.id
            run.session.progress.note(f"{label} is in {instance.zone} already: {replica.name or replica.id}")
        elif source is not None:
            following = _filled(run, volume, instance.zone, source)
        if following is None:
            source, following = None, _moved(run, volume, instance.zone)
        to = kept.replaced_by(str(following.id), is_copy=replica is None)
        _adopt(run, volume, following, to, source)


def _found_elsewhere(run: RecoveredRun, kept: KeptVolume, volume: Volume) -> KeptVolume:
    """The run goes on with that volume, which has the data of the one that it had."""
    if volume.id in kept.moved_from:
        # What it had last is gone.
        label = volume.name or volume.id
        run.session.progress.warn(
            f"{kept.volume_id}, which the run had last, is gone: it goes on with {label}"
        )
        found = kept.replaced_by(str(volume.id), is_copy=False)
        run.keep(with_volume(run.recipe, kept.volume_id, found))
        return found
    # Somebody else has moved it, or a process that was killed when it had: the one before is theirs.
    found = replace(kept, volume_id=str(volume.id), moved_from=(), is_copy=False)
    try:
        before = require(run.provider.volumes).find(kept.volume_id)
    except NotFound:
        run.keep(with_volume(run.recipe, kept.volume_id, found))
        return found
    _adopt(run, before, volume, found)
    _say_kept(run, kept.volume_id)
    return found


def _filled(run: RecoveredRun, volume: Volume, zone: str, source: str) -> Volume | None:
    """A volume like it in that zone, filled from where this one was filled from; ``None`` where that has changed since:
    nobody tries that again with this volume."""
    volumes = require(run.provider.volumes)
    label = volume.name or volume.id
    run.session.progress.note(f"{label} is refilled in {zone}, from {source}")
    tags = {CREATED_FROM: str(volume.id), COPY_FOR: run.record.id}
    begun = (each for each in volumes.list() if each.zone == zone and tags.items() <= each.tags.items())
    created = next(begun, None)
    if created is None:
        shape = volumes.chosen_shape(volume)
        request = VolumeRequest(
            size_gib=shape.size_gib,
            type=shape.type,
            iops=shape.iops,
            throughput=shape.throughput,
            zone=zone,
            name=f"{volume.name}-in-{zone}" if volume.name else None,
            project=volume.tags.get(PROJECT),
            tags=tags,
        )
        with new_volume(run.session, run.provider.name, request) as new:
            created = new.carry_out()
    prewarm = Prewarm(
        run.provider,
        run.store,
        run.session.intents,
        run.clock,
        region=run.provider.region,
        progress=run.session.progress,
        rental_listeners=run.session.rental_listeners,
    )
    listing = volume.tags.get(FILLED_WITH)
    refill = PrewarmRequest(created, parse_source(source), may_format=True, listing=listing)
    try:
        return prewarm.carry_out(prewarm.plan(refill)).volume
    except (MachineError, NotFound, Conflict) as error:
        if error.code not in _SOURCE_CHANGED:
            raise
    run.session.progress.warn(
        f"{source} no longer has what {label} was filled with: the volume itself follows"
    )
    volumes.delete(created.id, run.session.progress)
    volumes.tag(volume.id, {}, remove=(FILLED_FROM, FILLED_WITH))
    return None


def _moved(run: RecoveredRun, volume: Volume, zone: str) -> Volume:
    if volume.attached_to is not None:
        wait_for_release(run, volume.attached_to)
    label = volume.name or volume.id
    run.session.progress.note(f"{label} follows from {volume.zone} to {zone} by snapshot")
    # No rate is paid for: what is read first comes first, and the script starts at once.
    request = MoveRequest(str(volume.id), zone)
    with moving(
        run.session.intents,
        run.provider,
        request,
        rate=None,
        clock=run.clock,
        progress=run.session.progress,
    ) as move:
        moved = move.carry_out()
    return moved.volume


def _adopt(run: RecoveredRun, old: Volume, new: Volume, kept: KeptVolume, source: str | None = None) -> None:
    """From now on it is the run's volume, also for a process that goes on after this one was killed."""
    run.keep(with_volume(run.recipe, str(old.id), kept))
    attempt = run.record.attempt + 1
    run.volume_moved(MovedVolume(old.name, old.id, old.zone, new.id, new.zone, attempt, source))


def with_volume(recipe: Recipe, old: str, new: KeptVolume) -> Recipe:
    """The recipe with one volume in place of another that its data came from. Pure."""
    mounts = tuple(
        replace(mount, volume_id=new.volume_id) if mount.volume_id == old else mount
        for mount in recipe.spec.mounts
    )
    volumes = tuple(new if kept.volume_id == old else kept for kept in recipe.volumes)
    return replace(recipe, spec=replace(recipe.spec, mounts=mounts), volumes=volumes)


def tidy_up(run: RecoveredRun) -> None:
    """The next attempt uses its volumes: of those before them only the user's own is kept, and it is said that it is
    paid for. What cannot be deleted is warned of."""
    for kept in run.recipe.volumes:
        own, *copies = kept.moved_from or ("",)
        for copy in copies:
            # An earlier version may have taken the user's own for a copy.
            if copy not in {own, kept.volume_id}:
                _delete_copy(run, copy)
        if copies:
            run.keep(with_volume(run.recipe, kept.volume_id, replace(kept, moved_from=(own,))))
        elif own and own != kept.volume_id:
            _say_kept(run, own)


def _delete_copy(run: RecoveredRun, volume_id: str) -> None:
    volumes = require(run.provider.volumes)
    try:
        if REPLICA_OF in volumes.find(volume_id).tags:
            # Somebody wants it to be there.
            return
        other = run.recipes.by_volume().get(volume_id)
        if other is not None:
            raise Conflict(f"{other} goes on with it")
        volumes.delete(VolumeId(volume_id), run.session.progress, include_protected=True)
    except RunctlError as error:
        delete = volume_command(run.provider.name, "delete", volume_id)
        run.session.progress.warn(
            f"{volume_id}, an earlier copy of the run's volume, is still there and paid for ({error.message}): {delete}"
        )


def _say_kept(run: RecoveredRun, volume_id: str) -> None:
    try:
        own = require(run.provider.volumes).find(volume_id)
    except RunctlError:
        return
    price = f", {monthly(own.price_per_month)}" if own.price_per_month is not None else ""
    delete = volume_command(run.provider.name, "delete", own.name or own.id)
    run.session.progress.note(
        f"the volume that the run had in {own.zone} is kept as {own.name or own.id}, and paid for{price}: {delete}"
    )
