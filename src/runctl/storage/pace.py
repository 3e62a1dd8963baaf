"""How fast a filling goes and when it will be done, from what the program says. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from runctl._dataclasses import dataclass

WINDOW_SECONDS = 20.0
"""The rate shown is that of the last seconds: a long job's beginning says little about its end."""


@dataclass
class Pace:
    """The latest of a filling's progress."""

    done: int = 0
    total: int = 0
    """Bytes."""
    files: int | None = None
    of_files: int | None = None
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def take(self, event: Mapping[str, Any]) -> None:
        """A ``progress`` event."""
        self.done, self.total = int(event["bytes"]), int(event["of_bytes"])
        self.files, self.of_files = event.get("files"), event.get("of_files")
        self._seen.append((float(event["seconds"]), int(event["moved"])))
        while len(self._seen) > 2 and self._seen[-1][0] - self._seen[0][0] > WINDOW_SECONDS:
            self._seen.popleft()

    @property
    def bytes_per_second(self) -> float | None:
        """``None`` while it cannot be said."""
        if not self._seen:
            return None
        (begin, before), (end, now) = self._seen[0], self._seen[-1]
        if len(self._seen) == 1:
            begin, before = 0.0, 0
        return (now - before) / (end - begin) if end > begin and now > before else None

    @property
    def seconds_left(self) -> float | None:
        """At this rate; ``None`` while it cannot be said."""
        rate = self.bytes_per_second
        return (self.total - self.done) / rate if rate else None
