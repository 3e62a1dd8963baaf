"""What volumes are for, and what a provider suggests for it."""

from __future__ import annotations

from dataclasses import dataclass

PURPOSES = ("datasets", "checkpoints", "scratch", "archive")


@dataclass(frozen=True)
class Suggestion:
    """A type and its numbers; ``None`` leaves a number to the type's default."""

    type: str
    iops: int | None
    throughput: int | None
    """MiB/s."""
    reason: str
