"""Mounts of a run on this computer: folders, with the room on the disks that they lie on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from runctl.agent.spec import MountSpec
from runctl.containers.mounts import MountRequest
from runctl.core.errors import NotFound, UsageError
from runctl.runs.mounts.plan import MountPlan, PlannedMount


def folder_mounts(requests: Sequence[MountRequest]) -> MountPlan:
    """Every source is a folder here, and can be used as it was asked for.

    Raises `UsageError` (a volume), `NotFound` (no such folder).
    """
    mounts = [_mount(request) for request in requests]
    locked = [
        mount.spec
        for mount in mounts
        if not mount.spec.read_only and not os.access(mount.spec.source, os.W_OK)
    ]
    return MountPlan(
        mounts=tuple(sorted(mounts, key=lambda mount: mount.spec.target.count("/"))),
        data_target=mounts[0].spec.target if mounts else None,
        warnings=tuple(f"{spec.source} cannot be written to by you" for spec in locked),
    )


def _mount(request: MountRequest) -> PlannedMount:
    if not request.is_path:
        raise UsageError(
            f"this computer has no volume named {request.source}",
            hint="give a folder: --ebs-mount /path/to/data:/data",
            code="no-volumes",
        )
    source = Path(request.source)
    if not source.is_dir():
        raise NotFound(f"{source} is not a folder on this computer", hint="check the mount's source")
    space = os.statvfs(source)
    return PlannedMount(
        spec=MountSpec(request.source, request.target, request.read_only, None, request.origin),
        size_bytes=space.f_blocks * space.f_frsize,
        free_bytes=space.f_bavail * space.f_frsize,
    )
