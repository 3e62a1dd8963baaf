"""The provider takes the machine back: its notice, or one that a user plays."""

from __future__ import annotations

import time

from runctl.agent.attempt.watchers.interface import Watched
from runctl.agent.interruption import Notice, plan_time
from runctl.agent.records import StopRequest
from runctl.agent.spec import EndReason


class InterruptionNotice:
    """Ends a run whose machine is taken back, with as much grace as the time until then allows.

    A run that ends already has no more grace than that from now on.
    """

    sharpens = True

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._path = watched.folder.path / "notice.json"
        self._heard: Notice | None = None
        self._request: StopRequest | None = None

    def stop_request(self) -> StopRequest | None:
        """With INTERRUPTED. A second notice makes no second end; an earlier one makes it come earlier."""
        notice = self._watched.notices.interruption
        if notice is None and self._path.exists():
            notice = self._watched.folder.notice()
        if notice is not None and (
            self._heard is None or notice.machine_ends_at < self._heard.machine_ends_at
        ):
            self._heard = notice
            self._request = interruption_request(notice, self._watched.publish_seconds(), time.time())
        return self._request


def interruption_request(notice: Notice, publish_seconds: float, now: float) -> StopRequest:
    """What a notice that was heard ``now`` asks of the run. Pure."""
    grace = plan_time(notice.machine_ends_at - now, publish_seconds).grace
    if notice.moves:
        reason, message = EndReason.MOVED, f"it continues on another machine: {notice.why}"
        return StopRequest(reason, round(grace, 1), now, message, notice.machine_ends_at)
    if notice.why:
        message = notice.why
    elif notice.is_rehearsal:
        message = f"an interruption is rehearsed, as if the machine ended at {notice.ends_at_text}"
    else:
        does = {"stop": "stops the spot machine", "hibernate": "hibernates the spot machine"}
        message = f"EC2 {does.get(notice.action, 'takes the spot machine back')} at {notice.ends_at_text}"
    return StopRequest(EndReason.INTERRUPTED, round(grace, 1), now, message, notice.machine_ends_at)
