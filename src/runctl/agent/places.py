"""Where a run keeps what must outlive it, and what the script is told about it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Dict, Optional

from runctl.agent.errors import AgentError
from runctl.agent.machine import as_root, login_user, on_machine, root_available
from runctl.agent.spec import MountSpec, RunSpec
from runctl.agent.state import AttemptFolder

CONTAINER_CHECKPOINTS = "/runctl/checkpoints"
CONTAINER_OUTPUT = "/runctl/output"
CONTAINER_HOME = "/runctl/home"


@dataclass(frozen=True)
class Places:
    """Each folder twice: where it is on the machine, and where the script sees it."""

    checkpoints: Path
    output: Path
    checkpoints_seen: str
    output_seen: str
    data_seen: str
    on_volume: Optional[MountSpec]
    """The mount that holds checkpoints and output; ``None`` if they are in the run's own folder."""


def places(spec: RunSpec, folder: AttemptFolder) -> Places:
    """Checkpoints and output are on the first writable volume, for all attempts of the run together."""
    volume = next((m for m in spec.mounts if m.volume_id and not m.read_only), None)
    container = spec.container
    if container is not None:
        data = spec.mounts[0].target if spec.mounts else container.workdir
    else:
        data = str(on_machine(spec.mounts[0].target)) if spec.mounts else str(folder.work)
    if volume is not None:
        run = on_machine(volume.source) / "runs" / spec.run_id
        target = PurePosixPath(volume.target if container is not None else str(on_machine(volume.target)))
        seen = target / "runs" / spec.run_id
        return Places(
            run / "checkpoints", run / "output", str(seen / "checkpoints"), str(seen / "output"), data, volume
        )
    run = folder.path.parent
    if container is not None:
        return Places(
            run / "checkpoints", run / "output", CONTAINER_CHECKPOINTS, CONTAINER_OUTPUT, data, None
        )
    return Places(
        run / "checkpoints", run / "output", str(run / "checkpoints"), str(run / "output"), data, None
    )


def make(where: Places) -> None:
    """Both folders exist and belong to the login user. Raises `AgentError` (``cannot-write``)."""
    user = login_user()
    for path in (where.checkpoints, where.output):
        try:
            path.mkdir(parents=True, exist_ok=True)
            if os.access(path, os.W_OK | os.X_OK):
                continue
            reason = "it belongs to another user"
        except PermissionError as error:
            reason = str(error)
        except OSError as error:
            raise AgentError("cannot-write", "cannot make {}: {}".format(path, error)) from error
        if not root_available():
            raise AgentError(
                "cannot-write", "cannot make {}: {}".format(path, reason), "give it to " + user.name
            )
        # -o and -g apply to the last folder alone; the run's own folder above it is ours as well.
        for one in (path.parent, path):
            owner = ["-o", str(user.uid), "-g", str(user.gid)]
            done = subprocess.run(
                as_root(["install", "-d", *owner, str(one)]), capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise AgentError("cannot-write", "cannot make {}: {}".format(one, done.stderr.strip()))


def variables(spec: RunSpec, where: Places) -> Dict[str, str]:
    """The contract with the script: who it is, where to save, what to resume from."""
    return {
        "RUNCTL_RUN_ID": spec.run_id,
        "RUNCTL_ATTEMPT": str(spec.attempt),
        "RUNCTL_CHECKPOINT_DIR": where.checkpoints_seen,
        "RUNCTL_OUTPUT_DIR": where.output_seen,
        "RUNCTL_DATA_DIR": where.data_seen,
        "RUNCTL_RESUME_FROM": spec.resume_from or "",
    }
