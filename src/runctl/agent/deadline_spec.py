"""What a run's request and its status say of its deadline and its progress: part of `runctl.agent.spec`'s contract."""

from __future__ import annotations

from typing import Optional

from runctl._dataclasses import dataclass

PROGRESS_GROUPS = ("step", "total", "percent")
"""The groups of a progress pattern; it has ``step`` or ``percent``."""
PROGRESS_FILE = ".progress.json"
"""In the run's output folder: ``{"step": 10, "total": 1000}``, as `runctl.callbacks` writes it."""


@dataclass(frozen=True)
class DeadlineSpec:
    """By when a run must have ended, and how it chooses between the markets."""

    policy: str
    """`runctl.agent.deadline.Policy`."""
    asked_at: float
    """When the run was asked for, in seconds since the epoch."""
    ends_at: float
    """By when it must have ended, in seconds since the epoch."""
    estimate_seconds: Optional[float] = None
    """How long it takes on a machine that is not interrupted; ``None``: its progress will tell."""
    spot_share: float = 0.3
    """Price of a spot machine, as a share of the price on demand."""
    between_interruptions: float = 7200.0
    """Seconds that a spot machine lives on average, as far as was known before."""
    decided_within: Optional[float] = None
    """The longest time in seconds from one decision to the next; ``None``: that of whoever watches the run."""
    restart_seconds: Optional[float] = None
    """From the request for a machine until the script makes progress on it, as earlier runs have measured it."""


@dataclass(frozen=True)
class ProgressStatus:
    """How far a script says that it is. Times in seconds since the epoch."""

    step: float
    total: Optional[float]
    """Of the same unit; ``None``: the script has not said it."""
    seen_at: float
    first_step: float
    """The first one that was seen in the attempt: what it went on from."""
    first_seen_at: float
