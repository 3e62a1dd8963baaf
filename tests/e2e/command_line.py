"""The real command line, as a user runs it: a process of its own, in a folder, with variables."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.forked import client
from tests.forked.client import Forked

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """A command that has ended."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as the one JSON document that it is."""
        return json.loads(self.out)

    @property
    def error(self) -> Mapping[str, str]:
        """The JSON error that is the last thing on stderr."""
        start = self.err.rindex('{\n  "error"')
        found: Mapping[str, str] = json.loads(self.err[start:])["error"]
        return found

    def ok(self) -> Outcome:
        """Itself, where the command succeeded."""
        assert self.code == 0, f"{self}"
        return self

    def __str__(self) -> str:
        return (
            f"runctl {' '.join(self.argv)}\nexit code {self.code}\nstdout:\n{self.out}\nstderr:\n{self.err}"
        )


@dataclass
class CommandLine:
    """``runctl`` in one folder with one set of variables."""

    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *argv: object, stdin: str | bytes | None = None, timeout: float = 120) -> Outcome:
        """Run to the end."""
        data = stdin.encode() if isinstance(stdin, str) else stdin or b""
        return self._run("", argv, data, timeout)

    def another(self, program: str, *argv: object, timeout: float = 120) -> Outcome:
        """Run one that stands in for runctl to its end, of those that `tests.forked.commands` has."""
        return self._run(program, argv, b"", timeout)

    def _run(self, program: str, argv: tuple[object, ...], stdin: bytes, timeout: float) -> Outcome:
        arguments = tuple(str(argument) for argument in argv)
        env = {**os.environ, **self.env}
        code, out, err = client.run(
            arguments, cwd=self.cwd, env=env, stdin=stdin, timeout=timeout, program=program
        )
        return Outcome(arguments, code, out.decode(errors="replace"), err.decode(errors="replace"))

    def start(self, *argv: object) -> Forked:
        """Run beside the test, in a session of its own."""
        return client.start([*map(str, argv)], cwd=self.cwd, env={**os.environ, **self.env})

    def in_folder(self, cwd: Path) -> CommandLine:
        """The same elsewhere."""
        return CommandLine(cwd, self.env)


def kill(process: Forked, how: signal.Signals = signal.SIGKILL) -> tuple[str, str]:
    """End it, and return what it had printed."""
    process.send_signal(how)
    out, err = process.communicate(timeout=30)
    return out.decode(), err.decode()


def until(condition: Callable[[], T | None], *, seconds: float = 30, what: str = "the condition") -> T:
    """The first value of ``condition`` that counts as true."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"{what} did not come about in {seconds:.0f} s")


def write_project(folder: Path, files: Mapping[str, str]) -> Path:
    """A project: a folder under git with these files."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    return folder
