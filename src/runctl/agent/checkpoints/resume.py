"""What an attempt goes on from: its run's own newest complete checkpoint, else the one that it was told."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.checkpoints import choosing
from runctl.agent.checkpoints.formats import QUIET_SECONDS
from runctl.agent.disks.run_folders import RunFolders
from runctl.agent.errors import AgentError
from runctl.agent.machine.root import on_machine
from runctl.agent.spec import MountSpec, RunSpec

CONTAINER_RESUME = "/runctl/resume"


def check(spec: RunSpec) -> None:
    """What ``resume_from`` names has a complete checkpoint. Raises `AgentError` (``no-checkpoint``)."""
    if spec.resume_from is None:
        return
    path = on_machine(spec.resume_from)
    # In a folder that this user may not look into there is nothing either; pathlib raises for one.
    if not os.path.exists(path):  # noqa: PTH110
        raise AgentError("no-checkpoint", f"there is no {spec.resume_from} on the machine to resume from")
    choice = choosing.newest(path)
    if choice.chosen is None:
        why = "; ".join(choosing.described(choice, path)) or "there is none"
        raise AgentError(
            "no-checkpoint",
            f"{spec.resume_from} has no complete checkpoint: {why}",
            "leave --resume-from out to start from the beginning",
        )


def settled(
    spec: RunSpec, folders: RunFolders, say: Callable[[str], None], name: str | None = None
) -> tuple[RunSpec, CheckpointStatus | None]:
    """The spec as the script is to be started: ``resume_from`` as the script sees it (``None``: nothing to go on from),
    with the arguments that name it, and the mount that shows it; and the checkpoint, as the machine sees it.

    ``name`` is the one of the run's own, from its folder of checkpoints on, that it is to be, instead of the newest;
    empty: none of them.
    """
    folder = folders.checkpoints
    # The run's own script has not begun: nobody writes there any more.
    moment = time.time() + QUIET_SECONDS + 1
    if name is None:
        choice = choosing.newest(folder, moment)
    else:
        choice = choosing.named(folder, name, moment) if name else choosing.Choice(None)
    seen: str | None = folders.checkpoints_seen
    if choice.chosen is None and spec.resume_from is not None:
        folder, seen = on_machine(spec.resume_from), None
        choice = choosing.newest(folder)
    for line in choosing.described(choice, folder):
        say("checkpoint " + line)
    if choice.chosen is None:
        return dataclasses.replace(spec, resume_from=None), None
    mounts = spec.mounts
    if seen is not None:
        path = _join(seen, folder, choice.chosen)
    elif spec.container is None:
        path = str(choice.chosen)
    else:
        found = _in_mount(spec, choice.chosen)
        if found is None:
            target = f"{CONTAINER_RESUME}/{choice.chosen.name}"
            mounts = (*mounts, MountSpec(str(choice.chosen), target, True, None, "--resume-from"))
        path = found or target
    say(f"resuming from {path}")
    started = dataclasses.replace(
        spec,
        resume_from=path,
        mounts=mounts,
        args=(*spec.args, *arguments(spec.resume_args, path)),
    )
    step = choosing.step_of(choice.chosen)
    return started, CheckpointStatus(str(choice.chosen), choice.changed_ns / 1e9, step)


def arguments(template: Sequence[str], checkpoint: str) -> tuple[str, ...]:
    """The template's arguments with ``{checkpoint}`` filled in; none without a checkpoint. Pure."""
    return tuple(argument.replace("{checkpoint}", checkpoint) for argument in template) if checkpoint else ()


def _in_mount(spec: RunSpec, path: Path) -> str | None:
    """The same file or folder in the container, through the innermost of the run's own mounts."""
    outer = [mount for mount in spec.mounts if _is_below(path, on_machine(mount.source))]
    if not outer:
        return None
    innermost = max(outer, key=lambda mount: len(mount.source))
    return _join(innermost.target, on_machine(innermost.source), path)


def _is_below(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _join(target: str, folder: Path, path: Path) -> str:
    inside = path.relative_to(folder).as_posix()
    return target if inside == "." else "{}/{}".format(target.rstrip("/"), inside)
