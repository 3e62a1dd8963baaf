"""What somebody asked to be mounted where: ``--ebs-mount``, ``[ebs] mount_points`` and ``--ebs-volume``."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from runctl._dataclasses import dataclass
from runctl.core.errors import UsageError
from runctl.core.mount_points import is_within, why_not_a_target
from runctl.providers.registry import id_like

FLAG, VOLUME_FLAG, CONFIG, AUTOMATIC = "--ebs-mount", "--ebs-volume", "config", "automatic"
_HOW = "write SOURCE:TARGET or SOURCE:TARGET:ro, for example /mnt/data:/data"
RESERVED = "/runctl"
"""In a container: where checkpoints, output and the home folder are when they are on no volume."""


@dataclass(frozen=True)
class MountRequest:
    """One mount that was asked for, on its way from the command line to the plan."""

    source: str
    """A path on the machine, a volume id or a volume name."""
    target: str
    """Where the script sees it; empty (of ``--ebs-volume``): at its mount point on the machine."""
    read_only: bool
    origin: str
    mount_point: str | None = None
    """Where a volume is mounted on the machine; ``None``: where it is, or belongs."""

    @property
    def is_path(self) -> bool:
        """Whether the source is a folder of the machine, and no volume by its id or name."""
        return self.source.startswith("/")

    @property
    def text(self) -> str:
        """As it can be written; `parse_mount` reads the same from it."""
        return f"{self.source}:{self.target}{':ro' if self.read_only else ''}"


def parse_mount(text: str, origin: str = FLAG) -> MountRequest:
    """Read ``SOURCE:TARGET`` or ``SOURCE:TARGET:ro``.

    Raises `UsageError` when a part is missing, the mode is unknown, the target is not absolute or is a folder that
    nothing runs without (``/``, ``/usr``, anything in ``/proc``, …), or either path climbs with ``..``.
    """
    try:
        source, target, read_only = _parts(text)
    except ValueError as error:
        raise _wrong(text, origin, str(error)) from error
    return MountRequest(source, target, read_only, origin)


def check_mount(text: str) -> None:
    """Raises `ValueError` as `parse_mount` does, without saying where the text is from."""
    try:
        _parts(text)
    except ValueError as error:
        raise ValueError(f'"{text}": {error}; {_HOW}') from None


def _parts(text: str) -> tuple[str, str, bool]:
    """Source, target, and whether it is read-only. Raises `ValueError`."""
    parts = text.split(":")
    if len(parts) < 2 or not parts[0] or not parts[1]:
        raise ValueError("it needs a source and a target")
    if len(parts) > 3:
        raise ValueError("it has more than a source, a target and a mode")
    source, target = parts[0], parts[1]
    mode = parts[2] if len(parts) == 3 else "rw"
    if mode not in {"ro", "rw"}:
        raise ValueError(f'"{mode}" is not a mode; it can be ro or rw')
    if "/" in source and not source.startswith("/"):
        raise ValueError(f'the source "{source}" is neither an absolute path nor a volume')
    like = id_like("volume", source)
    if like is not None and not re.fullmatch(like.pattern, source):
        raise ValueError(f'"{source}" is not a volume id; an id looks like {like.example}')
    if not target.startswith("/"):
        raise ValueError(f'the target "{target}" is not an absolute path')
    for path in (source, target):
        if ".." in path.split("/"):
            raise ValueError(f'"{path}" climbs with ".."')
        if any(ord(character) < 32 or character == "," for character in path):
            raise ValueError(f"{path!r} has a comma or a control character, which mounts cannot carry")
    normal = _normal(target)
    why = why_not_a_target(normal)
    if why:
        raise ValueError(why)
    return _normal(source) if source.startswith("/") else source, normal, mode == "ro"


def check_targets(requests: Iterable[MountRequest], workdir: str | None, script: str | None = None) -> None:
    """No two mounts share a target, and none hides the project at ``workdir`` (a container's, or ``None``).

    Inside the project a mount may be, as long as it does not hide ``script`` (its path from there). Raises
    `UsageError` naming both.
    """
    seen: dict[str, MountRequest] = {}
    for request in requests:
        if not request.target:
            continue
        if request.target in seen:
            other = seen[request.target]
            raise UsageError(
                f"two mounts want {request.target}: {other.source} ({other.origin}) and"
                f" {request.source} ({request.origin})",
                hint="give each mount a target of its own",
                code="duplicate-target",
            )
        seen[request.target] = request
        if workdir is None:
            continue
        if is_within(_normal(workdir), request.target):
            raise UsageError(
                f"the mount {request.text} would hide the project, which is at {workdir}",
                hint=f"mount it elsewhere, for example at {posixpath.join(workdir, 'data')}",
                code="hides-project",
            )
        if script is not None and is_within(posixpath.join(_normal(workdir), script), request.target):
            raise UsageError(
                f"the mount {request.text} would hide the script {script}",
                hint="mount it elsewhere, for example at /data",
                code="hides-project",
            )
        if is_within(request.target, RESERVED):
            raise UsageError(
                f"the mount {request.text}: in a container {RESERVED} is kept for checkpoints and output",
                hint="mount it elsewhere, for example at /data",
                code="bad-mount",
            )


def hidden_files(target: str, workdir: str, files: Iterable[str]) -> list[str]:
    """Those of the project's files (paths from its root) that a mount at ``target`` would hide in a container."""
    return [file for file in files if is_within(posixpath.join(_normal(workdir), file), target)]


def _normal(path: str) -> str:
    normal = posixpath.normpath(path)
    return normal[1:] if normal.startswith("//") else normal


def _wrong(text: str, origin: str, why: str) -> UsageError:
    where = "--ebs-mount" if origin == FLAG else "[ebs] mount_points"
    return UsageError(
        f'{where} "{text}": {why}',
        hint=_HOW,
        code="bad-mount",
    )
