"""A clock that tests move by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class ManualClock:
    """Implements `runctl.core.clock.Clock`; sleeping takes no time but moves it."""

    def __init__(self, start: datetime = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0
        self.on_sleep: Callable[[float], None] | None = None
        """Called before each sleep with its seconds: where a test lets the world change."""

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Seconds since the clock was created."""
        return self._elapsed

    def sleep(self, seconds: float) -> None:
        """The time is that much later."""
        if self.on_sleep is not None:
            self.on_sleep(seconds)
        self._elapsed += seconds

    def advance(self, by: timedelta) -> None:
        """The time is that much later."""
        self._elapsed += by.total_seconds()
