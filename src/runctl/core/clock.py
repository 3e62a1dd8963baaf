"""Time comes in as an argument; this is the real one."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What decisions and waits need of time."""

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards, from an arbitrary start."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""
        ...


class SystemClock:
    """The computer's own clock."""

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go backwards, from an arbitrary start."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""
        time.sleep(seconds)


def rfc3339(moment: datetime) -> str:
    """``2026-05-01T12:00:00Z``: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_rfc3339(text: str) -> datetime:
    """An aware UTC time. Raises `ValueError` for anything without an offset."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.astimezone(UTC)


def parse_duration(text: str) -> timedelta:
    """``90``, ``90s``, ``15m``, ``2h``, ``1d`` and sums such as ``1h30m``; a bare number is seconds.

    Raises `ValueError` for anything else, zero and negative values included.
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    total, number = 0.0, ""
    for character in text.strip().lower():
        if character.isdigit() or character == ".":
            number += character
        elif character in units and number:
            total += float(number) * units[character]
            number = ""
        else:
            raise ValueError(f"{text!r} is not a duration; write 90s, 15m, 2h or 1h30m")
    if number:
        if total:
            raise ValueError(f"{text!r} ends in a number without a unit; write 1h30m, not 1h30")
        total = float(number)
    if total <= 0:
        raise ValueError(f"{text!r} is not a duration; write 90s, 15m, 2h or 1h30m")
    return timedelta(seconds=total)
