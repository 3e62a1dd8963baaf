"""Why a volume cannot be attached for a run, and who has it, with what to do about it. Pure."""

from __future__ import annotations

from runctl._dataclasses import dataclass
from runctl.core.errors import Conflict, ZoneMismatch
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, Volume, VolumeState
from runctl.providers.registry import volume_command


@dataclass(frozen=True)
class Sharer:
    """A run that has not ended, and its volumes."""

    run_id: str
    script: str
    volumes: frozenset[str]
    """Ids of all of them."""
    writes: frozenset[str] = frozenset()
    """Of those that it may write to."""


@dataclass(frozen=True)
class Holder:
    """The other instance that has a volume, as far as it is known."""

    instance_id: InstanceId
    instance: Instance | None = None
    """``None`` when the provider does not show it."""
    runs: tuple[Sharer, ...] = ()
    """Those that use the volume there."""


def named(volume: Volume) -> str:
    """``vol-0abc "datasets"``."""
    return f'{volume.id} "{volume.name}"' if volume.name else str(volume.id)


def refuse_attachment(volume: Volume, instance: Instance, holder: Holder | None, *, read_only: bool) -> None:
    """Return if the volume can be attached to the instance, or is.

    One that is still being made, or still leaving a machine that is shutting down, is waited for when it is attached.
    Raises `ZoneMismatch`, or `Conflict`: ``volume-in-use`` (naming who has it), ``volume-state``.
    """
    if is_on(volume, instance):
        return
    if volume.state in {VolumeState.DELETING, VolumeState.DELETED, VolumeState.ERROR}:
        raise Conflict(
            f"volume {named(volume)} is {volume.state.value} and cannot be attached",
            hint=f"{volume_command(instance.provider, 'list')} shows those that can",
            code="volume-state",
        )
    if instance.zone is not None and volume.zone != instance.zone:
        raise ZoneMismatch(
            named(volume),
            volume.zone,
            instance.zone,
            hint=f"create the instance with --zone {volume.zone}, or bring the volume over:"
            f" {volume_command(instance.provider, 'move', volume.id, '--availability-zone', instance.zone)}",
        )
    if holder is not None and holder.instance is not None and holder.instance.state.is_over:
        return
    if volume.attached_to is not None and not (read_only and volume.multi_attach):
        raise in_use(instance.provider, volume, holder or Holder(volume.attached_to), read_only=read_only)


def is_on(volume: Volume, instance: Instance) -> bool:
    """Whether the instance has the volume, alone or among others."""
    return instance.id == volume.attached_to or instance.id in volume.instances


def in_use(provider: str, volume: Volume, holder: Holder, *, read_only: bool) -> Conflict:
    """Another instance has the volume: which, what it does with it, and the ways out."""
    who = [str(holder.instance_id)]
    instance = holder.instance
    if instance is not None:
        facts = (instance.tags.get("Name"), instance.project and f"project {instance.project}")
        known = [*(fact for fact in facts if fact), instance.state.value]
        who.append(f"({', '.join(known)})")
    runs = ", ".join(
        f"{run.run_id} ({run.script}{'' if volume.id in run.writes else ', read-only'})"
        for run in holder.runs
    )
    doing = f", where {runs} {'use' if len(holder.runs) > 1 else 'uses'} it" if runs else ""
    return Conflict(
        f"volume {named(volume)} is in use: attached to {' '.join(who)}{doing}",
        hint=_ways_out(provider, volume, holder, read_only=read_only),
        code="volume-in-use",
    )


def _ways_out(provider: str, volume: Volume, holder: Holder, *, read_only: bool) -> str:
    stop = f"runctl runs stop {holder.runs[0].run_id}, then " if holder.runs else ""
    ways = [
        f"free it: {stop}{volume_command(provider, 'detach', volume.id)}",
        f"or work on a copy: {volume_command(provider, 'clone', volume.id)}",
    ]
    if volume.multi_attach:
        ways.append(
            "or, as it has multi-attach, let every machine only read it (:ro, and attach --read-only there)"
        )
    elif read_only:
        ways.append("several machines can read one volume at once only if it is io2 with multi-attach")
    return "; ".join(ways)
