"""The run's volumes, on the machine of its next attempt where its first machine had them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from runctl.core.errors import NotFound
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.machine_models import Instance, VolumeState
from runctl.machines.machine import Machine, reach
from runctl.providers.interface import require
from runctl.runs.mounts.attachments import volumes_attached
from runctl.runs.mounts.facts import find_holder
from runctl.runs.mounts.plan import MountPlan, PlannedAttachment
from runctl.runs.mounts.volume_conflicts import is_on
from runctl.runs.recovering.run import RecoveredRun
from runctl.runs.stored.recipe import KeptVolume
from runctl.transport.agent import AgentClient

RELEASE_TIMEOUT = timedelta(minutes=10)
"""For how long a machine that is shutting down is waited for, so that its volumes can be attached elsewhere."""


@contextmanager
def volumes_as_before(run: RecoveredRun, machine: Machine) -> Iterator[None]:
    """The run's volumes are where its first machine had them, once that has let go of them."""
    instance, provider = machine.instance, run.provider
    attachments = tuple(_attachment(run, volume, instance) for volume in run.recipe.volumes)

    def agent_on(other: Instance) -> AgentClient:
        return machine.agent if other.id == instance.id else reach(run.session, other).agent

    def may_have_started() -> bool:
        known = run.store.find(run.record.id)
        return known is not None and known.instance_id == instance.id and not known.has_ended

    with volumes_attached(
        MountPlan(attachments=attachments),
        instance,
        provider=provider,
        agent_on=agent_on,
        find_holder=lambda volume: find_holder(volume, provider, run.store, agent_on, run.session.progress),
        may_have_started=may_have_started,
        progress=run.session.progress,
    ):
        yield


def _attachment(run: RecoveredRun, wanted: KeptVolume, instance: Instance) -> PlannedAttachment:
    find = require(run.provider.volumes).find
    volume = find(VolumeId(wanted.volume_id))
    holder = volume.attached_to
    if volume.state is VolumeState.IN_USE and holder is not None and not is_on(volume, instance):
        wait_for_release(run, holder)
        volume = find(volume.id)
    return PlannedAttachment(
        volume,
        wanted.mount_point,
        "as in the attempt before",
        is_on(volume, instance),
        wanted.read_only,
        formats_if_blank=False,
    )


def wait_for_release(run: RecoveredRun, holder: InstanceId) -> None:
    """A machine that is ending lets go of its volumes. One that goes on keeps them: attaching says so."""
    taken_back = holder == run.record.instance_id
    with suppress(NotFound):
        instance = run.provider.instance(holder)
        if instance.state.is_over or (taken_back and instance.interrupted):
            run.session.progress.step(f"waiting until {holder} lets go of its volumes")
            run.rentals.wait_ended(holder, RELEASE_TIMEOUT)
