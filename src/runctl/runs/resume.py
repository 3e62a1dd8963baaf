"""Brings what a run goes on from to the machine: its volume among the mounts, its path as the machine has it. Pure."""

from __future__ import annotations

from pathlib import PurePosixPath

from runctl.checkpoints.resume import ResumeFrom
from runctl.containers.mounts import MountRequest
from runctl.core.errors import NotFound
from runctl.runs.mounts.plan import MountPlan, Surroundings

ORIGIN = "--resume-from"


def mount_for(
    resume: ResumeFrom | None,
    requests: tuple[MountRequest, ...],
    volumes: tuple[str, ...],
    around: Surroundings,
) -> MountRequest | None:
    """The volume that must be mounted besides, to be read; ``None`` where the machine has it, or is to have it.

    ``volumes`` are those of ``--ebs-volume``, by the words that ``around`` has them under.
    """
    if resume is None or resume.volume_id is None:
        return None
    asked = [request.source for request in requests if not request.is_path] + list(volumes)
    known = {str(around.volumes[word].id) for word in asked if word in around.volumes}
    known |= {str(one.volume_id) for one in around.mounted if one.volume_id}
    if str(resume.volume_id) in known:
        return None
    return MountRequest(str(resume.volume_id), f"/resume/{resume.run_id}", True, ORIGIN)


def path_on_machine(resume: ResumeFrom, mounts: MountPlan, around: Surroundings) -> str:
    """Where the machine has it once the mounts of the plan are made. Raises `NotFound`."""
    if resume.volume_id is None:
        return resume.path
    points = [one.mount_point for one in around.mounted if one.volume_id == resume.volume_id]
    points += [one.mount_point for one in mounts.attachments if one.volume.id == resume.volume_id]
    if not points:
        raise NotFound(
            f"{resume.volume_id}, which has the checkpoints of {resume.run_id}, is not on {around.instance.id}",
            hint=f"mount it: --ebs-mount {resume.volume_id}:/data",
            code="volume-not-found",
        )
    return str(PurePosixPath(points[0]) / resume.path)
