"""A volume is attached to an instance and mounted there; unmounted and detached again.

The provider attaches, the agent on the machine mounts. Each function can be called again after any interruption, and
does what is left to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runctl._dataclasses import dataclass
from runctl.core import tags as tag
from runctl.core.blank_volumes import format_rule
from runctl.core.errors import Conflict, MachineError, RunctlError, Unreachable
from runctl.core.ids import InstanceId
from runctl.core.journal import Change, Effect
from runctl.core.machine_models import Instance, InstanceState, Volume
from runctl.core.mount_points import usual_mount_points
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.volumes import Volumes
from runctl.providers.interface import Provider, require
from runctl.providers.registry import volume_command
from runctl.storage.agents import AgentOn as AgentOn  # noqa: PLC0414 (re-exported: a part of this interface)
from runctl.storage.sharing import check_shared
from runctl.transport.agent import AgentClient
from runctl.transport.answers import count

DEVICE_WAIT_SECONDS = 60
"""How long the agent waits for the device of a volume that the provider says is attached."""


@dataclass(frozen=True)
class MountOptions:
    """How a volume shall be mounted."""

    mount_point: str | None = None
    """``None``: the first of `runctl.core.mount_points.usual_mount_points`."""
    fstype: str = "ext4"
    """The type of a new file system; an existing one is used as it is."""
    may_format: bool = False
    """A blank volume that runctl did not create empty gets a file system too. What is not blank never does."""
    read_only: bool = False


@dataclass(frozen=True)
class Mounted:
    """A volume that is mounted on an instance."""

    volume: Volume
    """With its mount point and its device on the machine."""
    mount_point: str
    device: str
    fstype: str
    formatted: bool
    """It was blank, and has got a new file system."""
    already_mounted: bool
    writable: bool
    """For the login user."""
    size_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Unmounted:
    """A volume that is not mounted any more."""

    was_mounted: bool
    mount_points: tuple[str, ...] = ()
    lazy: bool = False
    """It was taken out of sight while processes held it."""
    unasked: bool = False
    """The machine did not answer, and ``force`` went on without it: what was not written is lost."""


@dataclass(frozen=True)
class Detached:
    """A volume that is not attached any more."""

    volume: Volume
    unmounted: Unmounted
    """What happened on the machine before; nothing, where it did not run."""


def attach_and_mount(
    provider: Provider,
    agent_on: AgentOn,
    volume: Volume,
    instance: Instance,
    options: MountOptions | None = None,
    progress: Progress = SILENT,
) -> Mounted:
    """The volume is attached to the running instance and mounted there; each may be so already.

    Raises what `Volumes.attach` and `mount` raise. If it raises from the mounting, the volume is
    attached, and the error's hint says so.
    """
    volumes = require(provider.volumes)
    options = options or MountOptions()
    # Before it is attached: what may not be mounted there has no business there.
    check_shared(provider, agent_on, volume, instance, read_only=options.read_only)
    attached = volumes.attach(volume.id, instance.id, progress)
    # The tags and the name are those that the caller saw and decided by, but for the record of the first use.
    tags = {key: value for key, value in volume.tags.items() if key != tag.UNUSED}
    tags.update({key: value for key, value in attached.tags.items() if key == tag.UNUSED})
    known = replace(attached, name=volume.name, mount_point=volume.mount_point, tags=tags)
    try:
        return mount(provider, agent_on, known, instance, options, progress)
    except RunctlError as error:
        error.add_hint(f"{volume.id} is attached to {instance.id}, and not mounted")
        raise


def attach_only(
    provider: Provider, volume: Volume, instance: Instance, progress: Progress = SILENT
) -> Volume:
    """The volume is attached and not mounted; whatever is put on it then is not known to runctl."""
    volumes = require(provider.volumes)
    gone = [key for key in (tag.UNUSED, *tag.GONE_WITH_WRITING) if key in volume.tags]
    if gone and tag.is_ours(volume.tags):
        volumes.tag(volume.id, {}, remove=gone)
    attached = volumes.attach(volume.id, instance.id, progress)
    # Whoever replicates it may have looked before it was attached.
    may_be_written(volumes, volume)
    return attached


def mount(
    provider: Provider,
    agent_on: AgentOn,
    volume: Volume,
    instance: Instance,
    options: MountOptions | None = None,
    progress: Progress = SILENT,
) -> Mounted:
    """The volume, which is attached to the instance, is mounted there, now and after a restart.

    It is known from then on where it is mounted. A blank volume that runctl created empty gets a file system; see
    `MountOptions.may_format` for others, and `runctl.core.blank_volumes` for what counts as blank. Raises
    `MachineError` with the agent's code (``no-device``, ``blank``, ``not-blank``, ``mounted-elsewhere``,
    ``mount-point-taken``, ``cannot-mount``, ``disk-busy``), `Unreachable`, and `Conflict` (code ``shared``) where
    other machines have it too: see `check_shared`.
    """
    volumes = require(provider.volumes)
    options = options or MountOptions()
    shared = check_shared(provider, agent_on, volume, instance, read_only=options.read_only)
    mount_point = options.mount_point or usual_mount_points(volume, instance)[0].path
    progress.step(f"mounting {volume.id} at {mount_point}")
    rule = format_rule(volume, instance.id, may_format=options.may_format)
    request: dict[str, Any] = {
        "fstype": options.fstype,
        "format": rule.format,
        "known_blank": rule.known_blank,
        "read_only": options.read_only,
        "wait_seconds": DEVICE_WAIT_SECONDS,
    }
    if shared:
        request["shared"] = True
    if not options.read_only:
        may_be_written(volumes, volume)
    grows = tag.is_ours(volume.tags) and tag.GROW in volume.tags and not options.read_only
    if grows:
        request["grow"] = True
    agent = agent_on(instance)
    with agent.journal.changing(*_mount_change(volume, instance, mount_point)):
        answer = agent.attach(volume.id, mount_point, progress=progress, **request)
    try:
        volumes.remember_mount(volume.id, instance.id, mount_point, read_only=options.read_only)
    except RunctlError as error:
        progress.warn(
            f"{volume.id} is mounted at {mount_point}, but that could not be noted: {error.message}"
        )
    if grows and answer.get("grown"):
        volumes.tag(volume.id, {}, remove=(tag.GROW,))
        progress.note(f"the file system of {volume.name or volume.id} has grown to the volume's size")
    elif grows and answer.get("not_grown"):
        progress.warn(
            f"the file system of {volume.name or volume.id} is smaller than the volume: {answer['not_grown']};"
            f" try again: {volume_command(instance.provider, 'resize', volume.id, '--size', str(volume.size_gib))}"
        )
    # Of several machines that have it, it is this one that the result is about.
    now = replace(volumes.find(volume.id), attached_to=instance.id)
    mounted = _mounted(now, mount_point, answer)
    _explain(mounted, progress)
    return mounted


def may_be_written(volumes: Volumes, volume: Volume) -> None:
    """Nobody takes the volume's data for that of another one, or of an object store, any more."""
    # As it is now, not as the caller saw it: whoever replicates it marks it, and looks then whether it is attached.
    now = volumes.find(volume.id)
    gone = [key for key in tag.GONE_WITH_WRITING if key in now.tags]
    if gone and tag.is_ours(now.tags):
        volumes.tag(volume.id, {}, remove=gone)


def unmount_and_detach(
    provider: Provider,
    agent_on: AgentOn,
    volume: Volume,
    *,
    force: bool = False,
    instance_id: InstanceId | None = None,
    progress: Progress = SILENT,
) -> Detached:
    """The volume is flushed, unmounted and free; each may be so already.

    ``instance_id`` says from which machine, where several have it. Raises `MachineError` (``disk-busy``, naming the
    processes) while it is in use, `Unreachable` when its machine does not answer (``force`` takes it all the same,
    and what was not written is lost), `Conflict` (``shared``) where it is not said which of several machines is meant.
    """
    volumes = require(provider.volumes)
    unmounted = Unmounted(was_mounted=False)
    has_it = instance_id or volume.attached_to
    if instance_id is None and len(volume.instances) > 1:
        raise Conflict(
            f"volume {volume.name or volume.id} is on {len(volume.instances)} machines: {', '.join(volume.instances)}",
            hint="say which: --instance ID",
            code="shared",
        )
    if has_it is not None:
        instance = provider.instance(has_it)
        if instance.state is InstanceState.RUNNING:
            unmounted = unmount(agent_on, volume, instance, force=force, progress=progress)
    if instance_id is None:
        return Detached(volumes.detach(volume.id, force=force, progress=progress), unmounted)
    left = volumes.detach(volume.id, force=force, progress=progress, instance_id=instance_id)
    return Detached(left, unmounted)


def unmount(
    agent_on: AgentOn,
    volume: Volume,
    instance: Instance,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> Unmounted:
    """Everything is written to the volume, and the running instance does not have it mounted any more.

    Raises as `unmount_and_detach` does.
    """
    progress.step(f"unmounting {volume.id} on {instance.id}")
    try:
        agent = agent_on(instance)
        with agent.journal.changing(*_unmount_change(volume, instance)):
            answer = agent.call("detach", {"volume_id": volume.id, "force": force})
    except MachineError as error:
        if error.code != "disk-busy":
            raise
        raise _used_by_runs(agent, volume, error) from error
    except Unreachable as error:
        if not force:
            error.add_hint("--force takes it all the same; what was not written is lost")
            raise
        progress.warn(f"{instance.id} does not answer: {volume.id} is taken without unmounting it")
        return Unmounted(was_mounted=False, unasked=True)
    if answer.get("lazy"):
        progress.warn(
            f"{volume.name or volume.id} was in use: it is out of sight, and what its users had not written is lost"
        )
    return Unmounted(
        was_mounted=bool(answer.get("was_mounted")),
        mount_points=tuple(answer.get("mount_points") or ()),
        lazy=bool(answer.get("lazy")),
    )


def _used_by_runs(agent: AgentClient, volume: Volume, error: MachineError) -> MachineError:
    """The error with the runs that use the volume, which its processes alone do not show."""
    try:
        using = [
            run
            for run in agent.attempts(running=True)
            if run.end is None and any(mount.volume_id == volume.id for mount in run.mounts)
        ]
    except RunctlError:
        return error
    if not using:
        return error
    runs = ", ".join(f"{run.run_id} ({run.script})" for run in using)
    # The machine names a run of its own accord where no process holds a file just now.
    why = (
        "" if error.message == f"volume {volume.id} is in use by {using[0].run_id}" else f": {error.message}"
    )
    return MachineError(
        f"volume {volume.name or volume.id} is in use by {runs}{why}",
        hint=f"runctl runs stop {using[0].run_id}, or wait until it has ended; --force takes the volume all the same,"
        " and what was not written is lost",
        code=error.code,
    )


def check_mount_point(agent_on: AgentOn, volume: Volume, instance: Instance, mount_point: str | None) -> None:
    """Return if nothing else is mounted where the volume is to be.

    To be called before it is attached. Raises `Conflict` (code ``mount-point-taken``) naming what is there, and what
    the machine raises.
    """
    mount_point = mount_point or usual_mount_points(volume, instance)[0].path
    taken = next((found for found in agent_on(instance).mounts() if found.mount_point == mount_point), None)
    if taken is not None and taken.volume_id != volume.id:
        raise Conflict(
            f"{mount_point} on {instance.id} is taken by volume {taken.volume_id or taken.device}",
            hint=f"nothing was attached; choose another: --mount-point /mnt/{volume.id}",
            code="mount-point-taken",
        )


def _mount_change(volume: Volume, instance: Instance, mount_point: str) -> tuple[Change, Change]:
    """How mounting it is told while it is under way, and afterwards. Pure."""
    may, done = (
        Change(
            "mount",
            (volume.id, instance.id),
            Effect.CREATED,
            f"volume {volume.name or volume.id} {state} mounted at {mount_point} on {instance.id}",
            undo=volume_command(instance.provider, "detach", volume.id),
        )
        for state in ("may be", "is")
    )
    return may, done


def _unmount_change(volume: Volume, instance: Instance) -> tuple[Change, Change]:
    """How unmounting it is told while it is under way, and afterwards. Pure."""
    may, done = (
        Change(
            "mount",
            (volume.id, instance.id),
            Effect.GONE,
            f"volume {volume.name or volume.id} {state} mounted on {instance.id}",
            undo=volume_command(instance.provider, "mount", volume.id),
        )
        for state in ("may not be", "is no longer")
    )
    return may, done


def _mounted(volume: Volume, mount_point: str, answer: Mapping[str, Any]) -> Mounted:
    point, device = str(answer.get("mount_point") or mount_point), str(answer.get("device") or "")
    return Mounted(
        # The provider does not see inside the machine; the agent, which has just mounted it, does.
        volume=replace(volume, mount_point=point, device=volume.device or device or None),
        mount_point=point,
        device=device,
        fstype=str(answer.get("fstype") or ""),
        formatted=bool(answer.get("formatted")),
        already_mounted=bool(answer.get("already_mounted")),
        writable=answer.get("writable") is not False,
        size_bytes=count(answer, "size_bytes"),
        free_bytes=count(answer, "free_bytes"),
    )


def _explain(mounted: Mounted, progress: Progress) -> None:
    """What happened to the disk, in words."""
    volume = mounted.volume.id
    if mounted.already_mounted:
        progress.note(f"{volume} was mounted there already")
    if mounted.formatted:
        progress.note(f"{volume} was blank: it has a new {mounted.fstype} file system")
    if not mounted.writable:
        progress.warn(f"the login user cannot write to {mounted.mount_point}")
