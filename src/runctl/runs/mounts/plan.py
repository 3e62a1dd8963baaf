"""Which volume and which folder a run sees where: decided from what was asked for and what the machine has. Pure.

Volumes are told apart by the serial of the device that is mounted (the agent reads it), never by device names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from runctl.agent.spec import MachineMount, MountSpec
from runctl.containers.mounts import AUTOMATIC, RESERVED, VOLUME_FLAG, MountRequest, check_targets, is_within
from runctl.core.blank_volumes import formats_unasked
from runctl.core.errors import Conflict, NotFound
from runctl.core.models import Instance, Volume, VolumeState
from runctl.core.mount_points import MountPlace, is_system_folder, usual_places
from runctl.providers.interface import VolumeMount
from runctl.runs.mounts.volume_conflicts import Holder, Sharer, is_on, named, refuse_attachment

LITTLE_SHARE, LITTLE_BYTES = 10, 5 << 30
"""A volume has little room when less than a tenth of it and less than 5 GiB are free."""


@dataclass(frozen=True)
class Surroundings:
    """What is known of the machine and the volumes, as of now."""

    instance: Instance
    mounted: Sequence[MachineMount] = ()
    """What the agent found."""
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    """By every word that a request uses, and by id."""
    holders: Mapping[str, Holder] = field(default_factory=dict)
    """By volume id: who has a volume that another instance has."""
    sharers: Sequence[Sharer] = ()
    """Runs on this machine that have not ended."""
    changing: Mapping[str, str] = field(default_factory=dict)
    """By volume id: how far a change of it is, such as ``optimizing``."""
    gone: frozenset[str] = frozenset()
    """Volumes that the machine has mounted, and that were taken from it by force all the same."""


@dataclass(frozen=True)
class PlannedAttachment:
    """A volume that is to be mounted on the machine before the run starts; it stays so afterwards."""

    volume: Volume
    mount_point: str
    reason: str
    """Why there."""
    attached: bool
    """It is attached to the machine already, and only not mounted."""
    read_only: bool
    """Nobody asked to write to it, so that it is mounted read-only on the machine, too."""
    formats_if_blank: bool


@dataclass(frozen=True)
class PlannedMount:
    """One mount of the run, with what lies behind it."""

    spec: MountSpec
    volume: Volume | None = None
    """``None`` for folders, and volumes that the provider does not show us."""
    size_bytes: int | None = None
    free_bytes: int | None = None
    """``None`` before it is mounted."""
    attachment: PlannedAttachment | None = None
    """``None``: the machine has it mounted."""
    shared_with: tuple[Sharer, ...] = ()
    """Other runs on the machine that have the same volume."""


@dataclass(frozen=True)
class MountPlan:
    """All mounts of a run."""

    mounts: tuple[PlannedMount, ...] = ()
    """Outer targets before those that lie inside them."""
    attachments: tuple[PlannedAttachment, ...] = ()
    """Outer mount points first."""
    data_target: str | None = None
    """Of the mount that was asked for first."""
    saves: PlannedMount | None = None
    """The first volume in the same order that may be written: checkpoints and output go there."""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def specs(self) -> tuple[MountSpec, ...]:
        """For the agent."""
        return tuple(mount.spec for mount in self.mounts)


def plan_mounts(
    requests: Sequence[MountRequest],
    wishes: Sequence[VolumeMount],
    around: Surroundings,
    *,
    automatic: bool,
    workdir: str | None = None,
    script: str | None = None,
) -> MountPlan:
    """Resolve requests and wishes, and add the volumes found on the machine when ``automatic``.

    ``wishes`` are of ``--ebs-volume``. A volume that a request names is not mounted a second time by a wish or
    automatically. ``workdir`` is where the project is in the container, ``None`` on the host. Raises `NotFound` (a
    path that is on no volume), `Conflict` (read-only, mounted elsewhere, in use by another machine, wrong state),
    `ZoneMismatch`, `UsageError` (targets).
    """
    places = _Places(around)
    for wish in wishes:
        places.volume(wish.volume, wish.mount_point)
    for request in requests:
        if not request.is_path:
            places.volume(request.source)
    found = [(request, places.holding(request)) for request in requests]
    named_volumes = {place.volume_id for _, place in found}
    for wish in wishes:
        place = places.volume(wish.volume)
        if place.volume_id not in named_volumes:
            named_volumes.add(place.volume_id)
            found.append((MountRequest(place.path, place.path, False, VOLUME_FLAG), place))
    check_targets([request for request, _ in found], workdir, script)
    attachments = _attachments(places, found, around)
    mounts = [_mount(request, place, attachments, around) for request, place in found]
    notes: list[str] = []
    if automatic:
        mounts += _automatic(mounts, around, workdir, notes)
    saves = next((m for m in mounts if m.spec.volume_id and not m.spec.read_only), None)
    return MountPlan(
        mounts=tuple(sorted(mounts, key=lambda m: m.spec.target.count("/"))),
        attachments=tuple(sorted(attachments.values(), key=lambda one: one.mount_point.count("/"))),
        data_target=mounts[0].spec.target if mounts else None,
        saves=saves,
        notes=(*notes, *_notes(mounts, attachments.values()), *_waits(attachments.values(), around)),
        warnings=tuple(_little_room(saves)),
    )


def little_room(size_bytes: int, free_bytes: int) -> bool:
    """Whether checkpoints may soon find no room there."""
    return free_bytes < min(size_bytes // LITTLE_SHARE, LITTLE_BYTES)


@dataclass(frozen=True)
class _Place:
    """A volume on the machine, where it is or where it is going to be."""

    path: str
    volume_id: str | None
    mounted: MachineMount | None = None
    volume: Volume | None = None
    reason: str = ""


class _Places:
    """Finds, for every request, the place it means; the same volume always has the same."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self.planned: dict[str, _Place] = {}
        """By volume id: what is not mounted yet."""

    def volume(self, word: str, wanted: str | None = None) -> _Place:
        """Of a volume by id or name, at ``wanted`` if that is said."""
        volume = self._around.volumes[word]
        there = [one for one in self._around.mounted if one.volume_id == volume.id]
        if there:
            mount = next((one for one in there if one.mount_point == wanted), there[0])
            if wanted not in {None, mount.mount_point}:
                raise Conflict(
                    f"volume {named(volume)} is mounted at {mount.mount_point} on {self._around.instance.id},"
                    f" not at {wanted}",
                    hint=f"leave --mount-point {wanted} out, or detach it first: runctl aws ebs detach {volume.id}",
                    code="mounted-elsewhere",
                )
            return _Place(mount.mount_point, volume.id, mount, volume)
        known = self.planned.get(volume.id)
        if known is None:
            place = self._choose(volume, wanted)
            known = self.planned[volume.id] = _Place(place.path, volume.id, None, volume, place.reason)
        return known

    def holding(self, request: MountRequest) -> _Place:
        """What the source of a request lies on."""
        if not request.is_path:
            return self.volume(request.source)
        around = self._around
        here = [
            _Place(m.mount_point, m.volume_id, m, around.volumes.get(m.volume_id or ""))
            for m in around.mounted
            if m.volume_id is not None
        ]
        taken = {one.mount_point for one in around.mounted}
        expected = [
            str(one.volume_id)
            for one in around.instance.volumes
            if one.mount_point
            and is_within(request.source, one.mount_point)
            and one.mount_point not in taken
            and one.volume_id in around.volumes
        ]
        under = [p for p in (*here, *self.planned.values()) if is_within(request.source, p.path)]
        if not under:
            # It is attached, and the machine is to have it there, but it is not mounted at the moment.
            under = [p for p in map(self.volume, expected) if is_within(request.source, p.path)]
        if not under:
            instance = around.instance.id
            raise NotFound(
                f"{request.source} on {instance} is not on a mounted EBS volume; {_what_is_mounted(around.mounted)}",
                hint=f"name the volume instead: --ebs-mount VOLUME:{request.target}"
                + _attach_hint(request.source, instance),
                code="not-a-mount",
            )
        return max(under, key=lambda place: len(place.path))

    def _choose(self, volume: Volume, wanted: str | None) -> MountPlace:
        taken = {one.mount_point: one.volume_id or one.device for one in self._around.mounted}
        taken.update({place.path: place.volume_id or "" for place in self.planned.values()})
        places = usual_places(volume, self._around.instance)
        if wanted is not None:
            places = (MountPlace(wanted, "--mount-point"),)
        for place in places:
            if place.path not in taken:
                return place
        path = places[-1].path
        raise Conflict(
            f"volume {named(volume)} cannot be mounted at {path} on {self._around.instance.id}:"
            f" {taken[path]} is there",
            hint=f"say where: --ebs-volume {volume.id} --mount-point /mnt/{volume.id}",
            code="mount-point-taken",
        )


def _attachments(
    places: _Places, found: Sequence[tuple[MountRequest, _Place]], around: Surroundings
) -> dict[str, PlannedAttachment]:
    planned = {}
    for volume_id, place in places.planned.items():
        volume = around.volumes[volume_id]
        wishes = [request for request, its in found if its.volume_id == volume_id]
        read_only = all(request.read_only for request in wishes)
        attached = is_on(volume, around.instance)
        refuse_attachment(volume, around.instance, around.holders.get(volume_id), read_only=read_only)
        planned[volume_id] = PlannedAttachment(
            volume, place.path, place.reason, attached, read_only, formats_unasked(volume) and not read_only
        )
    return planned


def _mount(
    request: MountRequest,
    place: _Place,
    attachments: Mapping[str, PlannedAttachment],
    around: Surroundings,
) -> PlannedMount:
    mounted, volume = place.mounted, place.volume
    if mounted is not None and mounted.volume_id in around.gone:
        label, machine, point = (
            named(volume) if volume else place.volume_id,
            around.instance.id,
            mounted.mount_point,
        )
        raise Conflict(
            f"volume {label} was taken from {machine} by force; what is still mounted at {point} there is kept nowhere",
            hint=f"runctl aws exec --root {machine} -- umount --lazy {point}, then train again",
            code="volume-lost",
        )
    if mounted is not None and mounted.read_only and not request.read_only:
        label = named(volume) if volume else str(place.volume_id)
        raise Conflict(
            f"volume {label} is mounted read-only at {mounted.mount_point} on {around.instance.id}",
            hint=f"ask for it read-only: --ebs-mount {replace(request, read_only=True).text};"
            f" or mount it anew: runctl aws ebs detach {place.volume_id}, and train again."
            " (The kernel makes a volume read-only when its file system has errors: dmesg on the machine says so.)",
            code="read-only",
        )
    source = request.source if request.is_path else place.path
    size = volume.size_gib << 30 if volume else None
    return PlannedMount(
        spec=MountSpec(source, request.target, request.read_only, place.volume_id, request.origin),
        volume=volume,
        size_bytes=mounted.size_bytes if mounted else size,
        free_bytes=mounted.free_bytes if mounted else None,
        attachment=attachments.get(place.volume_id or ""),
        shared_with=_sharing(place.volume_id, around),
    )


def _automatic(
    mounts: Sequence[PlannedMount], around: Surroundings, workdir: str | None, notes: list[str]
) -> list[PlannedMount]:
    targets = {mount.spec.target for mount in mounts}
    volumes = {mount.spec.volume_id for mount in mounts}
    found = []
    for one in around.mounted:
        point = one.mount_point
        if one.volume_id is None or point in targets or one.volume_id in volumes:
            continue
        if one.volume_id in around.gone:
            notes.append(
                f"{point} is left out: its volume {one.volume_id} was taken from the machine by force"
            )
            continue
        if workdir is not None and (is_within(workdir, point) or is_within(point, RESERVED)):
            notes.append(f"{point} is left out: in the container it would hide {workdir}")
            continue
        request = MountRequest(point, point, one.read_only, AUTOMATIC)
        place = _Place(point, one.volume_id, one, around.volumes.get(one.volume_id))
        found.append(_mount(request, place, {}, around))
    return found


def _sharing(volume_id: str | None, around: Surroundings) -> tuple[Sharer, ...]:
    return tuple(one for one in around.sharers if volume_id in one.volumes)


def _notes(mounts: Iterable[PlannedMount], attachments: Iterable[PlannedAttachment]) -> list[str]:
    notes = []
    told = set()
    for mount in mounts:
        volume = mount.spec.volume_id
        writers = [one for one in mount.shared_with if volume in one.writes]
        if writers and not mount.spec.read_only and volume not in told:
            told.add(volume)
            words = ", ".join(f"{one.run_id} ({one.script})" for one in writers)
            label = named(mount.volume) if mount.volume else str(volume)
            notes.append(
                f"{label} is shared read-write with {words} on this machine: each run has its own runs/ID folder there,"
                " the rest of the volume is common"
            )
    notes += [
        f"{named(one.volume)} stays attached after the run; runctl aws ebs detach {one.volume.id} gives it back"
        for one in attachments
    ]
    return notes


def _waits(attachments: Iterable[PlannedAttachment], around: Surroundings) -> list[str]:
    notes = []
    for one in attachments:
        if one.volume.state is VolumeState.CREATING:
            notes.append(f"{named(one.volume)} is still being created: that is waited for")
        elif one.volume.state is VolumeState.IN_USE and not one.attached:
            holder = one.volume.attached_to
            of = f" of {holder}, which is shutting down" if holder else ""
            if not one.volume.multi_attach or holder is None:
                notes.append(f"{named(one.volume)} is still being detached{of}: that is waited for")
    for volume_id, state in around.changing.items():
        notes.append(
            f"{named(around.volumes[volume_id])} is {state}: it can be used, and is slower until that is over"
        )
    return notes


def _little_room(saves: PlannedMount | None) -> list[str]:
    if saves is None or saves.free_bytes is None or saves.size_bytes is None:
        return []
    return room_warning(saves, saves.size_bytes, saves.free_bytes)


def room_warning(saves: PlannedMount, size_bytes: int, free_bytes: int) -> list[str]:
    """What to say when the volume for checkpoints has little room; nothing otherwise."""
    if not little_room(size_bytes, free_bytes):
        return []
    volume = saves.spec.volume_id
    label = named(saves.volume) if saves.volume else str(volume)
    warning = (
        f"checkpoints and output go to {label} at {saves.spec.source}, which has {_mib(free_bytes)} free of"
        f" {_mib(size_bytes)}: runctl aws ebs resize {volume} makes it larger"
    )
    return [warning]


def _mib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count >> 20} MiB"


def _attach_hint(path: str, instance: str) -> str:
    if is_system_folder(path):
        return ""
    return f"; or attach it there: runctl aws ebs attach VOLUME {instance} --mount-point {path}"


def _what_is_mounted(mounted: Iterable[MachineMount]) -> str:
    words = [f"{one.volume_id} at {one.mount_point}" for one in mounted if one.volume_id]
    return "mounted there: " + ", ".join(words) if words else "no volume is mounted there"
