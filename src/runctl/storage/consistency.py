"""A volume holds still while its snapshot or its copy begins, so that what is on it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runctl._dataclasses import dataclass
from runctl.core.errors import RunctlError, Unreachable
from runctl.core.machine_models import Instance, InstanceState, Volume
from runctl.core.progress import SILENT, Progress
from runctl.providers.interface import Provider
from runctl.storage.agents import AgentOn

HOLD_SECONDS = 60.0
"""The machine lets writers go on after that, whatever happened to us."""


@dataclass(frozen=True)
class Stillness:
    """How whole a volume is at the moment."""

    how: str
    """``frozen``: nothing is written. ``flushed``: everything written so far is there, and files that are being written
    may be cut. ``unmounted``: nobody writes. ``unasked``: as after a power cut."""
    instance_id: str | None = None
    mount_points: tuple[str, ...] = ()
    why: str = ""

    @property
    def description(self) -> str:
        """For a person."""
        mounts = ", ".join(self.mount_points)
        return {
            "frozen": f"the file system at {mounts} was frozen: the copy is consistent",
            "flushed": f"{mounts} was flushed, not frozen ({self.why}): files being written at that moment may be cut",
            "unmounted": "nothing has it mounted: the copy is consistent",
            "unasked": "its machine was not asked: the copy is what a power cut would have left",
        }[self.how]


@contextmanager
def holding_still(
    provider: Provider,
    agent_on: AgentOn,
    volume: Volume,
    holder: str,
    *,
    freeze: bool = True,
    progress: Progress = SILENT,
) -> Iterator[Stillness]:
    """Inside, the volume's file system is frozen, or else flushed; writers go on afterwards, whatever happens.

    ``holder`` is the intent's token: the same command, given once more after it was killed, takes up what its first
    call froze. With ``freeze`` false its machine is not asked. Raises `Unreachable` and `MachineError` where it was to
    be asked and cannot answer.
    """
    instance = _running(provider, volume)
    if instance is None:
        yield Stillness("unmounted")
        return
    if not freeze:
        yield Stillness("unasked", instance.id)
        return
    progress.step(f"flushing and freezing {volume.name or volume.id} on {instance.id}")
    try:
        agent = agent_on(instance)
        answer = agent.call(
            "freeze", {"volume_id": volume.id, "hold_seconds": HOLD_SECONDS, "holder": holder}
        )
    except Unreachable as error:
        error.add_hint("--no-freeze takes it as it is, as after a power cut")
        raise
    still = Stillness(
        str(answer.get("how") or "unmounted"),
        instance.id,
        tuple(answer.get("mount_points") or ()),
        str(answer.get("why") or ""),
    )
    try:
        yield still
    finally:
        if still.how == "frozen" and not _thaw(agent_on, volume, holder, instance, progress):
            progress.warn(
                f"beginning took longer than {HOLD_SECONDS:g} s, and {instance.id} let writers go on before: files"
                " being written at that moment may be cut"
            )


def let_go(
    provider: Provider, agent_on: AgentOn, volume: Volume, holder: str, progress: Progress = SILENT
) -> None:
    """Writers go on, where an earlier call of the same command was killed while it held the volume still."""
    instance = _running(provider, volume)
    if instance is not None:
        _thaw(agent_on, volume, holder, instance, progress)


def _thaw(agent_on: AgentOn, volume: Volume, holder: str, instance: Instance, progress: Progress) -> bool:
    """Whether the volume held still until now, as far as that is known."""
    try:
        answer = agent_on(instance).call("thaw", {"volume_id": volume.id, "holder": holder})
    except RunctlError as error:
        progress.warn(
            f"{instance.id} lets writers go on by itself within {HOLD_SECONDS:g} s: {error.message}"
        )
        return True
    return bool(answer.get("was_frozen"))


def _running(provider: Provider, volume: Volume) -> Instance | None:
    """The running machine that has it; of several, all read only, and so any of them tells."""
    if volume.attached_to is None:
        return None
    instance = provider.instance(volume.attached_to)
    return instance if instance.state is InstanceState.RUNNING else None
