"""The script has had its time."""

from __future__ import annotations

import time

from runctl.agent.attempt.watchers.interface import Watched
from runctl.agent.end_reason import EndReason
from runctl.agent.records import StopRequest


class TimeLimit:
    """Ends a run that has a time limit, counted from the script's start."""

    sharpens = False

    def __init__(self, watched: Watched) -> None:
        self._spec = watched.spec
        self._script_began = watched.script_began

    def stop_request(self) -> StopRequest | None:
        """With TIME_LIMIT when the time is over."""
        limit, began = self._spec.timeout_seconds, self._script_began()
        if limit is None or began is None or time.monotonic() - began < limit:
            return None
        message = f"the time limit of {limit:.15g} s is over"
        return StopRequest(EndReason.TIME_LIMIT, self._spec.grace_seconds, time.time(), message)
