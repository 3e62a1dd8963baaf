"""Checkpoints as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from runctl.core.run_models import Checkpoint, CheckpointState
from runctl.core.text import counted, size, time_span
from runctl.render.tables import PLAIN, Column, Screen, details, fit, table


def checkpoints_table(found: Sequence[Checkpoint], now: datetime, screen: Screen = PLAIN) -> str:
    """One line a checkpoint; broken ones say why."""
    return fit(
        [
            Column("NAME", [each.name for each in found], cut=True),
            Column(
                "STEP", [None if each.step is None else f"{each.step:,}" for each in found], 1, right=True
            ),
            Column("SIZE", [size(each.size_bytes) for each in found], 2, right=True),
            Column("AGE", [_age(each, now) for each in found], 1, right=True),
            Column("STATE", [state(each) for each in found], is_state=True, cut=True),
            Column("WHERE", [each.where for each in found], 3, cut=True),
        ],
        screen,
    )


def decisions_table(found: Sequence[tuple[Checkpoint, bool, str]], now: datetime, screen: Screen) -> str:
    """What is to become of each checkpoint, and why."""
    return fit(
        [
            Column("NAME", [each.name for each, _, _ in found], cut=True),
            Column("SIZE", [size(each.size_bytes) for each, _, _ in found], 2, right=True),
            Column("AGE", [_age(each, now) for each, _, _ in found], 1, right=True),
            Column("PLAN", ["keep" if keep else "remove" for _, keep, _ in found]),
            Column("WHY", [reason for _, _, reason in found], cut=True),
        ],
        screen,
    )


def checkpoint_details(checkpoint: Checkpoint, now: datetime) -> str:
    """Everything about one checkpoint, with its files."""
    number = f"{checkpoint.number} of attempt {checkpoint.attempt}" if checkpoint.number else None
    facts = details(
        {
            "name": checkpoint.name,
            "step": None if checkpoint.step is None else f"{checkpoint.step:,}",
            "state": state(checkpoint),
            "saved": f"{checkpoint.saved_at:%Y-%m-%d %H:%M:%S} UTC, {_age(checkpoint, now)} ago",
            "number": number,
            "size": f"{size(checkpoint.size_bytes)}, {counted(len(checkpoint.files), 'file')}",
            "where": checkpoint.where,
        }
    )
    rows = [(file.path, size(file.size_bytes), file.sha256) for file in checkpoint.files]
    return f"{facts}\n\n{table(['FILE', 'SIZE', 'SHA-256'], rows)}"


def state(checkpoint: Checkpoint) -> str:
    """Of a broken one with what is wrong."""
    if checkpoint.state is CheckpointState.BROKEN:
        return f"broken: {checkpoint.problem}"
    return checkpoint.state.value


def _age(checkpoint: Checkpoint, now: datetime) -> str:
    # A machine's clock may be ahead of this computer's.
    return time_span(max(now, checkpoint.saved_at) - checkpoint.saved_at)
