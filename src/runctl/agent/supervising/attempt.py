"""One attempt as its supervisor holds it: what it may ask of the machine, and when it must end."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runctl.agent.disks.mount_watch import MountWatch
from runctl.agent.disks.places import Places, places
from runctl.agent.environments.script import NETWORK
from runctl.agent.errors import AgentError
from runctl.agent.machine import durable
from runctl.agent.spec import EndReason, RunSpec, RunState
from runctl.agent.supervising.children import Children, Ended
from runctl.agent.supervising.collector import Collector, witness
from runctl.agent.supervising.log import FULL, Log
from runctl.agent.supervising.planned_shutdown import PlannedShutdown
from runctl.agent.supervising.shutdown import Ending
from runctl.agent.supervising.state import AttemptFolder, StopRequest, changed, state_directory
from runctl.agent.supervising.watchers import LostVolume, StopFile, SupervisorSignal, TimeLimit, Watcher

SETUP_GRACE_SECONDS = 5.0
"""Installers and builders have nothing to save."""

WITNESS_SECONDS = 0.2
"""For a process that has got a signal to run its handler."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended, before it is written down."""

    reason: EndReason
    message: str
    exit_code: int | None = None
    signal: int | None = None
    max_rss_bytes: int | None = None
    cpu_seconds: float | None = None


class EndedEarlyError(Exception):
    """Somebody, or a limit, ended the attempt before its script could start."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


def marks(run_id: str, attempt: int) -> dict[str, str]:
    """Variables that a process of this attempt has, and one of another agent's on this computer has not."""
    import hashlib

    whole = f"{state_directory()}\0{run_id}\0{attempt}"
    return {"RUNCTL_PROCESS_MARK": hashlib.sha256(whole.encode()).hexdigest()[:16]}


class Attempt:
    """The spec, the log, the children and the wish to end, in one hand."""

    def __init__(self, folder: AttemptFolder, spec: RunSpec, log: Log, children: Children) -> None:
        self.folder = folder
        self.spec = spec
        self.log = log
        self.children = children
        self.live = folder.live()
        self.where: Places = places(spec, folder)
        self.volumes = MountWatch(spec)
        self.collector = Collector(folder.path, log, children)
        self._script_began: float | None = None
        self._request: StopRequest | None = None
        self._ending: Ending | None = None
        self._stop = StopFile(folder)
        self._watchers: list[Watcher] = [
            SupervisorSignal(children, spec),
            LostVolume(self.volumes, spec, lambda: self._script_began, log.line),
            TimeLimit(spec, lambda: self._script_began),
            PlannedShutdown(spec),
        ]

    def update(self, **values: Any) -> None:
        """Write down what has changed. A full disk does not stop a training: the old state is shown meanwhile."""
        self.live = changed(self.live, **values)
        try:
            self.folder.write_live(self.live)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self.log.disk_full = True

    def phase(self, words: str) -> None:
        """Say what is being done, in the log and in the status."""
        self.log.line(words)
        self.update(phase=words)

    def script_began(self) -> None:
        """The time limit counts from here."""
        self._script_began = time.monotonic()

    @property
    def request(self) -> StopRequest | None:
        """Why the attempt is to end, if it is."""
        self.ending()
        return self._request

    def ending(self) -> Ending | None:
        """The wish to end, from the moment on at which it was first seen; a later, less patient one sharpens it."""
        if self.collector.keep_going():
            self.update(follower=self.collector.identity())
        request = self._wanted_end()
        if request is None:
            return None
        if self._ending is None:
            told = self.children.terminated and self._everybody_was_told()
            self._request, self._ending = request, Ending(time.monotonic(), request.grace_seconds, told)
            with contextlib.suppress(OSError):
                self.update(state=RunState.STOPPING, phase=request.message)
            self.log.line(f"{request.message}: SIGTERM, then {request.grace_seconds:g} s of grace")
        elif request.grace_seconds < self._ending.grace:
            self._ending = dataclasses.replace(self._ending, grace=request.grace_seconds)
        return self._ending

    def _wanted_end(self) -> StopRequest | None:
        asked = self._stop.request()
        if asked is not None or self._request is not None:
            return asked or self._request
        return next(filter(None, (one.request() for one in self._watchers)), None)

    def _everybody_was_told(self) -> bool:
        seen = witness(self.folder.path)
        deadline = time.monotonic() + WITNESS_SECONDS
        while not seen.exists() and time.monotonic() < deadline:
            self.children.pause(0.02)
        return seen.exists()

    def check(self) -> None:
        """Go on, or raise `EndedEarlyError`."""
        request = self.request
        if request is not None:
            raise EndedEarlyError(Outcome(request.reason, request.message))

    def _setup_ending(self) -> Ending | None:
        wish = self.ending()
        return None if wish is None else Ending(wish.began, min(wish.grace, SETUP_GRACE_SECONDS))

    def wait_setup(self, pid: int) -> Ended:
        """Wait for a child of the set-up. Raises `EndedEarlyError` when the attempt is to end."""
        ended = self.children.wait(pid, self._setup_ending)
        if ended.asked:
            self.children.end_all(SETUP_GRACE_SECONDS)
        self.check()
        return ended

    def run_step(self, phase: str, argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        """Run a command of the set-up, its output in the log. Raises `AgentError` (``setup-failed``)."""
        self.check()
        self.phase(phase)
        since = self.log.size()
        try:
            pid = self.children.start(argv, output=self.log.fd, env={**env, **self.marks()}, cwd=cwd)
        except OSError as error:
            raise AgentError("setup-failed", f"{phase}: {error}") from error
        ended = self.wait_setup(pid)
        if ended.exit_code != 0:
            how = f"exit code {ended.exit_code}" if ended.signal is None else f"signal {ended.signal}"
            words = self.log.last_lines(since)
            raise AgentError(
                "setup-failed", "{} failed ({}){}".format(phase, how, ":\n" + words if words else "")
            )

    def marks(self) -> dict[str, str]:
        """Variables by which processes of this attempt are known, wherever they go."""
        return marks(self.spec.run_id, self.spec.attempt)

    def own_environment(self) -> dict[str, str]:
        """The variables of the agent that `start` was called with: the supervisor's may be systemd's or sudo's."""
        kept = durable.read_json(self.folder.path / "environ.json") or {}
        return {**{name: str(value) for name, value in kept.items()}, **_present(NETWORK)}

    @property
    def state(self) -> Path:
        """The agent's state directory."""
        return state_directory()


def _present(names: Sequence[str]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}
