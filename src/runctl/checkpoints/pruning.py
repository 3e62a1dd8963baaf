"""Which checkpoints may be removed, and why the others stay. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from runctl.agent.checkpoints.layout import matches
from runctl.checkpoints.interface import Identity, identity
from runctl.core.models import Checkpoint, CheckpointState


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
) -> tuple[Decision, ...]:
    """One decision for each of ``found``, which are the newest first.

    The newest that is not broken stays always, so do the last ``keep_last``, the newest of each name that ``keep_best``
    fits, and those ``in_use``. Broken ones go when a whole one is newer: before that they may be in the middle of being
    written.
    """
    decisions: list[Decision] = []
    whole = 0
    best: set[str] = set()
    for checkpoint in found:
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


def went_on_from(found: Sequence[Checkpoint], started_at: datetime) -> Identity | None:
    """What an attempt that started then went on from, if it went on from any of these: the newest whole one of then."""
    before = (
        checkpoint
        for checkpoint in found
        if checkpoint.state is not CheckpointState.BROKEN and checkpoint.saved_at <= started_at
    )
    return next((identity(checkpoint) for checkpoint in before), None)
