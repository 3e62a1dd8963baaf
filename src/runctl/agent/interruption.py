"""An interruption: what the provider's notice says, and how the time until the machine's end is used. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from time import gmtime, strftime, strptime
from typing import Optional

from runctl._dataclasses import dataclass

NOTICE_SECONDS = 120.0
"""EC2 announces an interruption so long before (best effort)."""
HAND_OFF_STAGES = (
    "heard",
    "signalled",
    "script_ended",
    "verified",
    "published",
    "flushed",
    "unmounted",
    "detached",
)
"""In the order in which they come."""
RESERVE_SECONDS = 12.0
"""For what follows when the script has ended: the log's end, the end record, unmounting and detaching volumes."""
END_SECONDS = 4.0
"""Of them, kept back until the machine's end for the end record on its own disk."""
VOLUMES_SECONDS = 3.0
"""For flushing, unmounting and detaching."""
LEAST_PUBLISH_SECONDS, MOST_PUBLISH_SECONDS = 10.0, 60.0
"""For the newest checkpoint after a notice that does not say when the machine ends."""
SEAL_SECONDS = 3.0
"""For the log's end and the end record in the store: whoever publishes may have to be started anew for that."""


@dataclass(frozen=True)
class Notice:
    """The provider is going to take the machine back."""

    machine_ends_at: float
    """Seconds since the epoch, by the machine's own clock."""
    action: str = "terminate"
    """What the provider will do: ``terminate``, ``stop`` or ``hibernate``."""
    is_rehearsal: bool = False
    """A user plays it: the machine stays."""
    moves: bool = False
    """Whoever watches the run moves it to another machine; no provider takes this one back."""
    why: str = ""
    """In words, what it is moved for; of a signal that is taken for a notice, which."""

    @property
    def ends_at_text(self) -> str:
        """``12:30:05 UTC``."""
        return strftime("%H:%M:%S UTC", gmtime(self.machine_ends_at))


@dataclass(frozen=True)
class HandOff:
    """What an attempt has left for the next one when its machine was taken back."""

    machine_ends_at: float
    """Seconds since the epoch, as the provider announced it."""
    stages: Mapping[str, float] = field(default_factory=dict)
    """Seconds since the epoch, by `HAND_OFF_STAGES`; a stage that was not reached is missing."""
    checkpoint: Optional[str] = None
    """The newest complete one, from the run's checkpoint folder, with forward slashes."""
    sha256: Optional[str] = None
    """Of the file; of a folder, that of its files' list as ``sha256sum`` writes it, sorted by name."""
    step: Optional[int] = None
    """That the checkpoint was saved at, as far as its name tells."""
    left: tuple[str, ...] = ()
    """What was not done, and where it is instead, a sentence each."""
    is_rehearsal: bool = False
    """A user played the notice: the machine stays, and its volumes stay mounted."""
    moves: bool = False
    """Whoever watches the run moved it to another machine; nobody took this one back."""


@dataclass(frozen=True)
class EndPlan:
    """By when each of what follows the script's end is over, done or not. Seconds since the epoch."""

    publish: float
    """The newest checkpoint is in the store."""
    seal: float
    """The log and the end record are."""
    volumes: float
    """The run's volumes are let go. After that only the machine's own end record is written."""


@dataclass(frozen=True)
class TimePlan:
    """How the seconds until the machine's end are shared out."""

    grace: float
    """For the script, between SIGTERM and SIGKILL."""
    publish: float
    """For what must then be sent away."""


def parse_time(text: str) -> float:
    """Seconds since the epoch of ``2026-11-28T12:30:05Z``. Raises `ValueError`."""
    from calendar import timegm

    return float(timegm(strptime(text, "%Y-%m-%dT%H:%M:%SZ")))


def parse_notice(body: str, clock_ahead: float = 0.0) -> Notice:
    """What ``spot/instance-action`` says; ``clock_ahead`` are the seconds by which this clock is ahead of EC2's.

    Raises `ValueError` for what is not a notice.
    """
    try:
        document = json.loads(body)
        return Notice(parse_time(document["time"]) + clock_ahead, str(document["action"]))
    except (LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"it is not a notice of an interruption: {body[:80]!r}") from error


def parse_rebalance(body: str, clock_ahead: float = 0.0) -> float:
    """When the recommendation was given (``events/recommendations/rebalance``). Raises `ValueError`."""
    try:
        return parse_time(json.loads(body)["noticeTime"]) + clock_ahead
    except (LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"it is not a rebalance recommendation: {body[:80]!r}") from error


def plan_time(left: float, publish_seconds: float = 0.0) -> TimePlan:
    """``left`` seconds until the machine's end, of which publishing is expected to need ``publish_seconds``.

    The script has what is left of them, half of the time at the least: without a checkpoint there is nothing to
    publish.
    """
    left = max(0.0, left)
    usable = left - min(RESERVE_SECONDS, left / 2)
    publish = min(max(0.0, publish_seconds), usable / 2)
    return TimePlan(usable - publish, publish)


def plan_end(machine_ends_at: float, heard_at: float | None = None, *, has_volumes: bool) -> EndPlan:
    """How the last seconds of a machine are used whose end was announced at ``heard_at`` (``None``: as early as EC2
    announces it). Pure.

    What comes later has its time whatever takes longer before it: a store that is slow costs the newest checkpoint at
    most, and never the end record.
    """
    left = NOTICE_SECONDS if heard_at is None else max(0.0, machine_ends_at - heard_at)
    # Of a short notice each has its part.
    share = min(1.0, left / (4 * END_SECONDS))
    volumes = machine_ends_at - share * END_SECONDS
    seal = volumes - (share * VOLUMES_SECONDS if has_volumes else 0.0)
    return EndPlan(seal - share * SEAL_SECONDS, seal, volumes)
