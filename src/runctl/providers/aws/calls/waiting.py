"""Asking again, first often and then seldom, until a limit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from runctl.core.clock import Clock

FIRST_SECONDS = 0.2
MOST_SECONDS = 3.0
GROWTH = 1.5


def attempts(clock: Clock, timeout: timedelta, *, most: float = MOST_SECONDS) -> Iterator[float]:
    """Yield the seconds since the start, at least once; ends when the time is up. Sleeps in between."""
    start = clock.monotonic()
    limit = start + timeout.total_seconds()
    pause = FIRST_SECONDS
    while True:
        yield clock.monotonic() - start
        left = limit - clock.monotonic()
        if left <= 0:
            return
        clock.sleep(min(pause, left))
        pause = min(pause * GROWTH, most)
