"""Which volumes may get a file system, and what proves that nothing is lost by that. Pure."""

from __future__ import annotations

from runctl._dataclasses import dataclass
from runctl.core import tags as tag
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Volume


@dataclass(frozen=True)
class FormatRule:
    """What the agent is asked for when it mounts a volume."""

    format: str
    """``if-blank`` or ``never``."""
    known_blank: bool = False
    """Nothing can be on it: it was created empty, and runctl attached it for the first time. Otherwise the agent reads
    every byte before it formats."""


def began_with_data(volume: Volume) -> bool:
    """Whether it was made from a snapshot or from another volume: then it is never taken for blank."""
    return bool(volume.snapshot_id or volume.source_volume_id or volume.tags.get(tag.CREATED_FROM))


def formats_unasked(volume: Volume) -> bool:
    """Whether a blank volume gets a file system without ``--format``: one that runctl created empty does."""
    return tag.is_ours(volume.tags) and not began_with_data(volume)


def format_rule(volume: Volume, instance_id: InstanceId, *, may_format: bool = False) -> FormatRule:
    """How a volume that is attached to the instance is mounted; ``may_format`` is ``--format``."""
    if formats_unasked(volume):
        return FormatRule("if-blank", known_blank=volume.tags.get(tag.UNUSED) == instance_id)
    return FormatRule("if-blank" if may_format else "never")
