"""The limits of a machine, and the decision when it ends. Pure.

Every limit is counted in seconds for which the machine has run: no clock that somebody can set has a say.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

OVERTIME_SECONDS = 600.0
"""For a run that is being ended, to publish its last checkpoint: so much later the machine ends in any case."""
TOUCHED_SECONDS = 1800.0
"""What was written so recently, such as a project that is being sent, says that a run is about to start."""
WARNINGS = (600.0, 60.0)
"""Who is logged in is told so many seconds before the end."""


class EndCause(str, enum.Enum):
    """Why a machine ends itself; runs have the first three as their end reasons."""

    TIME_LIMIT = "TIME_LIMIT"
    BUDGET = "BUDGET"
    IDLE = "IDLE"
    UNUSED = "UNUSED"
    """It was rented for a run that nobody started."""


@dataclass(frozen=True)
class Limits:
    """What was asked for; ``None``: no such limit."""

    ttl_seconds: float | None = None
    budget_seconds: float | None = None
    """What the budget pays for."""
    budget: str = ""
    """The amount, for people."""
    idle_seconds: float | None = None
    unused_seconds: float | None = None

    @property
    def any(self) -> bool:
        """Whether there is one at all."""
        return (self.ttl_seconds, self.budget_seconds, self.idle_seconds, self.unused_seconds) != (None,) * 4


@dataclass(frozen=True)
class Seen:
    """What the machine has been doing."""

    ran_seconds: float
    """Since it was created, without the time for which it was stopped."""
    idle_seconds: float = 0.0
    """For how long nothing has used it and nobody has been logged in."""
    runs: bool = False
    """A run goes on."""
    supervised: bool = False
    """And its supervisor lives, which ends it in time."""
    had_run: bool = False
    """A run was started on it at some time."""
    untouched_seconds: float = 0.0
    """For how long nothing has been sent to it."""


@dataclass(frozen=True)
class MachineLimit:
    """The limit that ends the machine first."""

    cause: EndCause
    seconds: float
    """From now on, if nothing changes; none or less: now."""


def next_limit(limits: Limits, seen: Seen) -> MachineLimit | None:
    """Which limit ends the machine first, and in how many seconds; ``None`` where nothing ends it."""
    found = []
    if limits.budget_seconds is not None:
        found.append(MachineLimit(EndCause.BUDGET, limits.budget_seconds - seen.ran_seconds))
    if limits.ttl_seconds is not None:
        found.append(MachineLimit(EndCause.TIME_LIMIT, limits.ttl_seconds - seen.ran_seconds))
    if limits.idle_seconds is not None and not seen.runs:
        found.append(MachineLimit(EndCause.IDLE, limits.idle_seconds - seen.idle_seconds))
    if limits.unused_seconds is not None and not (seen.had_run or seen.runs):
        left = max(limits.unused_seconds - seen.ran_seconds, TOUCHED_SECONDS - seen.untouched_seconds)
        found.append(MachineLimit(EndCause.UNUSED, left))
    return min(found, key=lambda limit: limit.seconds, default=None)


def ends_now(limit: MachineLimit, seen: Seen) -> bool:
    """Whether the machine shuts down at this moment: a run that is being ended has some time for its checkpoint."""
    return limit.seconds <= (-OVERTIME_SECONDS if seen.supervised else 0.0)


def warning(limits: Limits, limit: MachineLimit) -> str:
    """A sentence for whoever is logged in."""
    causes = {
        EndCause.TIME_LIMIT: "its time is over",
        EndCause.BUDGET: f"its budget of {limits.budget or 'money'} is used up",
        EndCause.IDLE: f"nothing has used it for {duration_text(limits.idle_seconds or 0.0)}",
        EndCause.UNUSED: "no run was started on it",
    }
    when = f"in {duration_text(limit.seconds)}" if limit.seconds > 0 else "now"
    return f"this machine ends itself {when}: {causes[limit.cause]}"


def notice(limits: Limits, seen: Seen) -> str:
    """What every login is told; empty where nothing ends the machine."""
    parts: list[str] = []
    if limits.idle_seconds is not None:
        parts.append(f"when nothing has used it for {duration_text(limits.idle_seconds)}")
    for seconds, why in (
        (limits.ttl_seconds, "its time to live"),
        (limits.budget_seconds, f"its budget of {limits.budget}"),
    ):
        if seconds is not None:
            parts.append(f"in {duration_text(max(0.0, seconds - seen.ran_seconds))} at the latest ({why})")
    if not parts:
        return ""
    return f"runctl: this machine ends itself {', and '.join(parts)}. Its own disks go with it."


def duration_text(seconds: float) -> str:
    """``2 h 5 min``; the two largest units."""
    left = int(seconds)
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    parts: list[str] = []
    for size, name in units:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {name}" if count else "")
    return " ".join(part for part in parts[:2] if part) or "0 s"
