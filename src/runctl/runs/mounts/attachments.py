"""Volumes are attached and mounted for a run before it starts, and given back if it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from runctl.core.errors import Conflict, RunctlError
from runctl.core.machine_models import Instance, Volume
from runctl.core.progress import Progress
from runctl.providers.interface import Provider, require
from runctl.providers.registry import volume_command
from runctl.runs.mounts.plan import MountPlan, PlannedAttachment, room_warning
from runctl.runs.mounts.volume_conflicts import Holder, in_use, is_on
from runctl.storage.attaching import (
    AgentOn,
    Mounted,
    MountOptions,
    attach_and_mount,
    mount,
    unmount,
)

FindHolder = Callable[[Volume], Holder]
"""Who has a volume that another instance has."""


@contextmanager
def volumes_attached(
    plan: MountPlan,
    instance: Instance,
    *,
    provider: Provider,
    agent_on: AgentOn,
    find_holder: FindHolder,
    may_have_started: Callable[[], bool],
    progress: Progress,
) -> Iterator[None]:
    """Inside, every attachment of the plan has been made; they stay when the block ends well.

    If one fails, or the block raises and ``may_have_started`` is false, what was attached or mounted here is
    as it was before; what cannot be given back is said, with the command that does it. Raises what
    `runctl.storage.attaching.attach_and_mount` raises, and `Conflict` naming who was quicker.
    """
    done: list[PlannedAttachment] = []
    try:
        for planned in plan.attachments:
            # Noted before it is made: what was cut short is there, or half there. What somebody else has attached
            # to the machine since the plan was made is theirs, and stays.
            if planned.attached or not is_on(require(provider.volumes).find(planned.volume.id), instance):
                done.append(planned)
            mounted = _attach(planned, instance, provider, agent_on, find_holder, progress)
            if mounted.already_mounted and planned in done:
                done.remove(planned)
            for warning in _room(instance.provider, plan, mounted):
                progress.warn(warning)
        yield
    except BaseException:
        if not may_have_started():
            for planned in reversed(done):
                _give_back(planned, instance, provider, agent_on, progress)
        raise


def _attach(
    planned: PlannedAttachment,
    instance: Instance,
    provider: Provider,
    agent_on: AgentOn,
    find_holder: FindHolder,
    progress: Progress,
) -> Mounted:
    wanted = MountOptions(mount_point=planned.mount_point, read_only=planned.read_only)
    try:
        make = mount if planned.attached else attach_and_mount
        return make(provider, agent_on, planned.volume, instance, wanted, progress)
    except Conflict as error:
        now = require(provider.volumes).find(planned.volume.id)
        if now.attached_to is None or is_on(now, instance) or now.multi_attach:
            raise
        # Somebody else attached it since the plan was made.
        raise in_use(instance.provider, now, find_holder(now), read_only=planned.read_only) from error


def _room(provider: str, plan: MountPlan, mounted: Mounted) -> list[str]:
    saves = plan.saves
    if saves is None or saves.spec.volume_id != mounted.volume.id:
        return []
    return room_warning(provider, saves, mounted.size_bytes, mounted.free_bytes)


def _give_back(
    planned: PlannedAttachment,
    instance: Instance,
    provider: Provider,
    agent_on: AgentOn,
    progress: Progress,
) -> None:
    """As it was before: not mounted, and not attached if it was not. Says so, or says what is left."""
    label = planned.volume.name or planned.volume.id
    try:
        if planned.attached:
            unmount(agent_on, planned.volume, instance, progress=progress)
            progress.note(f"the run did not start: {label} is not mounted any more")
            return
        if not is_on(require(provider.volumes).find(planned.volume.id), instance):
            return
        unmount(agent_on, planned.volume, instance, progress=progress)
        require(provider.volumes).detach(planned.volume.id, progress=progress, instance_id=instance.id)
    except (RunctlError, KeyboardInterrupt) as error:
        why = error.message if isinstance(error, RunctlError) else "interrupted"
        progress.warn(
            f"the run did not start, and {label} is still attached to {instance.id} ({why}):"
            f" {volume_command(provider.name, 'detach', planned.volume.id)}"
        )
    else:
        progress.note(f"the run did not start: {label} is detached again")
