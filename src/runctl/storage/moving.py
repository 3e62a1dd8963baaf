"""A volume's data is moved to another zone: a snapshot, a volume made from it, checked, and then given the name.

What has been done is in tags of the volumes and of the snapshot, each written in the call that makes the thing or in
one call of its own. So a move that was cut short anywhere is taken up by asking for it again.

====================  =================================================================================
source                ``runctl:move`` token, ``runctl:move-zone``, ``runctl:move-name``: it is under way
snapshot              ``runctl:move`` token: it is temporary
new volume            ``runctl:move`` token, ``runctl:move-name``: it is not finished
source                ``runctl:moved-to``: the new volume was checked, and takes its name
====================  =================================================================================
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from runctl._dataclasses import dataclass
from runctl.core import tags as tag
from runctl.core.clock import Clock, SystemClock
from runctl.core.errors import Conflict, NotFound, PermissionDenied, ProviderError, Unreachable
from runctl.core.ids import new_client_token
from runctl.core.journal import Change, Effect
from runctl.core.machine_models import Snapshot, Volume, VolumeState
from runctl.core.progress import SILENT, Progress
from runctl.core.text import time_span
from runctl.core.waiting import attempts
from runctl.providers.abilities.volume_plans import Initialization, SnapshotRequest, VolumePlan, VolumeRequest
from runctl.providers.abilities.volumes import Volumes
from runctl.providers.interface import Provider, require
from runctl.providers.registry import volume_command

INITIALIZATION_TIMEOUT = timedelta(hours=24)
POLL_SECONDS = 10.0
_INTENT = (tag.MOVE, tag.MOVE_ZONE, tag.MOVE_NAME)


@dataclass(frozen=True)
class MovePlan:
    """What `carry_out` is about to do."""

    source: Volume | None
    """``None``: it has been moved and deleted, and what is left is to tidy up."""
    target: VolumePlan | None
    """``None``: the new volume is there already."""
    finished: Volume | None
    """The new volume, where it is there already."""
    zone: str
    name: str | None
    """What the new volume will be called; the old one is called `old_name` then."""
    token: str
    resumes: bool
    """It was begun before."""
    done: bool
    """There is nothing left to do."""
    initialization: Initialization | None
    delete_source: bool

    @property
    def old_name(self) -> str | None:
        """What the old volume is called afterwards, if it is kept."""
        return None if self.name is None or self.source is None else f"{self.name}-in-{self.source.zone}"


@dataclass(frozen=True)
class Moved:
    """A volume that is in its new zone."""

    volume: Volume
    source: Volume | None
    """The old one, where it was kept."""


def plan_move(
    provider: Provider,
    reference: str,
    zone: str,
    *,
    rate: int | None,
    delete_source: bool = False,
    include_protected: bool = False,
    token: str | None = None,
) -> MovePlan:
    """What is to be done, or what is left of it. Does nothing yet. ``token`` is for a move that is begun now.

    Raises `NotFound`, `Conflict` (in use; being moved elsewhere; code ``protected`` where the old one may not be
    deleted), `PermissionDenied` (``not-ours``), `UsageError`.
    """
    volumes = require(provider.volumes)
    new_token = token or new_client_token()
    source, target, token = _find(provider, reference, zone)
    if source is None:
        if target is None:
            raise NotFound(f"volume {reference!r} does not exist")
        return MovePlan(
            None,
            None,
            target,
            zone,
            target.name,
            token or "",
            token is not None,
            token is None,
            None,
            delete_source,
        )
    if not tag.is_ours(source.tags):
        raise PermissionDenied(
            f"volume {source.id} was not created by runctl and is left alone",
            hint=f"{volume_command(provider.name, 'snapshot')} and restore --availability-zone make a volume of"
            " its own",
            code="not-ours",
        )
    if delete_source and source.persistent and not include_protected:
        raise Conflict(
            f"volume {source.name or source.id} is marked persistent, and its old copy would be deleted",
            hint="leave --delete-source out, or add --include-protected",
            code="protected",
        )
    over = target is not None and token is None and not delete_source
    if source.instances and not over and not volumes.is_being_released(source):
        raise Conflict(
            f"volume {source.name or source.id} is attached to {', '.join(source.instances)}",
            hint=f"{volume_command(provider.name, 'detach', source.name or source.id)}, so that nothing is written"
            " while it moves",
            code="volume-in-use",
        )
    name = source.name
    if token is not None:
        name = source.tags.get(tag.MOVE_NAME)
    elif target is not None:
        name = target.name
    if target is not None:
        return MovePlan(
            source,
            None,
            target,
            zone,
            name,
            token or "",
            True,
            over,
            None,
            delete_source,
        )
    wanted = volumes.plan(_request(volumes, source, zone, token or new_token, None))
    filling = require(provider.snapshots).estimate_filling(rate, source.size_gib, zone)
    plan_token = wanted.request.token or ""
    return MovePlan(
        source, wanted, None, zone, name, plan_token, token is not None, False, filling, delete_source
    )


def carry_out(
    provider: Provider, plan: MovePlan, progress: Progress = SILENT, clock: Clock | None = None
) -> Moved:
    """The data is on a volume of the same name in the new zone, checked; the temporary snapshot is gone.

    The old volume is kept under another name, or deleted where that was asked. Raises what the provider raises;
    called again, it goes on where it was.
    """
    volumes = require(provider.volumes)
    source, target = plan.source, plan.finished
    if plan.done and target is not None:
        return Moved(target, source)
    if source is not None:
        source = volumes.released(source, progress)
    with provider.journal.unfinished(_unfinished_move(provider.name, plan)):
        return _carry_out(provider, plan, progress, clock or SystemClock())


def _unfinished_move(provider: str, plan: MovePlan) -> Change:
    """How a move that was begun is told. Pure."""
    volume = plan.source or plan.finished
    name = plan.name or (volume.id if volume is not None else "VOLUME")
    command = volume_command(provider, "move", name)
    return Change(
        "move",
        () if volume is None else (volume.id, plan.zone),
        Effect.CHANGED,
        f"the move of {name} to {plan.zone} is not finished",
        go_on=f"{command} --availability-zone {plan.zone}",
        undo=f"{command} --abandon",
    )


def _carry_out(provider: Provider, plan: MovePlan, progress: Progress, clock: Clock) -> Moved:
    volumes = require(provider.volumes)
    snapshots = require(provider.snapshots)
    source, target = plan.source, plan.finished
    if source is not None and source.tags.get(tag.MOVED_TO) is None:
        target = _checked_copy(provider, plan, source, progress, clock)
    if target is None:
        raise AssertionError("a move has a volume that it leads to")
    if plan.name and target.name != plan.name:
        volumes.tag(target.id, {tag.NAME: plan.name})
    if plan.token:
        for left in snapshots.list():
            if left.tags.get(tag.MOVE) == plan.token:
                snapshots.delete(left.id, progress, include_protected=True)
    if source is not None and plan.delete_source:
        volumes.delete(source.id, progress, include_protected=True)
        source = None
    elif source is not None:
        source = volumes.find(source.id)
        if any(key in source.tags for key in _INTENT):
            volumes.tag(source.id, {}, remove=_INTENT)
            source = volumes.find(source.id)
    volumes.tag(target.id, {}, remove=_INTENT)
    return Moved(volumes.find(target.id), source)


def _checked_copy(
    provider: Provider, plan: MovePlan, source: Volume, progress: Progress, clock: Clock
) -> Volume:
    """The new volume equals the old one, which says so and has given its name away."""
    volumes = require(provider.volumes)
    if source.tags.get(tag.MOVE) is None:
        if tag.MOVED_TO in volumes.find(source.id).tags:
            volumes.tag(source.id, {}, remove=(tag.MOVED_TO,))
        intent = {tag.MOVE: plan.token, tag.MOVE_ZONE: plan.zone}
        if plan.name:
            intent[tag.MOVE_NAME] = plan.name
        volumes.tag(source.id, intent)
    target = plan.finished
    if target is None or target.state is VolumeState.CREATING:
        target = _restore(provider, plan, source, _snapshot(provider, plan, source, progress), progress)
    _wait_filled(provider, target, progress, clock)
    source, target = volumes.find(source.id), volumes.find(target.id)
    check_moved(provider.name, source, target, plan.zone)
    handed = {tag.MOVED_TO: str(target.id)}
    if plan.old_name:
        handed[tag.NAME] = plan.old_name
    volumes.tag(source.id, handed)
    return target


@dataclass(frozen=True)
class Abandonment:
    """A move that was begun and is given up: what it made so far goes, the volume is as it was."""

    token: str
    source: Volume
    unfinished: Volume | None
    """The new volume, not checked and not named yet."""
    snapshots: tuple[Snapshot, ...]


def plan_abandon(provider: Provider, reference: str) -> Abandonment:
    """What giving up a move deletes. Raises `NotFound`, `Conflict` (``not-moving``; or it is as good as finished)."""
    snapshots = require(provider.snapshots)
    found = _named(provider, reference)
    token = found.tags.get(tag.MOVE)
    if token is None:
        raise Conflict(f"volume {found.name or found.id} is not being moved", code="not-moving")
    source = found if tag.MOVE_ZONE in found.tags else _by_token(provider, token, source=True)
    if source is None or tag.MOVED_TO in source.tags:
        zone = found.zone if source is None else source.tags.get(tag.MOVE_ZONE, found.zone)
        raise Conflict(
            f"volume {reference} has been moved: the new one was checked, and has its name or gets it next",
            hint=f"{volume_command(provider.name, 'move', reference, '--availability-zone', zone)}, which tidies up",
            code="moving",
        )
    mine = tuple(snapshot for snapshot in snapshots.list() if snapshot.tags.get(tag.MOVE) == token)
    return Abandonment(token, source, _by_token(provider, token, source=False), mine)


def abandon(provider: Provider, plan: Abandonment, progress: Progress = SILENT) -> Volume:
    """The volume is as it was before, and nothing of the move is left. Called again, it does what is left to do."""
    volumes = require(provider.volumes)
    snapshots = require(provider.snapshots)
    if plan.unfinished is not None:
        volumes.delete(plan.unfinished.id, progress, include_protected=True)
    for snapshot in plan.snapshots:
        snapshots.delete(snapshot.id, progress, include_protected=True)
    volumes.tag(plan.source.id, {}, remove=_INTENT)
    return volumes.find(plan.source.id)


def check_moved(provider: str, source: Volume, target: Volume, zone: str) -> None:
    """Raises `ProviderError` or `Conflict` where the new volume is not the old one's equal. Pure."""
    give_up = volume_command(provider, "move", source.id, "--abandon")
    if source.instances:
        raise Conflict(
            f"{source.id} was attached to {', '.join(source.instances)} while it was moved, and {target.id} lacks what"
            " was written since",
            hint=f"the old volume is as it was: detach it, {give_up}, and again",
            code="volume-in-use",
        )
    wrong = [
        f"{what} is {there}, not {here}"
        for what, here, there in (
            ("its zone", zone, target.zone),
            ("its state", VolumeState.AVAILABLE.value, target.state.value),
            ("its size", source.size_gib, target.size_gib),
            ("its type", source.type, target.type),
            ("IOPS", source.iops, target.iops),
            ("throughput", source.throughput, target.throughput),
            ("its protection", source.persistent, target.persistent),
            ("encrypted", True, target.encrypted),
        )
        if here != there
    ]
    lost = [key for key, value in tag.inherited(source.tags).items() if target.tags.get(key) != value]
    if lost:
        wrong.append(f"it lacks the tags {', '.join(sorted(lost))}")
    if wrong:
        raise ProviderError(
            f"the new volume {target.id} is not what {source.id} is: {'; '.join(wrong)}",
            hint=f"the old volume is as it was: {give_up}, and move it again",
            code="move-check",
        )


def _find(provider: Provider, reference: str, zone: str) -> tuple[Volume | None, Volume | None, str | None]:
    """The old volume, the new one as far as they are there, and the move's token while it is not over."""
    volumes = require(provider.volumes)
    found = _named(provider, reference)
    token, moved_to = found.tags.get(tag.MOVE), found.tags.get(tag.MOVED_TO)
    under_way_to = found.tags.get(tag.MOVE_ZONE)
    if under_way_to is not None and under_way_to != zone:
        move = volume_command(provider.name, "move", reference)
        raise Conflict(
            f"volume {found.name or found.id} is being moved to {under_way_to}",
            hint=f"finish that first: {move} --availability-zone {under_way_to}; or give it up: {move} --abandon",
            code="moving",
        )
    if moved_to is not None:
        target = _still_there(provider, moved_to)
        if target is None and token is None:
            return _unmoved(found), None, None  # that copy is gone, and it is moved again
        if target is not None and target.zone == zone:
            # Cut short before its last change, only the new volume still has the token.
            return found, target, token or target.tags.get(tag.MOVE)
        if token is not None:
            raise NotFound(
                f"{moved_to}, which volume {found.id} was being moved to, is gone",
                hint=f"take its tags {tag.MOVE}, {tag.MOVED_TO} and {tag.MOVE_ZONE} off, and move it again",
            )
        return _unmoved(found), None, None
    if found.zone == zone:
        # What has the name is the new volume.
        if token is not None:
            return _by_token(provider, token, source=True), found, token
        return next((v for v in volumes.list() if v.tags.get(tag.MOVED_TO) == found.id), None), found, None
    if token is None:
        return found, None, None
    return found, _by_token(provider, token, source=False), token


def _named(provider: Provider, reference: str) -> Volume:
    """By id or name, also while a move has taken the name from the one and not given it to the other."""
    volumes = require(provider.volumes)
    try:
        return volumes.find(reference)
    except NotFound:
        begun = [
            v for v in volumes.list() if v.tags.get(tag.MOVE_NAME) == reference and tag.MOVE_ZONE in v.tags
        ]
        if len(begun) != 1:
            raise
        return begun[0]


def _unmoved(source: Volume) -> Volume:
    """As if it had never been moved."""
    return replace(source, tags={key: value for key, value in source.tags.items() if key != tag.MOVED_TO})


def _by_token(provider: Provider, token: str, *, source: bool) -> Volume | None:
    """Of the two volumes of a move the old or the new one; only the old one says where to."""
    volumes = require(provider.volumes)
    mine = [v for v in volumes.list() if v.tags.get(tag.MOVE) == token]
    return next((v for v in mine if (tag.MOVE_ZONE in v.tags) is source), None)


def _still_there(provider: Provider, volume_id: str) -> Volume | None:
    volumes = require(provider.volumes)
    try:
        found = volumes.find(volume_id)
    except NotFound:
        return None
    return None if found.state in {VolumeState.DELETING, VolumeState.DELETED} else found


def _request(
    volumes: Volumes, source: Volume, zone: str, token: str, snapshot: Snapshot | None
) -> VolumeRequest:
    tags = {**tag.inherited(source.tags), tag.MOVE: token}
    if tag.MOUNT_POINT in source.tags:
        tags[tag.MOUNT_POINT] = source.tags[tag.MOUNT_POINT]
    name = source.tags.get(tag.MOVE_NAME) or source.name
    if name:
        tags[tag.MOVE_NAME] = name
    shape = volumes.chosen_shape(source)
    return VolumeRequest(
        size_gib=shape.size_gib,
        type=shape.type,
        iops=shape.iops,
        throughput=shape.throughput,
        zone=zone,
        persistent=source.persistent,
        project=source.tags.get(tag.PROJECT),
        snapshot_id=None if snapshot is None else snapshot.id,
        multi_attach=source.multi_attach,
        tags=tags,
        token=token,
    )


def _snapshot(provider: Provider, plan: MovePlan, source: Volume, progress: Progress) -> Snapshot:
    snapshots = require(provider.snapshots)
    request = SnapshotRequest(
        source.id,
        description=f"runctl: moving {source.name or source.id} to {plan.zone}",
        persistent=False,
        tags={tag.MOVE: plan.token},
        token=f"{plan.token}s",
    )
    taken = snapshots.create(snapshots.plan(request), progress)
    return snapshots.wait(taken.id, progress)


def _restore(
    provider: Provider, plan: MovePlan, source: Volume, snapshot: Snapshot, progress: Progress
) -> Volume:
    volumes = require(provider.volumes)
    wanted = _request(volumes, source, plan.zone, plan.token, snapshot)
    if plan.initialization is not None:
        wanted = replace(wanted, initialization_rate=plan.initialization.rate)
    return volumes.create(volumes.plan(wanted), progress)


def _wait_filled(provider: Provider, target: Volume, progress: Progress, clock: Clock) -> None:
    """Every block is on the new volume, where it was made with a rate that promises it; else that goes on by itself."""
    volumes = require(provider.volumes)
    if volumes.initialization(target.id).rate is None:
        return
    progress.step(f"waiting until {target.id} has all its data")
    for _ in attempts(clock, INITIALIZATION_TIMEOUT, first=1.0, most=POLL_SECONDS):
        status = volumes.initialization(target.id)
        if status.complete:
            return
        left = "" if status.remaining_seconds is None else f", about {status.remaining_seconds} s left"
        progress.update(f"{target.id} is being filled{left}", done=status.progress or 0, total=100)
    raise Unreachable(
        f"volume {target.id} does not have all its data after {time_span(INITIALIZATION_TIMEOUT)}",
        hint="the provider continues by itself; run the same command again later to continue",
    )
