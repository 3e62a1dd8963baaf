"""Drives a real agent: the zipapp, as a process of its own, with a state directory of its own."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runctl.agent.encoding import from_json
from runctl.agent.end_reason import EndReason
from runctl.agent.spec import AttemptStatus, EndRecord, LogFrame, RunState
from tests.agent import forked

LIMIT_SECONDS = 60.0

SLEEPER = "import time\nprint('up')\nwhile True: time.sleep(0.1)\n"
FAMILY = (
    "import os, subprocess, sys, time\n"
    "code = 'import time; time.sleep(1000)'\n"
    "child = subprocess.Popen([sys.executable, '-c', code])\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork() == 0:\n"
    "        print('daemon', os.getpid(), flush=True)\n"
    "        time.sleep(1000)\n"
    "    os._exit(0)\n"
    "print('child', child.pid, flush=True)\n"
)
"""A script with a child and a daemon, of which it prints the ids."""


def until(condition: Callable[[], Any], what: str | Callable[[], str], limit: float = LIMIT_SECONDS) -> Any:
    """Wait for a condition and return its first true value."""
    deadline = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            told = what if isinstance(what, str) else what()
            raise AssertionError(f"{told} did not happen within {limit} s")
        time.sleep(0.02)


@dataclass(frozen=True)
class Answer:
    """What one verb said."""

    exit_code: int
    value: Any
    stderr: str = ""

    @property
    def ok(self) -> Any:
        assert "ok" in self.value, self.value
        assert self.exit_code == 0
        return self.value["ok"]

    @property
    def error(self) -> dict[str, str]:
        assert "error" in self.value, self.value
        assert self.exit_code == 1
        return dict(self.value["error"])


@dataclass
class Agent:
    """One machine's agent."""

    archive: Path
    state: Path
    python: str = sys.executable
    env: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    """Stands before every call: ``nsenter …``, ``runuser …``."""
    login_home: Path | None = None
    """The login user's, in place of the real one's."""
    started: list[str] = field(default_factory=list)
    limit_seconds: float = LIMIT_SECONDS
    """For the script to say something; twice that to end."""

    @property
    def environment(self) -> dict[str, str]:
        home = {"RUNCTL_LOGIN_HOME": str(self.login_home)} if self.login_home is not None else {}
        return {**os.environ, "RUNCTL_AGENT_STATE": str(self.state), **home, **self.env}

    def command(self, *argv: str) -> list[str]:
        return [*self.prefix, self.python, str(self.archive), *argv]

    def call(self, verb: str, request: Mapping[str, Any] | None = None, payload: bytes = b"") -> Answer:
        code, out, err = self._run(verb, json.dumps(request or {}).encode() + b"\n" + payload)
        try:
            value = json.loads(out)
        except ValueError:
            raise AssertionError(f"{verb}: {out!r} {err!r}") from None
        return Answer(code, value, err.decode())

    def _run(self, verb: str, data: bytes, *, timeout: float = 120) -> tuple[int, bytes, bytes]:
        """The exit code, stdout and stderr; its first call is the archive's own, which unpacks it."""
        if not self.prefix and self.python == sys.executable and forked.unpacked(self.archive).is_dir():
            return forked.run(self.archive, [verb], env=self.environment, stdin=data, timeout=timeout)
        done = subprocess.run(
            self.command(verb),
            input=data,
            capture_output=True,
            env=self.environment,
            timeout=timeout,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def sync(self, files: Mapping[str, str | tuple[str, bool]], project: str = "project") -> str:
        """Make these files the project's tree and return its digest."""
        entries: dict[str, list[Any]] = {}
        contents: dict[str, bytes] = {}
        for path, what in files.items():
            text, executable = what if isinstance(what, tuple) else (what, False)
            data = text.encode()
            sha = hashlib.sha256(data).hexdigest()
            contents[sha] = data
            entries[path] = ["f", int(executable), len(data), sha]
        manifest = json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()
        digest = hashlib.sha256(manifest).hexdigest()
        header = json.dumps([[sha, len(data)] for sha, data in contents.items()]).encode() + b"\n"
        request = {
            "project": project,
            "digest": digest,
            "manifest": base64.b64encode(gzip.compress(manifest)).decode(),
            "pack_follows": True,
        }
        pack = gzip.compress(header + b"".join(contents.values()))
        assert self.call("apply", request, pack).ok["applied"] is True
        return digest

    def start(self, run_id: str, script: str, *args: str, **more: Any) -> AttemptStatus:
        spec = {"run_id": run_id, "script": script, "args": list(args), "grace_seconds": 5.0, **more}
        self.started.append(run_id)
        return from_json(AttemptStatus, self.call("start", {"spec": spec}).ok)

    def refused(self, run_id: str, script: str, **more: Any) -> dict[str, str]:
        """The error of a start that must not succeed, and leave nothing."""
        error = self.call("start", {"spec": {"run_id": run_id, "script": script, **more}}).error
        assert not (self.state / "runs" / run_id).exists()
        return error

    def status(self, run_id: str) -> AttemptStatus:
        return from_json(AttemptStatus, self.call("status", {"run_id": run_id}).ok)

    def running(self, run_id: str) -> AttemptStatus:
        """Wait until the script runs."""

        def look() -> AttemptStatus | None:
            # To ask the agent takes a process each time: not before there is something else to hear.
            if self._being_set_up(run_id):
                return None
            seen = self.status(run_id)
            assert seen.state is not RunState.ENDED, f"{seen.end}\n{self.log(run_id)}"
            return seen if seen.state is RunState.RUNNING else None

        found = until(look, f"{run_id} running")
        assert isinstance(found, AttemptStatus)
        return found

    def _being_set_up(self, run_id: str) -> bool:
        """The supervisor of its newest attempt is there, and has neither started the script nor written an end."""
        folder = self._newest_attempt(run_id)
        if folder is None or (folder / "end.json").exists() or not (folder / "status.json").exists():
            return False
        live = json.loads((folder / "status.json").read_text())
        supervisor = live.get("supervisor")
        return live["state"] != RunState.RUNNING and supervisor is not None and alive(int(supervisor["pid"]))

    def _newest_attempt(self, run_id: str) -> Path | None:
        attempts = (self.state / "runs" / run_id).glob("[0-9]*")
        return max(attempts, key=lambda folder: int(folder.name), default=None)

    def ended(self, run_id: str) -> EndRecord:
        """Wait for the end."""
        _, frames = self.frames(run_id, follow=True)
        end = frames[-1].end
        assert end is not None
        return end

    def stop(self, run_id: str, **more: Any) -> AttemptStatus:
        return from_json(AttemptStatus, self.call("stop", {"run_id": run_id, **more}).ok)

    def frames(self, run_id: str, **request: Any) -> tuple[bytes, list[LogFrame]]:
        asked = json.dumps({"run_id": run_id, **request}).encode()
        code, out, err = self._run("logs", asked, timeout=2 * self.limit_seconds)
        assert code == 0, err
        return parse_frames(out)

    def log(self, run_id: str) -> str:
        return self.frames(run_id)[0].decode(errors="replace")

    def output(self, run_id: str) -> list[str]:
        """The script's own lines."""
        return scripts_own(self.log(run_id))

    def says(self, run_id: str, text: str) -> None:
        """Wait until a line of the script holds this."""
        limit, log = time.monotonic() + self.limit_seconds, b""
        with subprocess.Popen(
            self.command("logs"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.environment
        ) as follower:
            assert follower.stdin is not None
            assert follower.stdout is not None
            follower.stdin.write(json.dumps({"run_id": run_id, "follow": True}).encode())
            follower.stdin.close()
            try:
                # A frame comes now and then also when the script is silent.
                while head := follower.stdout.readline():
                    frame = from_json(LogFrame, json.loads(head))
                    log += follower.stdout.read(frame.length)
                    if any(text in line for line in scripts_own(log.decode(errors="replace"))):
                        return
                    assert time.monotonic() < limit, f"{run_id} does not say {text!r}: {log!r}"
            finally:
                follower.kill()
        raise AssertionError(f"{run_id} has not said {text!r}: {log!r}")

    def folder(self, run_id: str, attempt: int = 1) -> Path:
        return self.state / "runs" / run_id / str(attempt)

    def supervisor(self, run_id: str, attempt: int = 1) -> int:
        return int(self.live(run_id, attempt)["supervisor"]["pid"])

    def live(self, run_id: str, attempt: int = 1) -> dict[str, Any]:
        """What the supervisor has written down."""
        live: dict[str, Any] = json.loads((self.folder(run_id, attempt) / "status.json").read_text())
        return live

    def end_everything(self) -> None:
        """No run of this agent is left, nor a process that waits for the end of one."""
        # First: one that is alive may start the next attempt after the last one was stopped.
        self._kill_all("keep-run")
        for run_id in set(self.started):
            if not self._has_ended(run_id):
                self.call("stop", {"run_id": run_id, "force": True})
        self._kill_all("end-machine")

    def _has_ended(self, run_id: str) -> bool:
        """Its newest attempt has, with nothing of it left to end."""
        folder = self._newest_attempt(run_id)
        end = folder / "end.json" if folder is not None else None
        return end is not None and end.exists() and json.loads(end.read_text())["reason"] != EndReason.LOST

    def _kill_all(self, verb: str) -> None:
        """None of them is there any more, not even one that another was just starting."""

        def none_is_left() -> bool:
            found = self.processes_of(verb)
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not found

        until(none_is_left, f"no {verb} process is left")

    def processes_of(self, verb: str) -> list[int]:
        """Those of this agent that were called with the verb."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                argv = (folder / "cmdline").read_text(errors="replace").split("\0")
            except OSError:
                continue
            if verb in argv and any(word.startswith(f"{self.state}/") for word in argv):
                found.append(int(folder.name))
        return found


def lose(agent: Agent, run_id: str) -> None:
    """Everything of the run on this machine is killed at once, as when the machine is gone."""
    first = agent.supervisor(run_id)
    for pid in (first, *_below(first)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _below(pid: int) -> list[int]:
    try:
        children = [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [each for child in children for each in (child, *_below(child))]


def scripts_own(log: str) -> list[str]:
    """Its lines without those that are runctl's."""
    return [line for line in log.splitlines() if not line.startswith("[runctl] ")]


def parse_frames(data: bytes) -> tuple[bytes, list[LogFrame]]:
    """A stream of frames as the log's bytes and the frames."""
    frames, pieces, place = [], [], 0
    while place < len(data):
        newline = data.index(b"\n", place)
        frame = from_json(LogFrame, json.loads(data[place:newline]))
        place = newline + 1 + frame.length
        frames.append(frame)
        pieces.append(data[newline + 1 : place])
    return b"".join(pieces), frames


def alive(pid: int) -> bool:
    """Whether a process of this number runs: a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def family(agent: Agent, run_id: str) -> list[int]:
    lines = until(lambda: (found := agent.output(run_id)) and len(found) >= 2 and found, "the family")
    return [int(line.split()[1]) for line in lines[:2]]


Machines = Callable[[int], "list[Agent]"]
"""Makes the agents of so many machines."""
