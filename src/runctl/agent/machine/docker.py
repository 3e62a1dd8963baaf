"""The machine's Docker engine: whether there is one, how to talk to it, and what can be asked of it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from runctl._dataclasses import dataclass
from runctl.agent.errors import AgentError
from runctl.agent.machine import processes
from runctl.agent.machine.root import agent_as_root, as_root, login_user, root_available

ANSWER_SECONDS = 20.0
PIPE_SECONDS = 5.0
"""Docker has so long to notice that nobody reads what it writes."""


@dataclass(frozen=True)
class Engine:
    """A way to the engine, or the reason why there is none."""

    available: bool
    version: str = ""
    reason: str = ""
    kernel: str = ""
    """The kernel that its containers run on."""
    by_sudo: bool = False
    """The login user is not in the group ``docker``; every call goes through sudo."""

    def command(self, *arguments: str, env: Mapping[str, str] | None = None) -> list[str]:
        """The command line that calls docker; ``env`` is seen by others, so it holds no secrets."""
        if not self.by_sudo:
            prefix = ["env", *(f"{k}={v}" for k, v in env.items())] if env else []
            return [*prefix, "docker", *arguments]
        passed = {"DOCKER_HOST": os.environ["DOCKER_HOST"]} if "DOCKER_HOST" in os.environ else {}
        return as_root(["docker", *arguments], {**passed, **(env or {})})

    def call(self, *arguments: str, timeout: float | None = 60.0) -> subprocess.CompletedProcess[bytes]:
        """Call docker and wait; an engine that does not answer in time is an error of its own (exit code 124)."""
        argv = self.command(*arguments)
        try:
            return run_within(argv, timeout)
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(argv, 124, b"", b"the Docker engine does not answer")

    @contextlib.contextmanager
    def reading(self, *arguments: str) -> Iterator[IO[bytes]]:
        """What docker writes, as far as the block reads it: then docker ends, whatever it has left to write."""
        with subprocess.Popen(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as child:
            assert child.stdout is not None  # noqa: S101 (it is a pipe)
            try:
                yield child.stdout
            finally:
                # It ends by SIGPIPE when it writes more.
                child.stdout.close()
                try:
                    child.wait(PIPE_SECONDS)
                except subprocess.TimeoutExpired:
                    _end(child)

    def call_with_secrets(
        self, arguments: Sequence[str], env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[bytes]:
        """Call docker with variables that only it can see: not on the command line, not in a file."""
        if not self.by_sudo:
            return subprocess.run(
                ["docker", *arguments],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **env},
                capture_output=True,
                check=False,
            )
        request = json.dumps({"argv": ["docker", *arguments], "env": dict(env)})
        return subprocess.run(agent_as_root("exec"), input=request.encode(), capture_output=True, check=False)

    def inspect(self, what: str, name: str) -> tuple[dict[str, Any] | None, str]:
        """An image or a container as the engine describes it; ``None`` and why, when it cannot.

        ``why`` is empty when the engine answered that there is no such thing.
        """
        done = self.call(what, "inspect", name)
        if done.returncode == 0:
            found: list[dict[str, Any]] = json.loads(done.stdout)
            return found[0], ""
        said = text(done.stderr)
        return None, "" if re.search(
            r"no such (image|container|object)", said, re.IGNORECASE
        ) else said or "no answer"

    def has_started(self, container_id: str) -> bool:
        """Whether the container runs or has run."""
        facts, _ = self.inspect("container", container_id)
        # One that has only been created has the year 1 here.
        return str(((facts or {}).get("State") or {}).get("StartedAt") or "0001") >= "0002"


def digest_of(facts: Mapping[str, Any]) -> str | None:
    """The registry's digest of an inspected image, else the engine's own id of it."""
    for reference in facts.get("RepoDigests") or []:
        if "@" in reference:
            return str(reference).partition("@")[2]
    return facts.get("Id") or None


def run_within(
    argv: Sequence[str], timeout: float | None, data: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run a program that may go through sudo, with ``data`` on its stdin. Raises as `subprocess.run` does."""
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        try:
            out, err = child.communicate(data, timeout)
        except BaseException:
            _end(child)
            raise
        return subprocess.CompletedProcess(argv, child.returncode, out, err)


def _end(child: subprocess.Popen[bytes]) -> None:
    """It is gone with what it has started. Sudo, and what it runs, are root's: this user may not signal them."""
    if child.poll() is None:
        below = processes.descendants(child.pid, processes.table())
        processes.send([child.pid, *(each.pid for each in below)], signal.SIGKILL)


def text(output: bytes) -> str:
    """What a program said, for quoting."""
    return output.decode(errors="replace").strip()


@functools.lru_cache(maxsize=1)
def find() -> Engine:
    """The engine of this machine, asked directly and then by sudo."""
    if shutil.which("docker") is None:
        return Engine(False, reason="there is no docker on this machine")
    said = ""
    for by_sudo in (False, True):
        if by_sudo and (os.geteuid() == 0 or not root_available()):
            break
        engine = Engine(True, by_sudo=by_sudo)
        asked = "{{.Server.Version}} {{.Server.KernelVersion}}"
        done = engine.call("version", "--format", asked, timeout=ANSWER_SECONDS)
        if done.returncode == 0 and done.stdout.strip():
            version, _, kernel = text(done.stdout).partition(" ")
            return Engine(True, version, kernel=kernel, by_sudo=by_sudo)
        said = text(done.stderr) or "docker version failed"
    return Engine(False, reason=said.splitlines()[-1] if said else "the Docker engine does not answer")


def connect() -> Engine:
    """The engine. Raises `AgentError` (``no-docker``)."""
    engine = find()
    if engine.available:
        return engine
    raise AgentError(
        "no-docker",
        f"this machine cannot run containers: {engine.reason}",
        "run on the host with --no-docker, or use an image with Docker (runctl's own set-up installs it)",
    )


@functools.lru_cache(maxsize=1)
def buildkit() -> bool:
    """Whether the docker client can build with BuildKit: by its plug-in buildx, or, before 23.0, by itself."""
    buildx = subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False)
    if buildx.returncode == 0:
        return True
    done = subprocess.run(["docker", "--version"], capture_output=True, check=False)
    match = re.search(r"version (\d+)\.", text(done.stdout))
    return match is not None and 18 < int(match.group(1)) < 23


def exec_from_stdin() -> int:
    """Become ``argv`` with ``env``, both read from stdin: how secrets get through sudo."""
    request = json.load(sys.stdin)
    os.environ.update(request["env"])
    argv = request["argv"]
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.execvp(argv[0], argv)  # noqa: S606 (an argument list of our own, by our own sudo)


def owner() -> str:
    """``uid:gid`` for ``docker --user``."""
    user = login_user()
    return f"{user.uid}:{user.gid}"


def user_name() -> str:
    """For ``USER`` in the container, where no passwd file knows the uid."""
    return login_user().name
