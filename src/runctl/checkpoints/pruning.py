"""Which checkpoints may be removed, and why the others stay. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import PurePosixPath

from runctl._dataclasses import dataclass
from runctl.agent.checkpoints.folders import CHECKPOINT_FILES, MANIFESTS, WEIGHTS
from runctl.agent.checkpoints.layout import matches
from runctl.checkpoints.interface import Identity, identity
from runctl.core.run_models import Checkpoint, CheckpointState


@dataclass(frozen=True)
class Decision:
    """What is to become of one checkpoint."""

    checkpoint: Checkpoint
    keep: bool
    reason: str
    """In words."""


def decide(
    found: Sequence[Checkpoint],
    *,
    keep_last: int,
    keep_best: Sequence[str] = (),
    in_use: Collection[Identity] = (),
    others: Collection[Identity] = (),
) -> tuple[Decision, ...]:
    """One decision for each of ``found``, which are the newest first.

    The newest that is not broken stays always, so do the last ``keep_last``, the newest of each name that ``keep_best``
    fits, and those ``in_use``. Broken ones go when a whole one is newer: before that they may be in the middle of being
    written. ``others`` are files that may not be checkpoints at all: they stay, and count for nothing.
    """
    decisions: list[Decision] = []
    whole = 0
    best: set[str] = set()
    for checkpoint in found:
        if identity(checkpoint) in others:
            decisions.append(Decision(checkpoint, True, "it may not be a checkpoint"))
            continue
        broken = checkpoint.state is CheckpointState.BROKEN
        whole += not broken
        is_best = not broken and checkpoint.name not in best and matches(checkpoint.name, keep_best)
        if is_best:
            best.add(checkpoint.name)
        if identity(checkpoint) in in_use:
            reason = "a running attempt went on from it"
        elif broken:
            reason = "" if whole else "it may be in the middle of being written"
        elif whole == 1:
            reason = "the newest complete one"
        elif whole <= keep_last:
            reason = f"one of the last {keep_last}"
        else:
            reason = "the best" if is_best else ""
        gone = checkpoint.problem if broken else "older than those that are kept"
        decisions.append(Decision(checkpoint, bool(reason), reason or gone))
    return tuple(decisions)


def may_be_other(checkpoint: Checkpoint) -> bool:
    """Whether what lies in a folder that no run is known to save to may be something else, such as a program."""
    files = [PurePosixPath(file.path) for file in checkpoint.files]
    if any(checkpoint.name in map(str, file.parents) for file in files):
        names = {file.name for file in files}
        return not names & (CHECKPOINT_FILES - set(MANIFESTS)) and not any(map(_holds_weights, files))
    return not _holds_weights(PurePosixPath(checkpoint.name))


def _holds_weights(path: PurePosixPath) -> bool:
    return path.suffix.lower() in WEIGHTS


def went_on_from(found: Sequence[Checkpoint], started_at: datetime) -> Identity | None:
    """What an attempt that started then went on from, if it went on from any of these: the newest whole one of then."""
    before = (
        checkpoint
        for checkpoint in found
        if checkpoint.state is not CheckpointState.BROKEN and checkpoint.saved_at <= started_at
    )
    return next((identity(checkpoint) for checkpoint in before), None)
