"""The kernel's mount tables (proc(5), mountinfo) and the machine's fstab, as data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from runctl._dataclasses import dataclass

FSTAB_OPTION = "x-runctl="
"""Marks our lines; mount(8) ignores options that begin with ``x-``."""


@dataclass(frozen=True)
class MountEntry:
    """A line of mountinfo."""

    device_number: str
    """``major:minor``."""
    root: str
    """Which folder of the file system is mounted; ``/`` for all of it."""
    mount_point: str
    options: tuple[str, ...]
    optional: tuple[str, ...]
    """``shared:N``, ``master:N``: how mounts spread."""
    fstype: str
    source: str
    file_system_options: tuple[str, ...] = ()
    """Of the file system itself, wherever else it is mounted."""


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def escaped(text: str) -> str:
    """A path as fstab wants it."""
    return re.sub(r"[ \t\n\\]", lambda match: f"\\{ord(match.group()):03o}", text)


def parse(text: str) -> list[MountEntry]:
    """The mounts, oldest first."""
    found = []
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if not separator or len(fields) < 6 or len(tail) < 2:
            continue
        found.append(
            MountEntry(
                device_number=fields[2],
                root=_unescaped(fields[3]),
                mount_point=_unescaped(fields[4]),
                options=tuple(fields[5].split(",")),
                optional=tuple(fields[6:]),
                fstype=tail[0],
                source=_unescaped(tail[1]),
                file_system_options=tuple(tail[2].split(",")) if len(tail) > 2 else (),
            )
        )
    return found


def own_mounts() -> list[MountEntry]:
    """What is mounted, as this process sees it."""
    return parse(Path("/proc/self/mountinfo").read_text(errors="surrogateescape"))


def fstab_line(
    uuid: str,
    mount_point: str,
    fstype: str,
    volume_id: str,
    *,
    read_only: bool,
    more: Sequence[str] = (),
    device: str | None = None,
) -> str:
    """A volume that is not there does not keep the machine from starting, and one that is late is waited for.

    ``device`` stands in for a UUID that is not the volume's alone.
    """
    options = ["defaults", "nofail", "x-systemd.device-timeout=30s", FSTAB_OPTION + volume_id]
    options[1:1] = [*(["ro"] if read_only else []), *more, "nosuid", "nodev"]
    check = "2" if fstype.startswith("ext") else "0"
    return "{} {} {} {} 0 {}".format(
        device or "UUID=" + uuid, escaped(mount_point), fstype, ",".join(options), check
    )


def with_line(fstab: str, line: str, volume_id: str) -> str:
    """The table with this line in place of what it said about the volume."""
    rest = without_volume(fstab, volume_id)
    if rest and not rest.endswith("\n"):
        rest += "\n"
    return rest + line + "\n"


def without_volume(fstab: str, volume_id: str) -> str:
    """The table without our line about the volume; everybody else's lines stay as they are."""
    return "".join(line for line in fstab.splitlines(keepends=True) if volume_of(line) != volume_id)


def volume_of(line: str) -> str | None:
    """The volume that one of our lines is about."""
    fields = line.split()
    if len(fields) < 4 or fields[0].startswith("#"):
        return None
    for option in fields[3].split(","):
        if option.startswith(FSTAB_OPTION):
            return option[len(FSTAB_OPTION) :]
    return None


def point_of(line: str) -> str:
    """The mount point of a line; empty for comments."""
    fields = line.split()
    return _unescaped(fields[1]) if len(fields) >= 4 and not fields[0].startswith("#") else ""


def uuid_of(line: str) -> str:
    """The UUID of a line that names one."""
    fields = line.split()
    return fields[0][5:].strip('"') if len(fields) >= 4 and fields[0].startswith("UUID=") else ""
