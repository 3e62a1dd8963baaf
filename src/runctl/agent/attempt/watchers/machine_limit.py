"""The machine ends itself at a limit, or the run has done nothing for too long: what the guard has found."""

from __future__ import annotations

import time

from runctl.agent.attempt.watchers.interface import Watched
from runctl.agent.attempt.watchers.planned_shutdown import RESERVE_SECONDS
from runctl.agent.end_reason import EndReason
from runctl.agent.guard.activity import now, read_object
from runctl.agent.guard.daemon import STATUS, number
from runctl.agent.guard.limits import EndCause, duration_text
from runctl.agent.machine.root import on_machine
from runctl.agent.records import StopRequest

POLL_SECONDS = 2.0
STALE_SECONDS = 60.0
"""What the guard found so long ago says nothing of now."""
ASKED_BEFORE_SECONDS = 120.0
"""So long before the run is ended it is asked for a checkpoint: it may know that signal, and not SIGTERM."""
ENDS_RUNS = {EndCause.TIME_LIMIT.value: "the machine's time to live", EndCause.BUDGET.value: "the budget"}
"""What of the machine's limits ends a run, by the guard's word for it."""


class MachineLimit:
    """Ends a run so early that its last checkpoint is safe when the machine's time or budget is over."""

    sharpens = False

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._status = on_machine(str(STATUS))
        self._next_poll = 0.0
        self._asked = False
        self._wrote_at, self._log_bytes = now(), -1

    def stop_request(self) -> StopRequest | None:
        """With TIME_LIMIT or BUDGET by the machine's limits, with IDLE by the run's own."""
        if time.monotonic() < self._next_poll:
            return None
        self._next_poll = time.monotonic() + POLL_SECONDS
        found = read_object(self._status)
        if not found:
            return None
        return self._by_machine(found) or self._by_idleness(found)

    def _by_machine(self, found: dict[str, object]) -> StopRequest | None:
        cause, ends_at = found.get("cause"), number(found.get("ends_at"))
        if cause not in ENDS_RUNS or ends_at is None:
            self._asked = False
            return None
        left, grace = ends_at - now(), self._watched.spec.grace_seconds
        lead = lead_seconds(grace, self._watched.publish_seconds())
        what = ENDS_RUNS[str(cause)]
        if left <= lead:
            message = f"{what} is used up in {duration_text(max(0.0, left))}"
            return StopRequest(EndReason(cause), grace, time.time(), message)
        if left > lead + ASKED_BEFORE_SECONDS:
            # Or more time was given meanwhile.
            self._asked = False
        elif not self._asked:
            self._asked = True
            self._watched.log(f"{what} is used up in {duration_text(left)}")
            self._watched.ask_for_checkpoint()
        return None

    def _by_idleness(self, found: dict[str, object]) -> StopRequest | None:
        limit, busy_at = self._watched.spec.idle_seconds, number(found.get("busy_at"))
        at = number(found.get("at"))
        if limit is None or busy_at is None or self._watched.script_began() is None:
            return None
        if at is None or now() - at > STALE_SECONDS:
            # Nobody has looked: that is not idleness.
            self._wrote_at = now()
            return None
        size = self._watched.folder.log_bytes()
        if size != self._log_bytes:
            self._log_bytes, self._wrote_at = size, now()
        idle = now() - max(busy_at, self._wrote_at)
        if idle < limit:
            return None
        message = f"the run has used nothing and written nothing for {duration_text(idle)}"
        return StopRequest(EndReason.IDLE, self._watched.spec.grace_seconds, time.time(), message)


def lead_seconds(grace: float, publish: float) -> float:
    """So long before the machine's end a run is ended: for its grace, its last checkpoint's way to the store, and its
    end. What is measured may take twice as long. Pure."""
    return grace + 2 * publish + RESERVE_SECONDS
