"""The machine is going to be shut down at a known time: by ``shutdown +N``, or by the timer of its time to live."""

from __future__ import annotations

import time

from runctl.agent.attempt.watchers.interface import Watched
from runctl.agent.end_reason import EndReason
from runctl.agent.machine.root import on_machine
from runctl.agent.records import StopRequest

SCHEDULED = "/run/systemd/shutdown/scheduled"
"""Where systemd keeps it (``man 8 shutdown``; the format is systemd-logind's ``manager_setup_shutdown``)."""
RESERVE_SECONDS = 15.0
"""For what comes after the grace: SIGKILL, the rest of the log, the end record."""


class PlannedShutdown:
    """Ends a run early enough that it has its grace, and its end is written down, before the machine goes."""

    sharpens = False

    def __init__(self, watched: Watched) -> None:
        self._grace = watched.spec.grace_seconds
        self._path = on_machine(SCHEDULED)
        self._read_at: int | None = None
        self._plan: tuple[float, str] | None = None

    def stop_request(self) -> StopRequest | None:
        """With STOPPED, as soon as there is no more time left than the grace and what comes after it need."""
        try:
            changed_at = self._path.stat().st_mtime_ns
            if changed_at != self._read_at:
                self._plan = parse_scheduled(self._path.read_text(encoding="utf-8", errors="replace"))
                self._read_at = changed_at
        except OSError:
            # There is none, or it has just been taken back.
            self._read_at = self._plan = None
        if self._plan is None:
            return None
        at, mode = self._plan
        now = time.time()
        grace = grace_now(at - now, self._grace)
        if grace is None:
            return None
        clock = time.strftime("%H:%M:%S UTC", time.gmtime(at))
        what = "restarts" if mode in ("reboot", "kexec", "soft-reboot") else "shuts down"
        return StopRequest(EndReason.STOPPED, grace, now, f"the machine {what} at {clock}, as planned")


def parse_scheduled(text: str) -> tuple[float, str] | None:
    """When (seconds since the epoch) and how the machine goes; ``None`` for what plans no end. Pure."""
    values = dict(line.partition("=")[::2] for line in text.splitlines())
    mode = values.get("MODE", "poweroff")
    at = values.get("USEC", "")
    if not (at.isascii() and at.isdigit()) or mode.startswith("dry-"):
        return None
    return int(at) / 1_000_000, mode


def grace_now(left: float, grace: float) -> float | None:
    """The grace of a run that is to end now, with ``left`` seconds until the machine goes; ``None`` to go on. Pure.

    When it is over already, init has sent or sends SIGTERM itself.
    """
    if left <= 0 or left > grace + RESERVE_SECONDS:
        return None
    return min(grace, max(left - RESERVE_SECONDS, left / 2))
