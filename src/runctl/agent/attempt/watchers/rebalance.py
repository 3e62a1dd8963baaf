"""The provider recommends to move: an interruption has become likely."""

from __future__ import annotations

import time

from runctl.agent.attempt.watchers.interface import Watched

PATIENCE_SECONDS = 60.0
"""A script that has just started may not have set its handlers."""


class RebalanceRecommendation:
    """Asks the script for a checkpoint, once for each recommendation. Ends nothing."""

    sharpens = False

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._seen: float | None = None
        self._asks_until: float | None = None

    def stop_request(self) -> None:
        """Nothing: the machine may well stay."""
        recommended_at = self._watched.notices.rebalance_at
        if recommended_at != self._seen:
            self._seen = recommended_at
            self._watched.remember(rebalance_at=recommended_at)
            self._watched.log("EC2 recommends to move: it is likely to take the machine back soon")
            self._asks_until = float("inf")
        began = self._watched.script_began()
        if self._asks_until is None or began is None:
            return
        if self._asks_until == float("inf"):
            self._asks_until = max(time.monotonic(), began + PATIENCE_SECONDS)
        if self._watched.ask_for_checkpoint() or time.monotonic() >= self._asks_until:
            self._asks_until = None
