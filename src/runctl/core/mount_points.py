"""Where a volume is mounted on a machine when nobody says where: one answer for every command."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runctl.core import tags as tag
from runctl.core.models import Instance, Volume

_PLAIN = re.compile(r"(?:/[A-Za-z0-9_@:+-][A-Za-z0-9._@:+-]*)+")
_FOLDER = re.compile(r"\w[\w.-]*", re.ASCII)


SYSTEM_FOLDERS = frozenset(
    {
        *("bin", "boot", "dev", "etc", "home", "lib", "lib64", "proc"),
        *("root", "run", "sbin", "sys", "tmp", "usr", "var"),
    }
)
"""Of the root folder: a volume mounted over one of them would take the system away."""


SYSTEM_TREES = frozenset(
    {"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "proc", "run", "sbin", "sys", "usr"}
)
"""Of those nothing at all may be covered: what lies below them is run, or believed, by root."""


def is_system_folder(path: str) -> bool:
    """Whether no volume may be mounted just there."""
    parts = [part for part in path.split("/") if part]
    return not parts or parts[0] in SYSTEM_TREES or (len(parts) == 1 and parts[0] in SYSTEM_FOLDERS)


@dataclass(frozen=True)
class MountPlace:
    """A mount point, and which rule chose it."""

    path: str
    reason: str
    """In words: ``where it was last``, ``by its name``."""


def default_mount_point(volume: Volume) -> str:
    """``/mnt/NAME`` where the name is fit for a folder, else by id."""
    fit = volume.name is not None and _FOLDER.fullmatch(volume.name)
    return f"/mnt/{volume.name if fit else volume.id}"


def usual_places(volume: Volume, instance: Instance | None = None) -> tuple[MountPlace, ...]:
    """Where the volume belongs, the best place first.

    That is where the instance expects it (its `runctl.core.tags.MOUNTS`), then where the volume was mounted last
    (its `runctl.core.tags.MOUNT_POINT`), then `default_mount_point`. What a tag says and no mount point can be
    is passed over.
    """
    expected = next(
        (one.mount_point for one in (instance.volumes if instance else ()) if one.volume_id == volume.id),
        None,
    )
    found = [
        MountPlace(path, reason)
        for path, reason in (
            (expected, f"where {instance.id if instance else ''} expects it"),
            (volume.tags.get(tag.MOUNT_POINT), "where it was last"),
            (default_mount_point(volume), "by its name" if volume.name else "by its id"),
        )
        if path and _PLAIN.fullmatch(path) and not is_system_folder(path)
    ]
    best: dict[str, MountPlace] = {}
    for place in found:
        best.setdefault(place.path, place)
    return tuple(best.values())
