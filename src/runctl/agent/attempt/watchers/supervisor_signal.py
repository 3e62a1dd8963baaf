"""The supervisor itself has got SIGTERM: the machine goes down, or somebody means the run."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from runctl.agent.attempt.watchers.interface import Watched
from runctl.agent.attempt.watchers.interruption_notice import interruption_request
from runctl.agent.records import StopRequest
from runctl.agent.spec import EndReason

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
        """INTERRUPTED when EC2 says that it takes the machine back; any other SIGTERM is STOPPED.

        A leased run goes on elsewhere when its machine goes down, by whomever: its group replaces the machine.
        """
        watched = self._watched
        if not watched.children.terminated:
            return None
        watched.notices.read_now(ANSWER_SECONDS)
        notice = watched.notices.interruption
        if notice is not None:
            return interruption_request(notice, watched.publish_seconds(), time.time())
        down = goes_down()
        reason = EndReason.INTERRUPTED if down and watched.spec.leased else EndReason.STOPPED
        return StopRequest(reason, watched.spec.grace_seconds, time.time(), why_stopped(down))


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
