"""Asking again, first often and then seldom: the one way in which runctl waits for somebody else, or tries again.

A few lines of our own: tenacity and stamina cost about 50 ms to import, where ``runctl --version`` has 30, and neither
takes the clock with which tests run a wait of a day at once, nor begins anew when a try got somewhere. The programs
that are sent to machines have their own, as they import nothing of runctl.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from runctl.core.clock import Clock

FIRST_SECONDS = 0.2
MOST_SECONDS = 3.0
GROWTH = 1.5


class Backoff:
    """Pauses between tries: ever longer, up to ``most`` seconds."""

    def __init__(self, clock: Clock, *, first: float = FIRST_SECONDS, most: float = MOST_SECONDS) -> None:
        self._clock = clock
        self._first, self._most = first, most
        self._pause = first

    def sleep(self, at_most: float = float("inf")) -> None:
        """Pause, but no longer than that; the next pause is longer."""
        self._clock.sleep(min(self._pause, at_most))
        self._pause = min(self._pause * GROWTH, self._most)

    def reset(self) -> None:
        """Begin with the shortest again: the last try got somewhere."""
        self._pause = self._first


def attempts(
    clock: Clock, timeout: timedelta | None, *, first: float = FIRST_SECONDS, most: float = MOST_SECONDS
) -> Iterator[float]:
    """Yield the seconds since the start, at least once; ends when the time is up. Sleeps in between.

    The last attempt is made when the time is up. Without ``timeout`` it does not end.
    """
    start = clock.monotonic()
    backoff = Backoff(clock, first=first, most=most)
    while True:
        yield clock.monotonic() - start
        left = float("inf") if timeout is None else timeout.total_seconds() - (clock.monotonic() - start)
        if left <= 0:
            return
        backoff.sleep(left)
