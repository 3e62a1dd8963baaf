"""Time comes in as an argument; this is the real one."""

from __future__ import annotations

import re
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


LONGEST = timedelta(days=36_500)
"""A longer time span is a slip, and a date that far from now need not exist."""

_NUMBER = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> timedelta:
    """``90``, ``90s``, ``15m``, ``2h``, ``1d`` and sums such as ``1h30m``; a bare number is seconds.

    Raises `ValueError` for anything else: zero, negative values, and what is longer than `LONGEST` included.
    """
    written = text.strip().lower()
    if re.fullmatch(f"(?:{_NUMBER}[smhd])+{_NUMBER}", written):
        raise ValueError(f"{text!r} ends in a number without a unit; write 1h30m, not 1h30")
    known = re.fullmatch(f"(?:{_NUMBER}[smhd])+|{_NUMBER}", written)
    parts = re.findall(f"({_NUMBER})([smhd]?)", written) if known else []
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if total <= 0:
        raise ValueError(f"{text!r} is not a duration; write 90s, 15m, 2h or 1h30m")
    if total > LONGEST.total_seconds():
        raise ValueError(f"{text!r} is too long; {LONGEST.days}d is the most")
    return timedelta(seconds=total)
