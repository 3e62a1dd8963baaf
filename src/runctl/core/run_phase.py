"""The states of a run, for those who need no more of what a run is: the rest takes as long to load as they do."""

from __future__ import annotations

from enum import StrEnum


class RunPhase(StrEnum):
    """The state of a run as users see it."""

    PENDING = "pending"
    """Planned and recorded; the machine has not confirmed the start."""
    SETTING_UP = "setting-up"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"
    UNKNOWN = "unknown"
    """The machine cannot be asked at the moment. Not the same as ended."""
