"""When several machines may have one volume at once: all of them read-only, none with a file system to be made.

ext4 and xfs keep what they know of a disk in memory. A second machine that writes destroys them, and one that reads
while another writes sees halves of files; so with ``multi-attach`` everybody reads, or one has it alone.
"""

from __future__ import annotations

from runctl.core.errors import Conflict, MachineError, Unreachable
from runctl.core.machine_models import Instance, InstanceState, Volume
from runctl.providers.interface import Provider
from runctl.providers.registry import volume_command
from runctl.storage.agents import AgentOn

SHARED = "shared"
"""The code of the error for a volume that may not be had by two in that way."""


def others(volume: Volume, instance: Instance) -> tuple[str, ...]:
    """The other instances that have it."""
    return tuple(each for each in volume.instances if each != instance.id)


def check_shared(
    provider: Provider, agent_on: AgentOn, volume: Volume, instance: Instance, *, read_only: bool
) -> bool:
    """Whether other machines have the volume too.

    Raises `Conflict` (code ``shared``) where this instance may not have it besides them.
    """
    elsewhere = others(volume, instance) if volume.multi_attach else ()
    if not elsewhere:
        return False
    name, instances = volume.name or volume.id, ", ".join(elsewhere)
    if not read_only:
        raise Conflict(
            f"volume {name} is on {instances} too, and a second writer destroys ext4 and xfs",
            hint="add --read-only; to write, detach it from the others first",
            code=SHARED,
        )
    for identifier in elsewhere:
        other = next(
            (instance for instance in provider.instances(everyone=True) if instance.id == identifier), None
        )
        if other is not None and other.state is InstanceState.RUNNING:
            _check_reads_only(agent_on, volume, other)
    return True


def _check_reads_only(agent_on: AgentOn, volume: Volume, other: Instance) -> None:
    name = volume.name or volume.id
    try:
        mounts = agent_on(other).mounts()
    except Unreachable as error:
        error.add_hint(f"whether it writes to {name} cannot be known without it")
        raise
    except MachineError as error:
        raise Conflict(
            f"whether {other.id} writes to volume {name} cannot be known: {error.message}",
            hint=error.hint,
            code=SHARED,
        ) from error
    writing = [mount.mount_point for mount in mounts if mount.volume_id == volume.id and not mount.read_only]
    if writing:
        raise Conflict(
            f"{other.id} has volume {name} mounted for writing at {writing[0]}: a reader would see halves of files",
            hint=f"{volume_command(other.provider, 'detach', name, '--instance', other.id)}, then attach it to both"
            " with --read-only",
            code=SHARED,
        )
