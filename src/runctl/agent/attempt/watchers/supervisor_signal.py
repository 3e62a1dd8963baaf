"""The supervisor itself has got SIGTERM: the machine goes down or is taken back, or somebody means the run."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import time
from pathlib import Path

from runctl.agent.attempt.watchers.interface import Watched
from runctl.agent.attempt.watchers.interruption_notice import announced, interruption_request
from runctl.agent.end_reason import EndReason
from runctl.agent.interruption import (
    LEAST_PUBLISH_SECONDS,
    MOST_PUBLISH_SECONDS,
    RESERVE_SECONDS,
    Notice,
)
from runctl.agent.records import StopRequest
from runctl.agent.spec import NOTICE_BY_SHUTDOWN, NOTICE_BY_SIGTERM

ANSWER_SECONDS = 0.5
"""Whoever is asked is on the machine or in its host. The training waits for its SIGTERM meanwhile."""
NO_LOGINS = Path("/run/nologin")
"""systemd makes it when a machine goes down."""


class SupervisorSignal:
    """Ends the run when its supervisor is told to end, and finds out who told it."""

    sharpens = False

    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def stop_request(self) -> StopRequest | None:
        """INTERRUPTED when EC2 says that it takes the machine back, and where such a signal is the only notice there is
        (`RunSpec.notice_by`); any other SIGTERM is STOPPED.

        A leased run goes on elsewhere when its machine goes down, by whomever: its group replaces the machine.
        """
        watched = self._watched
        if not watched.children.terminated:
            return None
        watched.notices.read_now(ANSWER_SECONDS)
        notice, now = announced(watched.notices), time.time()
        if notice is not None:
            return interruption_request(notice, watched.publish_seconds(), now)
        down, spec = goes_down(), watched.spec
        if is_notice(spec.notice_by, down):
            publish = watched.publish_seconds()
            notice = signalled_notice(now, spec.grace_seconds, publish, down)
            # The hand-over is one that counts, unlike that of a rehearsal.
            with contextlib.suppress(OSError):
                watched.folder.write_notice(notice)
            return signalled_request(notice, spec.grace_seconds, publish, now)
        reason = EndReason.INTERRUPTED if down and spec.leased else EndReason.STOPPED
        return StopRequest(reason, spec.grace_seconds, now, why_stopped(down))


def is_notice(notice_by: str | None, down: bool) -> bool:
    """Whether a SIGTERM to the supervisor is how this machine hears that it is taken back; ``down``: it shuts down.
    Pure."""
    return notice_by == NOTICE_BY_SIGTERM or (notice_by == NOTICE_BY_SHUTDOWN and down)


def signalled_notice(now: float, grace: float, publish: float, down: bool) -> Notice:
    """What such a signal says. When SIGKILL follows nobody knows: the script has the run's own grace, and publishing
    what the last checkpoint took, within bounds. Pure."""
    why = "the machine shuts down" if down else "SIGTERM to the run's supervisor, the notice on this machine"
    return Notice(now + grace + _bounded(publish) + RESERVE_SECONDS, why=why)


def _bounded(publish: float) -> float:
    return min(max(publish, LEAST_PUBLISH_SECONDS), MOST_PUBLISH_SECONDS)


def signalled_request(notice: Notice, grace: float, publish: float, now: float) -> StopRequest:
    """What such a notice asks of the script. Whoever sent the signal waits for the run's own grace, and no longer.
    Pure."""
    request = interruption_request(notice, _bounded(publish), now)
    return dataclasses.replace(request, grace_seconds=min(request.grace_seconds, grace))


def why_stopped(down: bool) -> str:
    """What a SIGTERM to the supervisor means where the provider takes nothing back; ``down``: the machine goes."""
    if down:
        return "the machine was shut down"
    return "somebody on the machine ended the run's supervisor (SIGTERM)"


def goes_down() -> bool:
    """Whether the machine is shutting down or restarting."""
    if NO_LOGINS.exists():
        return True
    if not Path("/run/systemd/system").is_dir():
        return False
    try:
        done = subprocess.run(
            ["systemctl", "is-system-running"], capture_output=True, timeout=ANSWER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == b"stopping"
