"""The services beside a run: found by their project's label, their output in the run's log, removed at its end."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.agent.attempt.attempt import Attempt, Outcome
from runctl.agent.end_reason import EndReason
from runctl.agent.machine import docker
from runctl.agent.machine.shutdown import Shutdown

LABEL = "com.docker.compose.project"
STOP_SECONDS = 5
"""For side-cars; the run itself has had its grace by then."""
HURRIED_STOP_SECONDS = 1
"""The same where the machine is being taken back: what the run has saved is waiting."""


@dataclass(frozen=True)
class Member:
    """One container of the project."""

    container_id: str
    service: str
    state: str
    """``created``, ``running``, ``exited``, …"""
    exit_code: int


def members(engine: docker.Engine, project: str) -> list[Member]:
    """All of them, as they are now; none when the engine cannot be asked."""
    ids = _ids(engine, "ps", "--all", project)
    if not ids:
        return []
    done = engine.call("container", "inspect", *ids)
    try:
        facts = json.loads(done.stdout)
    except ValueError:
        return []
    return [
        Member(
            container["Id"],
            str(((container.get("Config") or {}).get("Labels") or {}).get("com.docker.compose.service", "")),
            str((container.get("State") or {}).get("Status", "")),
            int((container.get("State") or {}).get("ExitCode") or 0),
        )
        for container in facts
    ]


def remove_project(engine: docker.Engine, project: str, *, hurry: bool = False) -> None:
    """No container, network or volume of the project is left; volumes that the file calls external are not its own."""
    containers = _ids(engine, "ps", "--all", project)
    if containers:
        seconds = HURRIED_STOP_SECONDS if hurry else STOP_SECONDS
        patience = 60.0 + seconds * len(containers)
        engine.call("stop", "--time", str(seconds), *containers, timeout=patience)
        engine.call("rm", "--force", "--volumes", *containers, timeout=patience)
    for kind in ("network", "volume"):
        found = _ids(engine, kind, "ls", project)
        if found:
            engine.call(kind, "rm", *found)


def _ids(engine: docker.Engine, first: str, second: str, project: str) -> list[str]:
    done = engine.call(first, second, "--quiet", "--filter", f"label={LABEL}={project}")
    return docker.text(done.stdout).split() if done.returncode == 0 else []


INSPECT_SECONDS = 5.0
LAST_LINES_SECONDS = 10.0


def with_service(service: str, data: bytes) -> bytes:
    """Each line of the data with the service before it."""
    prefix = f"{service} | ".encode()
    return b"".join(prefix + line + b"\n" for line in data.splitlines())


class SidecarLog:
    """The output of one side-car: ``docker logs`` writes it to a file of its own, whole lines are taken from there."""

    def __init__(self, attempt: Attempt, engine: docker.Engine, member: Member) -> None:
        self.service = member.service
        self._attempt, self._engine, self._id = attempt, engine, member.container_id
        self._path = attempt.folder.path / f"side-{member.container_id[:12]}.log"
        self._read = 0
        self._start("--follow")

    def _start(self, *options: str) -> int:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            argv = self._engine.command("logs", *options, self._id)
            env = {**os.environ, **self._attempt.marks()}
            return self._attempt.children.start(argv, output=fd, env=env, cwd=Path("/"))
        finally:
            os.close(fd)

    def copy_new(self, everything: bool = False) -> None:
        """The run's log has all whole lines so far, or all there is with ``everything``."""
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
            size = len(data) if everything else data.rfind(b"\n") + 1
            self._read += size
            if size:
                self._attempt.log.lines(with_service(self.service, data[:size]))

    def finish(self) -> None:
        """The run's log has all of its output until now; its followers have ended."""
        began = time.monotonic()
        # From its beginning: it is the same bytes, however far its follower has come.
        self._attempt.children.wait(self._start(), lambda: _late(began))
        self.copy_new(everything=True)
        self._path.unlink(missing_ok=True)


def _late(began: float) -> Shutdown | None:
    over = time.monotonic() - began > LAST_LINES_SECONDS
    return Shutdown(began + LAST_LINES_SECONDS, 1.0) if over else None


class Sidecars:
    """All services beside the run's, as one companion of its container."""

    def __init__(self, attempt: Attempt, engine: docker.Engine, project: str, names: Sequence[str]) -> None:
        self._attempt, self._engine, self._project, self._names = attempt, engine, project, names
        self._logs: list[SidecarLog] = []
        self._next_inspection = 0.0
        self._exit_codes: dict[str, int] = {}

    def keep_going(self) -> None:
        """Copy their new output; now and then, check which of them still run."""
        if self._names and time.monotonic() >= self._next_inspection:
            self._next_inspection = time.monotonic() + INSPECT_SECONDS
            self._inspect()
        for log in self._logs:
            log.copy_new()

    def close(self) -> None:
        """Everything that they said so far is in the log, and nobody follows any more."""
        if not self._names:
            return
        self._inspect()
        self._attempt.children.end_all(1.0)
        for log in self._logs:
            log.finish()

    def explain(self, outcome: Outcome) -> Outcome:
        """A run that failed may have done so because of one of them."""
        failed = [f"{name} with exit code {code}" for name, code in sorted(self._exit_codes.items()) if code]
        if outcome.reason is not EndReason.FAILED or not failed:
            return outcome
        return dataclasses.replace(
            outcome, message=f"{outcome.message}; before, side-car {', '.join(failed)}"
        )

    def _inspect(self) -> None:
        found = [member for member in members(self._engine, self._project) if member.service in self._names]
        if not self._logs:
            self._logs = [SidecarLog(self._attempt, self._engine, member) for member in found]
        for member in found:
            if member.state == "exited" and member.service not in self._exit_codes:
                self._exit_codes[member.service] = member.exit_code
                self._attempt.log.line(
                    f"side-car {member.service} has ended with exit code {member.exit_code}"
                )
