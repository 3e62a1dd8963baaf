"""The attempt may go on only while its machine has the run's lease: another one may take up the run afterwards."""

from __future__ import annotations

import time

from runctl.agent.attempt.watchers.interface import Watched
from runctl.agent.encoding import from_json
from runctl.agent.end_reason import EndReason
from runctl.agent.lease import clock
from runctl.agent.machine import durable
from runctl.agent.records import HeldLease, StopRequest, lease_file

RESERVE = 1 / 18
"""The part of a lease's time that is left at SIGKILL: 10 s of three minutes."""
MOST_GRACE = 1 / 3
"""What a lease leaves a script for its last checkpoint at most, whatever grace the run has."""


class LeaseWatch:
    """Ends a run in time before its machine's lease does, and when another machine asks for the run.

    The lease is kept by a process of its own (`runctl.agent.supervising.run_keeper`), which writes down how far it is.
    """

    sharpens = True

    def __init__(self, watched: Watched) -> None:
        self._leased, self._grace = watched.spec.leased, watched.spec.grace_seconds
        self._path = lease_file(watched.spec.run_id)
        self._read_at: int | None = None
        self._held = HeldLease(0.0)
        self._lost: StopRequest | None = None
        self._handed_over: StopRequest | None = None

    def stop_request(self) -> StopRequest | None:
        """With LOST while there is time for the grace, or with MOVED for whoever asks."""
        if not self._leased or self._lost is not None:
            return self._lost
        self._read()
        grace = grace_left(self._held.until - clock(), self._held.seconds, self._grace)
        if grace is not None:
            why = self._held.trouble or "another machine has it, or nobody on this one renews it"
            if self._handed_over is not None:
                # Counted from the first request on.
                grace += time.time() - self._handed_over.requested_at
            self._lost = StopRequest(EndReason.LOST, grace, time.time(), f"the run's lease is lost: {why}")
            return self._lost
        if self._held.wanted_by and self._handed_over is None:
            message = f"{self._held.wanted_by} takes over the run"
            self._handed_over = StopRequest(EndReason.MOVED, self._grace, time.time(), message)
        return self._handed_over

    def _read(self) -> None:
        try:
            changed_at = self._path.stat().st_mtime_ns
            if changed_at != self._read_at:
                self._held = from_json(HeldLease, durable.read_json(self._path) or {"until": 0.0})
                self._read_at = changed_at
        except FileNotFoundError:
            self._held, self._read_at = HeldLease(0.0), None


def grace_left(left: float, seconds: float, grace: float) -> float | None:
    """The grace of a run that must end now, ``left`` seconds before the end of a lease that is renewed for ``seconds``;
    ``None``: it may go on. Pure."""
    wanted, reserve = min(grace, seconds * MOST_GRACE), seconds * RESERVE
    if left > wanted + reserve:
        return None
    return round(max(0.0, min(wanted, left - reserve)), 1)
