"""Which volume and which folder a run sees where: decided from what was asked for and what the machine has. Pure.

Volumes are told apart by the serial of the device that is mounted (the agent reads it), never by device names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace

from runctl._dataclasses import dataclass
from runctl.agent.spec import MachineMount, MountSpec
from runctl.containers.mounts import AUTOMATIC, RESERVED, MountRequest, check_targets
from runctl.core.blank_volumes import formats_unasked
from runctl.core.errors import Conflict, NotFound
from runctl.core.machine_models import Instance, Volume, VolumeState
from runctl.core.mount_points import MountPoint, is_system_folder, is_within, usual_mount_points
from runctl.providers.registry import command, volume_command
from runctl.runs.mounts.volume_conflicts import Holder, Sharer, is_on, named, refuse_attachment

LITTLE_SHARE, LITTLE_BYTES = 10, 5 << 30
"""A volume has little room when less than a tenth of it and less than 5 GiB are free."""


@dataclass(frozen=True)
class MountFacts:
    """What is known of the machine and the volumes, as of now."""

    instance: Instance
    mounted: Sequence[MachineMount] = ()
    """What the agent found."""
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    """By every name that a request uses, and by id."""
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
    mount_point: str | None = None
    """Of the volume, on the machine."""


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
    facts: MountFacts,
    *,
    automatic: bool,
    workdir: str | None = None,
    script: str | None = None,
) -> MountPlan:
    """Resolve the requests, and add the volumes found on the machine when ``automatic``.

    Of a volume that a request with a target names, one without (``--ebs-volume``) only says where it is mounted on the
    machine. ``workdir`` is where the project is in the container, ``None`` on the host. Raises `NotFound` (a
    path that is on no volume), `Conflict` (read-only, mounted elsewhere, in use by another machine, wrong state),
    `ZoneMismatch`, `UsageError` (targets).
    """
    locations = _Locations(facts)
    # What says where a volume is to be decides that for those that do not.
    for request in sorted(requests, key=lambda request: bool(request.target)):
        if not request.is_path:
            locations.of_volume(request.source, request.mount_point)
    found = [(request, locations.of_request(request)) for request in requests if request.target]
    with_targets = {location.volume_id for _, location in found}
    for request in requests:
        if request.target:
            continue
        location = locations.of_volume(request.source)
        if location.volume_id not in with_targets:
            with_targets.add(location.volume_id)
            found.append((replace(request, source=location.path, target=location.path), location))
    check_targets([request for request, _ in found], workdir, script)
    attachments = _attachments(locations, found, facts)
    mounts = [_mount(request, location, attachments, facts) for request, location in found]
    notes: list[str] = []
    if automatic:
        mounts += _automatic(mounts, facts, workdir, notes)
    saves = next((m for m in mounts if m.spec.volume_id and not m.spec.read_only), None)
    return MountPlan(
        mounts=tuple(sorted(mounts, key=lambda m: m.spec.target.count("/"))),
        attachments=tuple(sorted(attachments.values(), key=lambda planned: planned.mount_point.count("/"))),
        data_target=mounts[0].spec.target if mounts else None,
        saves=saves,
        notes=(
            *notes,
            *_notes(facts.instance.provider, mounts, attachments.values()),
            *_waits(attachments.values(), facts),
        ),
        warnings=tuple(_little_room(facts.instance.provider, saves)),
    )


def little_room(size_bytes: int, free_bytes: int) -> bool:
    """Whether checkpoints may soon find no room there."""
    return free_bytes < min(size_bytes // LITTLE_SHARE, LITTLE_BYTES)


@dataclass(frozen=True)
class _Location:
    """Where a volume is on the machine, or is going to be."""

    path: str
    volume_id: str | None
    mounted: MachineMount | None = None
    volume: Volume | None = None
    reason: str = ""


class _Locations:
    """Finds, for every request, the volume that it means and where that is; the same volume is always at the same."""

    def __init__(self, facts: MountFacts) -> None:
        self._facts = facts
        self.planned: dict[str, _Location] = {}
        """By volume id: what is not mounted yet."""

    def of_volume(self, name: str, wanted: str | None = None) -> _Location:
        """Of a volume by id or name, at ``wanted`` if that is said."""
        volume = self._facts.volumes[name]
        there = [mount for mount in self._facts.mounted if mount.volume_id == volume.id]
        if there:
            mount = next((found for found in there if found.mount_point == wanted), there[0])
            if wanted not in {None, mount.mount_point}:
                raise Conflict(
                    f"volume {named(volume)} is mounted at {mount.mount_point} on {self._facts.instance.id},"
                    f" not at {wanted}",
                    hint=f"leave --mount-point {wanted} out, or detach it first:"
                    f" {volume_command(self._facts.instance.provider, 'detach', volume.id)}",
                    code="mounted-elsewhere",
                )
            return _Location(mount.mount_point, volume.id, mount, volume)
        known = self.planned.get(volume.id)
        if known is None:
            point = self._choose(volume, wanted)
            known = self.planned[volume.id] = _Location(point.path, volume.id, None, volume, point.reason)
        return known

    def of_request(self, request: MountRequest) -> _Location:
        """What the source of a request lies on."""
        if not request.is_path:
            return self.of_volume(request.source)
        facts = self._facts
        here = [
            _Location(m.mount_point, m.volume_id, m, facts.volumes.get(m.volume_id or ""))
            for m in facts.mounted
            if m.volume_id is not None
        ]
        taken = {mount.mount_point for mount in facts.mounted}
        expected = [
            str(attached.volume_id)
            for attached in facts.instance.volumes
            if attached.mount_point
            and is_within(request.source, attached.mount_point)
            and attached.mount_point not in taken
            and attached.volume_id in facts.volumes
        ]
        under = [p for p in (*here, *self.planned.values()) if is_within(request.source, p.path)]
        if not under:
            # It is attached, and the machine is to have it there, but it is not mounted at the moment.
            under = [p for p in map(self.of_volume, expected) if is_within(request.source, p.path)]
        if not under:
            instance = facts.instance.id
            raise NotFound(
                f"{request.source} on {instance} is not on a mounted EBS volume; {_what_is_mounted(facts.mounted)}",
                hint=f"name the volume instead: --ebs-mount VOLUME:{request.target}"
                + _attach_hint(request.source, facts.instance),
                code="not-a-mount",
            )
        return max(under, key=lambda location: len(location.path))

    def _choose(self, volume: Volume, wanted: str | None) -> MountPoint:
        taken = {mount.mount_point: mount.volume_id or mount.device for mount in self._facts.mounted}
        taken.update({location.path: location.volume_id or "" for location in self.planned.values()})
        points = usual_mount_points(volume, self._facts.instance)
        if wanted is not None:
            points = (MountPoint(wanted, "--mount-point"),)
        for point in points:
            if point.path not in taken:
                return point
        path = points[-1].path
        raise Conflict(
            f"volume {named(volume)} cannot be mounted at {path} on {self._facts.instance.id}:"
            f" {taken[path]} is there",
            hint=f"say where: --ebs-volume {volume.id} --mount-point /mnt/{volume.id}",
            code="mount-point-taken",
        )


def _attachments(
    locations: _Locations, found: Sequence[tuple[MountRequest, _Location]], facts: MountFacts
) -> dict[str, PlannedAttachment]:
    planned = {}
    for volume_id, location in locations.planned.items():
        volume = facts.volumes[volume_id]
        read_only = all(request.read_only for request, where in found if where.volume_id == volume_id)
        attached = is_on(volume, facts.instance)
        refuse_attachment(volume, facts.instance, facts.holders.get(volume_id), read_only=read_only)
        planned[volume_id] = PlannedAttachment(
            volume,
            location.path,
            location.reason,
            attached,
            read_only,
            formats_unasked(volume) and not read_only,
        )
    return planned


def _mount(
    request: MountRequest,
    location: _Location,
    attachments: Mapping[str, PlannedAttachment],
    facts: MountFacts,
) -> PlannedMount:
    mounted, volume = location.mounted, location.volume
    if mounted is not None and mounted.volume_id in facts.gone:
        label, machine, point = (
            named(volume) if volume else location.volume_id,
            facts.instance.id,
            mounted.mount_point,
        )
        raise Conflict(
            f"volume {label} was taken from {machine} by force; what is still mounted at {point} there is kept nowhere",
            hint=f"{command(facts.instance.provider, 'exec --root', machine, '-- umount --lazy', point)},"
            " then train again",
            code="volume-lost",
        )
    if mounted is not None and mounted.read_only and not request.read_only:
        label = named(volume) if volume else str(location.volume_id)
        raise Conflict(
            f"volume {label} is mounted read-only at {mounted.mount_point} on {facts.instance.id}",
            hint=f"ask for it read-only: --ebs-mount {replace(request, read_only=True).text};"
            f" or remount it: {volume_command(facts.instance.provider, 'detach', str(location.volume_id))},"
            " and train again."
            " (The kernel makes a volume read-only when its file system has errors: dmesg on the machine says so.)",
            code="read-only",
        )
    source = request.source if request.is_path else location.path
    size = volume.size_gib << 30 if volume else None
    return PlannedMount(
        spec=MountSpec(source, request.target, request.read_only, location.volume_id, request.origin),
        volume=volume,
        size_bytes=mounted.size_bytes if mounted else size,
        free_bytes=mounted.free_bytes if mounted else None,
        attachment=attachments.get(location.volume_id or ""),
        shared_with=_sharing(location.volume_id, facts),
        mount_point=location.path if location.volume_id is not None else None,
    )


def _automatic(
    mounts: Sequence[PlannedMount], facts: MountFacts, workdir: str | None, notes: list[str]
) -> list[PlannedMount]:
    targets = {mount.spec.target for mount in mounts}
    volumes = {mount.spec.volume_id for mount in mounts}
    found = []
    for mounted in facts.mounted:
        point = mounted.mount_point
        if mounted.volume_id is None or point in targets or mounted.volume_id in volumes:
            continue
        if mounted.volume_id in facts.gone:
            notes.append(
                f"{point} is left out: its volume {mounted.volume_id} was taken from the machine by force"
            )
            continue
        if workdir is not None and (is_within(workdir, point) or is_within(point, RESERVED)):
            notes.append(f"{point} is left out: in the container it would hide {workdir}")
            continue
        request = MountRequest(point, point, mounted.read_only, AUTOMATIC)
        location = _Location(point, mounted.volume_id, mounted, facts.volumes.get(mounted.volume_id))
        found.append(_mount(request, location, {}, facts))
    return found


def _sharing(volume_id: str | None, facts: MountFacts) -> tuple[Sharer, ...]:
    return tuple(run for run in facts.sharers if volume_id in run.volumes)


def _notes(
    provider: str, mounts: Iterable[PlannedMount], attachments: Iterable[PlannedAttachment]
) -> list[str]:
    notes = []
    told = set()
    for mount in mounts:
        volume = mount.spec.volume_id
        writers = [run for run in mount.shared_with if volume in run.writes]
        if writers and not mount.spec.read_only and volume not in told:
            told.add(volume)
            runs = ", ".join(f"{run.run_id} ({run.script})" for run in writers)
            label = named(mount.volume) if mount.volume else str(volume)
            notes.append(
                f"{label} is shared read-write with {runs} on this machine: each run has its own runs/ID folder there,"
                " the rest of the volume is common"
            )
    notes += [
        f"{named(planned.volume)} stays attached after the run;"
        f" {volume_command(provider, 'detach', planned.volume.id)} gives it back"
        for planned in attachments
    ]
    return notes


def _waits(attachments: Iterable[PlannedAttachment], facts: MountFacts) -> list[str]:
    notes = []
    for planned in attachments:
        if planned.volume.state is VolumeState.CREATING:
            notes.append(f"{named(planned.volume)} is still being created: that is waited for")
        elif planned.volume.state is VolumeState.IN_USE and not planned.attached:
            holder = planned.volume.attached_to
            of = f" of {holder}, which is shutting down" if holder else ""
            if not planned.volume.multi_attach or holder is None:
                notes.append(f"{named(planned.volume)} is still being detached{of}: that is waited for")
    for volume_id, state in facts.changing.items():
        notes.append(
            f"{named(facts.volumes[volume_id])} is {state}: it can be used, and is slower until that is over"
        )
    return notes


def _little_room(provider: str, saves: PlannedMount | None) -> list[str]:
    if saves is None or saves.free_bytes is None or saves.size_bytes is None:
        return []
    return room_warning(provider, saves, saves.size_bytes, saves.free_bytes)


def room_warning(provider: str, saves: PlannedMount, size_bytes: int, free_bytes: int) -> list[str]:
    """What to say when the volume for checkpoints has little room; nothing otherwise."""
    if not little_room(size_bytes, free_bytes):
        return []
    volume = saves.spec.volume_id
    label = named(saves.volume) if saves.volume else str(volume)
    warning = (
        f"checkpoints and output go to {label} at {saves.spec.source}, which has {_mib(free_bytes)} free of"
        f" {_mib(size_bytes)}: {volume_command(provider, 'resize', str(volume))} makes it larger"
    )
    return [warning]


def _mib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count >> 20} MiB"


def _attach_hint(path: str, instance: Instance) -> str:
    if is_system_folder(path):
        return ""
    attach = volume_command(instance.provider, "attach", "VOLUME", instance.id, "--mount-point", path)
    return f"; or attach it there: {attach}"


def _what_is_mounted(mounted: Iterable[MachineMount]) -> str:
    volumes = [f"{mount.volume_id} at {mount.mount_point}" for mount in mounted if mount.volume_id]
    return "mounted there: " + ", ".join(volumes) if volumes else "no volume is mounted there"
