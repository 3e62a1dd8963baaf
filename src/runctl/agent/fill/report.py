"""What the program says: one JSON object a line, for the command line that watches it and for a person's eye.

``event`` is ``plan``, ``progress``, ``note``, ``result`` or ``error``; ``result`` and ``error`` come last, and alone.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

EVERY_SECONDS = 1.0


class Report:
    """Lines on stdout."""

    def __init__(self) -> None:
        self._last = 0.0

    def say(self, event: str, **values: Any) -> None:
        """One line, at once."""
        sys.stdout.write(json.dumps({"event": event, **values}) + "\n")
        sys.stdout.flush()

    def progress(self, *, last: bool = False, **values: Any) -> None:
        """A line, if the one before is a while ago; ``last`` in any case."""
        now = time.monotonic()
        if last or now - self._last >= EVERY_SECONDS:
            self._last = now
            self.say("progress", **values)
