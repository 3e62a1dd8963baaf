"""Another machine of the run has ended, or is ending: this one ends, too."""

from __future__ import annotations

import time

from runctl.agent.attempt.watchers.interface import Watched
from runctl.agent.end_reason import TOLD_TO_END, EndReason
from runctl.agent.interruption import plan_time
from runctl.agent.node_spec import NodeCause
from runctl.agent.records import StopRequest

RESTART_GRACE_SECONDS = 10.0
"""The most that a script has to save before it begins again: one that waits for a machine that is gone does nothing
else."""


class OtherNodes:
    """Ends an attempt for what has happened on another machine of the run."""

    sharpens = False

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._told: frozenset[int] = frozenset()

    def stop_request(self) -> StopRequest | None:
        """With the other machine's rank, unless it is this one alone that the run has lost."""
        peers = self._watched.peers
        if peers is None:
            return None
        for rank in set(peers.gone) - self._told:
            self._watched.log(f"node {rank} is gone; the run goes on without it")
        self._told |= set(peers.gone)
        grace, publish_seconds, now = (
            self._watched.spec.grace_seconds,
            self._watched.publish_seconds(),
            time.time(),
        )
        if peers.cause is not None:
            return request_of(peers.cause, grace, publish_seconds, now)
        if peers.lost is not None:
            return StopRequest(EndReason.LOST, grace, now, peers.lost.message)
        if peers.must_restart:
            return retried(max(peers.gone), grace, now)
        return None


def retried(gone: int, grace: float, now: float) -> StopRequest:
    """What is asked of a script that is to begin again without the machine of that rank. Pure."""
    message = f"node {gone} is gone: the script begins again without it"
    return StopRequest(
        EndReason.STOPPED, min(grace, RESTART_GRACE_SECONDS), now, message, caused_by=gone, for_restart=True
    )


def request_of(cause: NodeCause, grace: float, publish_seconds: float, now: float) -> StopRequest:
    """What another machine's end asks of this one. Pure."""
    reason = EndReason(cause.reason)
    if cause.machine_ends_at is not None:
        # All save what they have at the same time; what only that machine has is lost with it.
        grace = max(1.0, min(grace, plan_time(cause.machine_ends_at - now, publish_seconds).grace))
    about = cause.message if cause.message.startswith("node ") else f"node {cause.rank}: {cause.message}"
    reason = reason if reason in TOLD_TO_END else EndReason.STOPPED
    return StopRequest(reason, round(grace, 1), now, about.splitlines()[0], caused_by=cause.rank)
