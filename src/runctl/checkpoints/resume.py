"""What a new run is to go on from, as it was asked for. Pure."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath

from runctl._dataclasses import dataclass
from runctl.agent.object_store import parse_source
from runctl.core.errors import Conflict, UsageError
from runctl.core.ids import InstanceId, RunId, VolumeId

SCHEME = "s3://"
PLACEHOLDER = "{checkpoint}"


@dataclass(frozen=True)
class ResumeFrom:
    """A checkpoint, or a folder of several, on the machine or on a volume."""

    path: str
    """Absolute on the machine; from the root of the volume's file system where there is one."""
    volume_id: VolumeId | None = None
    run_id: RunId | None = None
    """The run that saved it, where one was named."""

    @property
    def is_in_store(self) -> bool:
        """The path is the address of a run's prefix in a store; its machine fetches what it needs."""
        return self.path.startswith(SCHEME)


def is_path(text: str) -> bool:
    """Whether ``--resume-from`` names a path of the machine, and no run."""
    return "/" in text


def from_path(text: str) -> ResumeFrom:
    """Raises `UsageError` for a path that is not absolute, or climbs."""
    if text.startswith(SCHEME):
        try:
            source = parse_source(text)
        except ValueError as error:
            raise UsageError(f"--resume-from: {error}") from error
        if not source.prefix:
            raise UsageError(
                f"--resume-from {text}: it names no run",
                hint="the address of a run's prefix, such as s3://bucket/runs/run-7kq2m9xd4t",
            )
        return ResumeFrom(str(source))
    path = PurePosixPath(text)
    if not path.is_absolute() or ".." in path.parts or any(ord(character) < 32 for character in text):
        raise UsageError(
            f"--resume-from {text}: a path must be absolute, on the machine, and without ..",
            hint="for example /mnt/data/runs/run-7kq2m9xd4t/checkpoints, or the id of a run",
        )
    return ResumeFrom("/" + "/".join(path.parts[1:]))


def from_run(
    run_id: RunId,
    *,
    saved_volume: VolumeId | None,
    saved_folder: str | None,
    checkpoint_dir: str | None,
    saved_on: InstanceId,
    instance_id: InstanceId,
    store: str | None = None,
) -> ResumeFrom:
    """What the run has saved. Raises `Conflict` (code ``not-saved``) when nothing of it outlives another machine."""
    if saved_volume is not None and saved_folder is not None:
        return ResumeFrom(str(PurePosixPath(saved_folder) / "checkpoints"), saved_volume, run_id)
    if store is not None and saved_on != instance_id:
        return ResumeFrom(f"{store}/{run_id}", None, run_id)
    if checkpoint_dir is None:
        raise Conflict(
            f"{run_id} never started, and has saved nothing",
            hint="leave --resume-from out to start from the beginning",
            code="not-saved",
        )
    if saved_on != instance_id:
        raise Conflict(
            f"{run_id} saved to the disk of {saved_on}, not to a volume",
            hint=f"train on {saved_on}, or bring {checkpoint_dir} from there and give its path to --resume-from;"
            " with --ebs-mount a run saves to a volume, and with --checkpoint-s3 to a store, which outlive its machine",
            code="not-saved",
        )
    return ResumeFrom(checkpoint_dir, None, run_id)


def parse_arguments(text: str | None) -> tuple[str, ...]:
    """``--resume-arg``, as the script gets it. Raises `UsageError`."""
    if text is None:
        return ()
    try:
        arguments = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"--resume-arg {text}: {error}", hint="close the quotation mark") from error
    if not any(PLACEHOLDER in argument for argument in arguments):
        raise UsageError(
            f"--resume-arg {text}: it does not say where the checkpoint goes",
            hint=f"for example --resume-arg '--resume {PLACEHOLDER}'",
        )
    return arguments
