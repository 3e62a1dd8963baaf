"""A volume is changed, and what is on it grows with it; called again, it does what is left to do."""

from __future__ import annotations

from runctl._dataclasses import dataclass
from runctl.core.errors import RunctlError
from runctl.core.journal import Change, Effect
from runctl.core.machine_models import InstanceState, Volume
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.volume_plans import ResizePlan
from runctl.providers.interface import Provider, require
from runctl.storage.agents import AgentOn
from runctl.transport.answers import count

DEVICE_WAIT_SECONDS = 120
"""How long the machine may take to see a size that the provider says is there."""


@dataclass(frozen=True)
class Growth:
    """What happened to the file system."""

    instance_id: str
    fstype: str | None
    """``None``: there is none yet."""
    mount_point: str | None
    partition_grown: bool
    before_bytes: int
    after_bytes: int


@dataclass(frozen=True)
class Resized:
    """A volume that has its new size, with what is on it."""

    volume: Volume
    growth: Growth | None
    """``None``: no running machine has it."""


def resize(provider: Provider, agent_on: AgentOn, plan: ResizePlan, progress: Progress = SILENT) -> Resized:
    """The volume is as planned, and partition and file system fill it where a running machine has it.

    Raises what `Resizing.resize` raises, and of the machine `MachineError` (``cannot-grow``,
    ``read-only``) and `Unreachable`; then the volume has its size already, and the error's hint says so.
    """
    resizing = require(provider.resizing)
    volume = resizing.resize(plan, progress)
    if volume.attached_to is None or require(provider.volumes).chosen_at_creation:
        # A file system of the provider's own is as large as its volume.
        return Resized(volume, None)
    instance = provider.instance(volume.attached_to)
    if instance.state is not InstanceState.RUNNING:
        return Resized(volume, None)
    progress.step(f"growing the file system on {instance.id}")
    request = {
        "volume_id": volume.id,
        "size_bytes": volume.size_gib << 30,
        "wait_seconds": DEVICE_WAIT_SECONDS,
    }
    agent = agent_on(instance)
    smaller = f"the file system of {volume.name or volume.id} may be smaller than the volume"
    growing = Change("file system", (volume.id, instance.id), Effect.CHANGED, smaller)
    try:
        with agent.journal.unfinished(growing):
            answer = agent.call("grow", request)
    except RunctlError as error:
        error.add_hint(
            f"the volume has its {volume.size_gib} GiB, and the file system has not: repeat the command"
        )
        raise
    growth = Growth(
        instance_id=instance.id,
        fstype=answer.get("fstype"),
        mount_point=answer.get("mount_point"),
        partition_grown=bool(answer.get("partition_grown")),
        before_bytes=count(answer, "before_bytes"),
        after_bytes=count(answer, "after_bytes"),
    )
    return Resized(volume, growth)
