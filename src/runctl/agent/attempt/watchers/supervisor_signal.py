"""The supervisor itself has got SIGTERM: the machine goes down, or somebody means the run."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from runctl.agent.attempt.watchers.interface import Watched
from runctl.agent.cloud.metadata import Metadata
from runctl.agent.records import StopRequest
from runctl.agent.spec import EndReason

METADATA_SECONDS = 0.5
"""The service is in the machine's own host. The training waits for its SIGTERM meanwhile."""
NO_LOGINS = Path("/run/nologin")
"""systemd makes it when a machine goes down."""


class SupervisorSignal:
    """Ends the run when its supervisor is told to end, and finds out who told it."""

    sharpens = False

    def __init__(self, watched: Watched) -> None:
        self._children = watched.children
        self._spec = watched.spec

    def stop_request(self) -> StopRequest | None:
        """INTERRUPTED only when EC2 says that it takes the machine back; any other SIGTERM is STOPPED."""
        if not self._children.terminated:
            return None
        reason, message = why_terminated(spot_notice(), goes_down())
        return StopRequest(reason, self._spec.grace_seconds, time.time(), message)


def why_terminated(notice: str | None, down: bool) -> tuple[EndReason, str]:
    """The reason and the message for a SIGTERM to the supervisor: ``notice`` is EC2's, ``down`` the machine's state."""
    if notice is not None:
        return EndReason.INTERRUPTED, f"EC2 takes the spot machine back ({notice})"
    if down:
        return EndReason.STOPPED, "the machine was shut down"
    return EndReason.STOPPED, "somebody on the machine ended the run's supervisor (SIGTERM)"


def goes_down() -> bool:
    """Whether the machine is shutting down or restarting."""
    if NO_LOGINS.exists():
        return True
    if not Path("/run/systemd/system").is_dir():
        return False
    try:
        done = subprocess.run(
            ["systemctl", "is-system-running"], capture_output=True, timeout=METADATA_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == b"stopping"


def spot_notice() -> str | None:
    """EC2's notice that it takes the machine back: what it does, and when; ``None`` without one (instance metadata,
    ``spot/instance-action``)."""
    try:
        body = Metadata(os.environ, METADATA_SECONDS).get("spot/instance-action")
        return None if body is None else _notice(body)
    except (OSError, ValueError, KeyError):
        return None


def _notice(body: str) -> str:
    notice = json.loads(body)
    return f"{notice['action']} at {notice['time']}" if isinstance(notice, dict) else "notice"
