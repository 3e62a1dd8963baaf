"""Which folder of the machine the script sees where, and which rule asked for it.

Volumes are told apart by the serial of the device that is mounted (the agent reads it), never by device names.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from runctl.agent.spec import MachineMount, MountSpec
from runctl.core.errors import Conflict, NotFound, UsageError
from runctl.core.names import did_you_mean

VOLUME_ID = re.compile(r"vol-[0-9a-f]{8,17}")
FLAG, CONFIG, AUTOMATIC = "--ebs-mount", "config", "automatic"


@dataclass(frozen=True)
class MountRequest:
    """``SOURCE:TARGET[:ro]`` as it was written."""

    source: str
    """A path on the machine, a volume id or a volume name."""
    target: str
    read_only: bool
    origin: str


def parse_mount(text: str, origin: str = FLAG) -> MountRequest:
    """Read ``SOURCE:TARGET`` or ``SOURCE:TARGET:ro``.

    Raises `UsageError` when a part is missing, the mode is unknown, the target is not absolute, is ``/``, or
    either path climbs with ``..``.
    """
    parts = text.split(":")
    if len(parts) not in {2, 3} or not parts[0] or not parts[1]:
        raise _wrong(text, origin, "it needs a source and a target")
    source, target = parts[0], parts[1]
    mode = parts[2] if len(parts) == 3 else "rw"
    if mode not in {"ro", "rw"}:
        raise _wrong(text, origin, f'"{mode}" is no mode; it can be ro or rw')
    if "/" in source and not source.startswith("/"):
        raise _wrong(text, origin, f'the source "{source}" is neither an absolute path nor a volume')
    if not target.startswith("/"):
        raise _wrong(text, origin, f'the target "{target}" is not an absolute path')
    for path in (source, target):
        if ".." in path.split("/"):
            raise _wrong(text, origin, f'"{path}" climbs with ".."')
        if any(ord(character) < 32 or character == "," for character in path):
            raise _wrong(
                text, origin, f"{path!r} has a comma or a control character, which mounts cannot carry"
            )
    normal = _normal(target)
    if normal == "/":
        raise _wrong(text, origin, "the target / would hide everything else")
    return MountRequest(_normal(source) if source.startswith("/") else source, normal, mode == "ro", origin)


def check_targets(requests: Iterable[MountRequest], workdir: str | None) -> None:
    """No two mounts share a target, and none hides the project at ``workdir`` (an absolute path, or ``None``).

    Raises `UsageError` naming both.
    """
    seen: dict[str, MountRequest] = {}
    for request in requests:
        if request.target in seen:
            other = seen[request.target]
            raise UsageError(
                f"two mounts want {request.target}: {other.source} ({other.origin}) and"
                f" {request.source} ({request.origin})",
                hint="give each mount a target of its own",
                code="duplicate-target",
            )
        seen[request.target] = request
        if workdir is not None and _is_within(_normal(workdir), request.target):
            raise UsageError(
                f"the mount {request.source}:{request.target} would hide the project, which is at {workdir}",
                hint=f"mount it elsewhere, for example at {posixpath.join(workdir, 'data')}",
                code="hides-project",
            )


def resolve_mounts(
    requests: Sequence[MountRequest],
    mounted: Sequence[MachineMount],
    volume_names: Mapping[str, str],
    *,
    instance_id: str,
    automatic: bool,
) -> tuple[MountSpec, ...]:
    """Turn requests into paths on the machine, and add the data volumes found there when ``automatic``.

    ``mounted`` is what the agent found; ``volume_names`` maps the names of the volumes attached to this
    instance to their ids. A requested target, or a volume that is already mounted by a request, is not mounted
    a second time. Raises `NotFound` when a source is not on a volume that is mounted on the machine, `Conflict`
    when a read-only file system is wanted read-write.
    """
    volumes = [mount for mount in mounted if mount.volume_id is not None]
    resolved = [_resolve(request, volumes, volume_names, instance_id) for request in requests]
    if automatic:
        taken_targets = {mount.target for mount in resolved}
        taken_volumes = {mount.volume_id for mount in resolved}
        resolved += [
            MountSpec(mount.mount_point, mount.mount_point, mount.read_only, mount.volume_id, AUTOMATIC)
            for mount in volumes
            if mount.mount_point not in taken_targets and mount.volume_id not in taken_volumes
        ]
    return tuple(sorted(resolved, key=lambda mount: (mount.target.count("/"), mount.origin == AUTOMATIC)))


def _resolve(
    request: MountRequest,
    volumes: Sequence[MachineMount],
    volume_names: Mapping[str, str],
    instance_id: str,
) -> MountSpec:
    if request.source.startswith("/"):
        under = [mount for mount in volumes if _is_within(request.source, mount.mount_point)]
        if not under:
            raise NotFound(
                f"{request.source} on {instance_id} is not on a mounted EBS volume; {_what_is_mounted(volumes)}",
                hint=f"runctl aws ebs attach VOLUME {instance_id} --mount-point {request.source}",
                code="not-a-mount",
            )
        mount = max(under, key=lambda found: len(found.mount_point))
        source = request.source
    else:
        volume_id = (
            request.source if VOLUME_ID.fullmatch(request.source) else volume_names.get(request.source)
        )
        if volume_id is None:
            near = did_you_mean(request.source, volume_names)
            raise NotFound(
                f'no volume named "{request.source}" is attached to {instance_id}; {_what_is_mounted(volumes)}',
                hint=near or f"runctl aws ebs attach {request.source} {instance_id} --mount-point /mnt/data",
                code="volume-not-attached",
            )
        matching = [found for found in volumes if found.volume_id == volume_id]
        if not matching:
            raise NotFound(
                f"volume {volume_id} is not mounted on {instance_id}; {_what_is_mounted(volumes)}",
                hint=f"runctl aws ebs attach {volume_id} {instance_id} --mount-point /mnt/data",
                code="not-a-mount",
            )
        mount = matching[0]
        source = mount.mount_point
    if mount.read_only and not request.read_only:
        raise Conflict(
            f"{mount.mount_point} on {instance_id} is mounted read-only",
            hint=f"ask for it read-only: --ebs-mount {request.source}:{request.target}:ro",
            code="read-only",
        )
    return MountSpec(source, request.target, request.read_only, mount.volume_id, request.origin)


def _what_is_mounted(volumes: Sequence[MachineMount]) -> str:
    if not volumes:
        return "no volume is mounted there"
    return "mounted there: " + ", ".join(f"{mount.volume_id} at {mount.mount_point}" for mount in volumes)


def _normal(path: str) -> str:
    normal = posixpath.normpath(path)
    return normal[1:] if normal.startswith("//") else normal


def _is_within(path: str, folder: str) -> bool:
    return folder in {"/", path} or path.startswith(folder + "/")


def _wrong(text: str, origin: str, why: str) -> UsageError:
    where = "--ebs-mount" if origin == FLAG else "[ebs] mount_points"
    return UsageError(
        f'{where} "{text}": {why}',
        hint="write SOURCE:TARGET or SOURCE:TARGET:ro, for example /mnt/data:/data",
        code="bad-mount",
    )
