"""Asking again, first often and then seldom, until a limit: the one way in which runctl waits for somebody else.

Ten lines of our own, as tenacity and stamina cost about 50 ms to import where ``runctl --version`` has 30, and neither
takes the clock with which tests run a wait of a day at once. The programs that are sent to machines have their own:
they import nothing of runctl.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from runctl.core.clock import Clock

FIRST_SECONDS = 0.2
MOST_SECONDS = 3.0
GROWTH = 1.5


def attempts(
    clock: Clock, timeout: timedelta | None, *, first: float = FIRST_SECONDS, most: float = MOST_SECONDS
) -> Iterator[float]:
    """Yield the seconds since the start, at least once; ends when the time is up. Sleeps in between.

    The last attempt is made when the time is up. Without ``timeout`` it does not end.
    """
    start = clock.monotonic()
    pause = first
    while True:
        yield clock.monotonic() - start
        left = float("inf") if timeout is None else timeout.total_seconds() - (clock.monotonic() - start)
        if left <= 0:
            return
        clock.sleep(min(pause, left))
        pause = min(pause * GROWTH, most)
