"""A volume of the run's was taken away."""

from __future__ import annotations

import time

from runctl.agent.attempt.watchers.interface import Watched
from runctl.agent.end_reason import EndReason
from runctl.agent.records import StopRequest


class LostVolume:
    """Ends a run whose volume is gone; what else goes wrong with volumes is a warning in the log, each once."""

    sharpens = False

    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def stop_request(self) -> StopRequest | None:
        """With DATA_FAILED when a volume is lost while the script runs."""
        if self._watched.script_began() is None:
            return None
        lost = None
        for trouble in self._watched.volumes.news():
            self._watched.log("warning: " + trouble.message)
            lost = lost or (trouble.message if trouble.lost else None)
        if lost is None:
            return None
        return StopRequest(EndReason.DATA_FAILED, self._watched.spec.grace_seconds, time.time(), lost)
