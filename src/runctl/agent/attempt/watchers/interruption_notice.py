"""The provider takes the machine back: its notice, or one that a user plays."""

from __future__ import annotations

import time

from runctl.agent.attempt.watchers.interface import Watched
from runctl.agent.cloud.spot_notices import NoticeReader
from runctl.agent.end_reason import EndReason
from runctl.agent.interruption import Notice, plan_time
from runctl.agent.records import AttemptFolder, StopRequest


def announced(notices: NoticeReader, folder: AttemptFolder | None = None) -> Notice | None:
    """By what this machine's end is announced; ``None``: by nothing. What the provider says counts more than what was
    left in the attempt's folder: a notice that a user plays, a move, or a signal that was taken for one.

    Whoever wants to know it asks here.
    """
    if notices.interruption is not None or folder is None:
        return notices.interruption
    return folder.notice() if (folder.path / "notice.json").exists() else None


def supersedes(notice: Notice, heard: Notice | None) -> bool:
    """Whether what is announced now counts in place of what was ``heard`` before: it is earlier, or it is in earnest.
    Pure."""
    if heard is None or notice.machine_ends_at < heard.machine_ends_at:
        return True
    return (heard.is_rehearsal or heard.moves) and not (notice.is_rehearsal or notice.moves)


class InterruptionNotice:
    """Ends a run whose machine is taken back, with as much grace as the time until then allows.

    A run that ends already has no more grace than that from now on.
    """

    sharpens = True

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._heard: Notice | None = None
        self._request: StopRequest | None = None

    def stop_request(self) -> StopRequest | None:
        """With INTERRUPTED. A second notice makes no second end; an earlier one makes it come earlier."""
        notice = announced(self._watched.notices, self._watched.folder)
        if notice is not None and supersedes(notice, self._heard):
            self._heard = notice
            self._request = interruption_request(notice, self._watched.publish_seconds(), time.time())
        return self._request


def interruption_request(notice: Notice, publish_seconds: float, now: float) -> StopRequest:
    """What a notice that was heard ``now`` asks of the run. Pure."""
    grace = plan_time(notice.machine_ends_at - now, publish_seconds).grace
    if notice.moves:
        reason, message = EndReason.MOVED, f"it continues on another machine: {notice.why}"
        return StopRequest(reason, round(grace, 1), now, message, notice)
    if notice.why:
        message = notice.why
    elif notice.is_rehearsal:
        message = f"an interruption is rehearsed, as if the machine ended at {notice.ends_at_text}"
    else:
        does = {"stop": "stops the spot machine", "hibernate": "hibernates the spot machine"}
        message = f"EC2 {does.get(notice.action, 'takes the spot machine back')} at {notice.ends_at_text}"
    return StopRequest(EndReason.INTERRUPTED, round(grace, 1), now, message, notice)
