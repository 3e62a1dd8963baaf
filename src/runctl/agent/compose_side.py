"""The services beside a run: their words in its log, each line with its service, and a word when one ends."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from typing import Callable, Dict, List, Optional

from runctl.agent import docker
from runctl.agent.attempt import Attempt, Outcome
from runctl.agent.compose_project import members
from runctl.agent.container_run import Beside
from runctl.agent.spec import EndReason

LOOK_SECONDS = 5.0


class SideCars(Beside):
    """``compose logs --follow`` writes to a file of its own, from which whole lines are taken over."""

    def __init__(
        self,
        attempt: Attempt,
        engine: docker.Engine,
        project: str,
        names: List[str],
        command: Callable[..., List[str]],
    ) -> None:
        self._attempt, self._engine, self._project = attempt, engine, project
        self._names, self._command = names, command
        self._pid: Optional[int] = None
        self._path = attempt.folder.path / "side.log"
        self._read = 0
        self._next_look = 0.0
        self._ended: Dict[str, int] = {}

    def look(self) -> None:
        """Take over what has been said; now and then, see who still runs."""
        if not self._names:
            return
        if self._pid is None:
            self._follow()
        self._take_over()
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_SECONDS
            self._see()

    def close(self) -> None:
        """Everything that they said so far is in the log, and nobody follows any more."""
        if not self._names:
            return
        self._see()
        if self._pid is None:
            self._follow()
        # What has been said is on its way through Compose: it is taken over when nothing more comes.
        quiet = 0
        deadline = time.monotonic() + 5.0
        while quiet < 3 and time.monotonic() < deadline and not self._attempt.children.ended(self._pid or 0):
            quiet = 0 if self._take_over() else quiet + 1
            self._attempt.children.pause(0.2)
        self._attempt.children.end_all(1.0)
        self._take_over(everything=True)
        self._path.unlink(missing_ok=True)

    def explain(self, outcome: Outcome) -> Outcome:
        """A run that failed may have done so because of one of them."""
        broken = sorted(name for name, code in self._ended.items() if code != 0)
        if outcome.reason is not EndReason.FAILED or not broken:
            return outcome
        words = ", ".join("{} with exit code {}".format(name, self._ended[name]) for name in broken)
        return dataclasses.replace(outcome, message="{}; before, side-car {}".format(outcome.message, words))

    def _follow(self) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            argv = self._command("logs", "--follow", "--no-color", *self._names)
            env = {**os.environ, **self._attempt.marks()}
            self._pid = self._attempt.children.start(argv, output=fd, env=env, cwd=self._attempt.folder.path)
        finally:
            os.close(fd)

    def _take_over(self, everything: bool = False) -> bool:
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
            size = len(data) if everything else data.rfind(b"\n") + 1
            if size:
                self._read += size
                self._attempt.log.lines(
                    b"".join(line for line in data[:size].splitlines(True) if not _is_composes(line))
                )
            return size > 0
        return False

    def _see(self) -> None:
        for one in members(self._engine, self._project):
            if one.service in self._names and one.state == "exited" and one.service not in self._ended:
                self._ended[one.service] = one.exit_code
                self._attempt.log.line(
                    "side-car {} has ended with exit code {}".format(one.service, one.exit_code)
                )


def _is_composes(line: bytes) -> bool:
    """Compose's own words among those of the services."""
    return line.startswith(b"Attaching to ") or (b" exited with code " in line and b"|" not in line)
