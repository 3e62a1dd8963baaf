"""Where a volume is mounted on a machine when nobody says where: one answer for every command."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runctl._dataclasses import dataclass
from runctl.core import tags as tag

if TYPE_CHECKING:
    from runctl.core.machine_models import Instance, Volume

_PLAIN = re.compile(r"(?:/[A-Za-z0-9_@:+-][A-Za-z0-9._@:+-]*)+")
_FOLDER = re.compile(r"\w[\w.-]*", re.ASCII)

# One table of the folders that a mount may not cover, for machines and for containers. The agent has its own checks in
# one module, as it imports nothing of ours.
_EVERYTHING_BELOW, _JUST_THERE = "everything below", "just there"
_RULES = {
    # folder: (a volume on a machine, a mount in a container)
    "/bin": (_EVERYTHING_BELOW, _JUST_THERE),
    "/boot": (_EVERYTHING_BELOW, _JUST_THERE),
    "/dev": (_EVERYTHING_BELOW, _EVERYTHING_BELOW),
    "/etc": (_EVERYTHING_BELOW, _JUST_THERE),
    "/home": (_JUST_THERE, None),
    "/lib": (_EVERYTHING_BELOW, _JUST_THERE),
    "/lib32": (_EVERYTHING_BELOW, _JUST_THERE),
    "/lib64": (_EVERYTHING_BELOW, _JUST_THERE),
    "/proc": (_EVERYTHING_BELOW, _EVERYTHING_BELOW),
    "/root": (_JUST_THERE, None),
    "/run": (_EVERYTHING_BELOW, _JUST_THERE),
    "/sbin": (_EVERYTHING_BELOW, _JUST_THERE),
    "/sys": (_EVERYTHING_BELOW, _EVERYTHING_BELOW),
    "/tmp": (_JUST_THERE, None),  # noqa: S108 - a rule about it, not a file in it
    "/usr": (_EVERYTHING_BELOW, _JUST_THERE),
    "/var": (_JUST_THERE, _JUST_THERE),
}
"""On a machine, what lies below a system folder is run, or believed, by root. In a container the script is on its own:
there a folder below ``/usr`` may be covered, and ``/home`` itself."""


def is_within(path: str, folder: str) -> bool:
    """Whether a path is a folder, or lies below it; both absolute and normal."""
    return folder in {"/", path} or path.startswith(folder + "/")


def is_system_folder(path: str) -> bool:
    """Whether no volume may be mounted just there on a machine."""
    normal = "/" + "/".join(part for part in path.split("/") if part)
    return normal == "/" or any(
        _covers(rule, folder, normal) for folder, (rule, _in_container) in _RULES.items()
    )


def why_not_a_target(path: str) -> str:
    """Why nothing may be mounted at this absolute, normal path of a script's; empty where something may."""
    if path == "/":
        return "the target / would hide everything else"
    if any(_covers(rule, folder, path) for folder, (_on_machine, rule) in _RULES.items()):
        return f"the target {path} is the system's own: nothing could run with it"
    return ""


def _covers(rule: str | None, folder: str, path: str) -> bool:
    return path == folder if rule == _JUST_THERE else rule is not None and is_within(path, folder)


@dataclass(frozen=True)
class MountPoint:
    """Where a volume may be mounted on a machine, and which rule says so."""

    path: str
    reason: str
    """For a person: ``where it was last``, ``by its name``."""


def default_mount_point(volume: Volume) -> str:
    """``/mnt/NAME`` where the name is fit for a folder, else by id."""
    fit = volume.name is not None and _FOLDER.fullmatch(volume.name)
    return f"/mnt/{volume.name if fit else volume.id}"


def usual_mount_points(volume: Volume, instance: Instance | None = None) -> tuple[MountPoint, ...]:
    """Where the volume belongs, the best first.

    That is where the instance expects it (its `runctl.core.tags.MOUNTS`), then where the volume was mounted last
    (its `runctl.core.tags.MOUNT_POINT`), then `default_mount_point`. What a tag says and no mount point can be
    is passed over.
    """
    expected = next(
        (
            attached.mount_point
            for attached in (instance.volumes if instance else ())
            if attached.volume_id == volume.id
        ),
        None,
    )
    found = [
        MountPoint(path, reason)
        for path, reason in (
            (expected, f"where {instance.id if instance else ''} expects it"),
            (volume.tags.get(tag.MOUNT_POINT), "where it was last"),
            (default_mount_point(volume), "by its name" if volume.name else "by its id"),
        )
        if path and _PLAIN.fullmatch(path) and not is_system_folder(path)
    ]
    best: dict[str, MountPoint] = {}
    for point in found:
        best.setdefault(point.path, point)
    return tuple(best.values())
