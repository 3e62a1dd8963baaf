"""What may end an attempt from outside of its script: one watcher for each cause, all behind one method."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from runctl.agent.cloud.metadata import Metadata
from runctl.agent.spec import EndReason, RunSpec
from runctl.agent.supervising.state import AttemptFolder, StopRequest

if TYPE_CHECKING:
    from runctl.agent.disks.mount_watch import MountWatch
    from runctl.agent.supervising.children import Children

METADATA_SECONDS = 0.5
"""The service is in the machine's own host. The training waits for its SIGTERM meanwhile."""
NO_LOGINS = Path("/run/nologin")
"""systemd makes it when a machine goes down."""


class Watcher:
    """Looks at one thing that may end an attempt."""

    def request(self) -> StopRequest | None:
        """Why the attempt is to end now, and with how much grace; ``None`` while it may go on."""
        raise NotImplementedError


class StopFile(Watcher):
    """Somebody has called ``stop``; calling it again with less grace counts as well."""

    def __init__(self, folder: AttemptFolder) -> None:
        self._folder = folder
        self._path = folder.path / "stop.json"
        self._seen: int | None = None
        self._request: StopRequest | None = None

    def request(self) -> StopRequest | None:
        """What was asked for last."""
        try:
            seen = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return self._request
        if seen != self._seen:
            self._seen, self._request = seen, self._folder.stop_request()
        return self._request


class SupervisorSignal(Watcher):
    """The supervisor itself has got SIGTERM: the machine goes down, or somebody means it."""

    def __init__(self, children: Children, spec: RunSpec) -> None:
        self._children = children
        self._spec = spec

    def request(self) -> StopRequest | None:
        """With the truth about who it was, as far as the machine knows."""
        if not self._children.terminated:
            return None
        reason, message = why_told(spot_notice(), goes_down())
        return StopRequest(reason, self._spec.grace_seconds, time.time(), message)


class TimeLimit(Watcher):
    """The script has had its time."""

    def __init__(self, spec: RunSpec, began: Callable[[], float | None]) -> None:
        self._spec = spec
        self._began = began

    def request(self) -> StopRequest | None:
        """Counted from the script's start."""
        limit, began = self._spec.timeout_seconds, self._began()
        if limit is None or began is None or time.monotonic() - began < limit:
            return None
        message = f"the time limit of {limit:g} s is over"
        return StopRequest(EndReason.TIME_LIMIT, self._spec.grace_seconds, time.time(), message)


class LostVolume(Watcher):
    """A volume of the run's was taken away."""

    def __init__(
        self,
        volumes: MountWatch,
        spec: RunSpec,
        began: Callable[[], float | None],
        say: Callable[[str], None],
    ) -> None:
        self._volumes = volumes
        self._spec = spec
        self._began = began
        self._say = say

    def request(self) -> StopRequest | None:
        """Every trouble is said once; a volume that is lost ends the run."""
        if self._began() is None:
            return None
        lost = None
        for trouble in self._volumes.news():
            self._say("warning: " + trouble.words)
            lost = lost or (trouble.words if trouble.lost else None)
        if lost is None:
            return None
        return StopRequest(EndReason.DATA_FAILED, self._spec.grace_seconds, time.time(), lost)


def why_told(notice: str | None, down: bool) -> tuple[EndReason, str]:
    """The reason and the words for a SIGTERM to the supervisor: ``notice`` is EC2's, ``down`` the machine's state."""
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
    said = json.loads(body)
    return "{} at {}".format(said["action"], said["time"]) if isinstance(said, dict) else "notice"
