"""A machine that says nothing: its provider is asked, now and then, whether it still exists."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_SECONDS = 5.0
"""Of silence, before the provider is asked the first time."""
OFTEN_SECONDS = 5.0
SELDOM_SECONDS = 15.0
_OFTEN_UNTIL_SECONDS = 60.0
"""A command may be silent for hours: after this long the provider is asked less often."""


StillThere = Callable[[float], None]
"""Called with the seconds for which the machine was silent. Raises `InstanceEnded` when the provider says that it has
ended, and nothing when it runs or cannot be asked."""


def nothing_known(silent_seconds: float) -> None:
    """For a transport whose provider cannot be asked."""
    del silent_seconds


class Silence:
    """How long one command has heard nothing."""

    def __init__(self, still_there: StillThere, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._still_there = still_there
        self._monotonic = monotonic
        self._since = self._asked = monotonic()

    def heard(self) -> None:
        """The machine has said something."""
        self._since = self._asked = self._monotonic()

    def check(self) -> None:
        """Ask if it is time to. Raises `InstanceEnded`."""
        now = self._monotonic()
        if now - self._since < FIRST_SECONDS:
            return
        pause = OFTEN_SECONDS if now - self._since < _OFTEN_UNTIL_SECONDS else SELDOM_SECONDS
        if now - self._asked >= pause:
            self._asked = now
            self._still_there(now - self._since)
