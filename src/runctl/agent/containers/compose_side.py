"""The services beside a run: their words in its log, each line with its service, and a word when one ends."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from pathlib import Path

from runctl.agent.containers import docker
from runctl.agent.containers.compose_project import Member, members
from runctl.agent.containers.container_run import Beside
from runctl.agent.spec import EndReason
from runctl.agent.supervising.attempt import Attempt, Outcome
from runctl.agent.supervising.shutdown import Ending

LOOK_SECONDS = 5.0
LAST_WORDS_SECONDS = 10.0


def with_service(service: str, data: bytes) -> bytes:
    """Each line of the data with the service before it."""
    prefix = f"{service} | ".encode()
    return b"".join(prefix + line + b"\n" for line in data.splitlines())


class _Voice:
    """What one side-car says: ``docker logs`` writes it to a file of its own, whole lines are taken from there."""

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

    def take_over(self, everything: bool = False) -> None:
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
            size = len(data) if everything else data.rfind(b"\n") + 1
            self._read += size
            if size:
                self._attempt.log.lines(with_service(self.service, data[:size]))

    def finish(self) -> None:
        """All that it has said until now; its followers have ended."""
        began = time.monotonic()
        # From its beginning: it is the same bytes, however far the one who followed has come.
        self._attempt.children.wait(self._start(), lambda: _late(began))
        self.take_over(everything=True)
        self._path.unlink(missing_ok=True)


def _late(began: float) -> Ending | None:
    over = time.monotonic() - began > LAST_WORDS_SECONDS
    return Ending(began + LAST_WORDS_SECONDS, 1.0) if over else None


class SideCars(Beside):
    """All of them."""

    def __init__(self, attempt: Attempt, engine: docker.Engine, project: str, names: list[str]) -> None:
        self._attempt, self._engine, self._project, self._names = attempt, engine, project, names
        self._voices: list[_Voice] = []
        self._next_look = 0.0
        self._ended: dict[str, int] = {}

    def look(self) -> None:
        """Take over what has been said; now and then, see who still runs."""
        if self._names and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_SECONDS
            self._see()
        for one in self._voices:
            one.take_over()

    def close(self) -> None:
        """Everything that they said so far is in the log, and nobody follows any more."""
        if not self._names:
            return
        self._see()
        self._attempt.children.end_all(1.0)
        for one in self._voices:
            one.finish()

    def explain(self, outcome: Outcome) -> Outcome:
        """A run that failed may have done so because of one of them."""
        broken = sorted(name for name, code in self._ended.items() if code != 0)
        if outcome.reason is not EndReason.FAILED or not broken:
            return outcome
        words = ", ".join(f"{name} with exit code {self._ended[name]}" for name in broken)
        return dataclasses.replace(outcome, message=f"{outcome.message}; before, side-car {words}")

    def _see(self) -> None:
        there = [one for one in members(self._engine, self._project) if one.service in self._names]
        if not self._voices:
            self._voices = [_Voice(self._attempt, self._engine, one) for one in there]
        for one in there:
            if one.state == "exited" and one.service not in self._ended:
                self._ended[one.service] = one.exit_code
                words = "side-car {} has ended with exit code {}"
                self._attempt.log.line(words.format(one.service, one.exit_code))
