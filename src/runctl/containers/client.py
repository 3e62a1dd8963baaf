"""The docker program and engine of this computer: which of the programs builds best, and whether an engine answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.core.errors import MachineError, Unsupported

_ANSWER_SECONDS = 20


class Builder(StrEnum):
    """How a client builds."""

    BUILDX = "buildx"
    BUILT_IN = "built-in BuildKit"
    """Before 23.0 the client could have the engine's own BuildKit build, without a plug-in."""
    LEGACY = "legacy builder"


@dataclass(frozen=True)
class Candidate:
    """A docker program."""

    program: str
    version: tuple[int, int]
    buildx: bool
    engine: Mapping[str, object] | None = None
    """What the engine says of itself; ``None``: none answers."""
    said: str = ""
    """The last line of why."""

    @property
    def builder(self) -> Builder:
        """The best that it can do."""
        if self.buildx:
            return Builder.BUILDX
        return Builder.BUILT_IN if (18, 9) <= self.version < (23, 0) else Builder.LEGACY


@dataclass(frozen=True)
class DockerClient:
    """A docker program with an engine that answers."""

    program: str
    builder: Builder
    platform: str
    """The engine's own, such as ``linux/amd64``."""
    exports_cache: bool = False
    """The builder can push its whole cache to a registry (``mode=max``)."""
    keeps_images: bool = True
    """What is built is in the engine at once; a builder in a container has to load it."""
    config: str | None = None
    """A private folder in place of the user's ``~/.docker``."""
    environment: Mapping[str, str] | None = None
    """In place of this process's own."""

    def argv(self, *arguments: str) -> list[str]:
        """A command line."""
        return [self.program, *(["--config", self.config] if self.config else []), *arguments]

    def variables(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """What the program sees."""
        env = dict(os.environ if self.environment is None else self.environment)
        if self.builder is not Builder.BUILDX:
            env["DOCKER_BUILDKIT"] = "1" if self.builder is Builder.BUILT_IN else "0"
        # A manifest list of one image and its attestation would be two images to lifecycle rules and to `list`.
        env["BUILDX_NO_DEFAULT_ATTESTATIONS"] = "1"
        env.update(more or {})
        return env

    def run(
        self, *arguments: str, stdin: bytes = b"", timeout: float | None = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it to its end; one that hangs has exit code 124."""
        argv = self.argv(*arguments)
        try:
            return subprocess.run(
                argv, input=stdin, capture_output=True, timeout=timeout, check=False, env=self.variables()
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(argv, 124, b"", b"docker does not answer")

    def has_image(self, reference: str) -> bool:
        """Whether the engine has it."""
        return self.run("image", "inspect", "--format", "{{.Id}}", reference).returncode == 0


def choose(candidates: Sequence[Candidate]) -> Candidate | None:
    """The program that builds best: buildx, else the built-in BuildKit, else what there is. Pure."""
    for builder in Builder:
        for candidate in candidates:
            if candidate.builder is builder:
                return candidate
    return None


def programs(path: str | None = None) -> list[str]:
    """Every docker program on PATH, the first first."""
    folders = (os.environ.get("PATH", os.defpath) if path is None else path).split(os.pathsep)
    found: dict[str, str] = {}
    for folder in folders:
        program = Path(folder) / "docker"
        if folder and os.access(program, os.X_OK) and program.is_file():
            found.setdefault(os.path.realpath(program), str(program))
    return list(found.values())


def find_client(otherwise: str = "") -> DockerClient:
    """A client and an engine that answers it.

    Raises `Unsupported` (``no-docker``) without a program, `MachineError` (``no-engine``) when no engine answers, with
    what was said. ``otherwise`` is what the command that needs it can do instead, for the hint.
    """
    instead = f", or {otherwise}" if otherwise else ""
    known = programs()
    if not known:
        raise Unsupported(
            "there is no docker on this computer",
            hint=f"install Docker{instead}",
            code="no-docker",
        )
    with ThreadPoolExecutor(len(known)) as pool:
        best = choose([candidate for candidate in pool.map(examine, known) if candidate is not None])
    if best is None:
        raise Unsupported(f"{known[0]} cannot be run", hint="docker --version shows why", code="no-docker")
    if best.engine is None:
        raise MachineError(
            f"no Docker engine answers on this computer: {best.said or 'it said nothing'}",
            hint=f"start Docker{instead}",
            code="no-engine",
        )
    client = DockerClient(best.program, best.builder, "")
    platform = f"{best.engine.get('Os', 'linux')}/{best.engine.get('Arch', 'amd64')}"
    exports, keeps = _builder_facts(client) if best.builder is Builder.BUILDX else (False, True)
    return DockerClient(best.program, best.builder, platform, exports, keeps)


def examine(program: str) -> Candidate | None:
    """What a docker program can do, and what its engine says; ``None`` for one that cannot be run.

    Each question is a start of the program, which takes longer than the answer: so all are asked at once.
    """
    with ThreadPoolExecutor(2) as pool:
        plugin = pool.submit(_asked, program, "buildx", "version")
        answer = _asked(program, "version", "--format", "{{json .}}")
        buildx = plugin.result()
    said = answer.stderr.decode(errors="replace").strip().splitlines()
    known = _json(answer.stdout)
    client, server = (known.get(each) if isinstance(known, dict) else None for each in ("Client", "Server"))
    version = str(client.get("Version", "")) if isinstance(client, dict) else ""
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None:
        # A program that says nothing of itself while its engine hangs.
        found = re.search(
            r"version (\d+)\.(\d+)", _asked(program, "--version").stdout.decode(errors="replace")
        )
    if found is None:
        return None
    return Candidate(
        program,
        (int(found.group(1)), int(found.group(2))),
        buildx.returncode == 0,
        server if isinstance(server, dict) and answer.returncode == 0 else None,
        said[-1] if said else "",
    )


def _asked(program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """One that cannot be run, or hangs, has an exit code other than 0."""
    argv = [program, *arguments]
    try:
        return subprocess.run(argv, capture_output=True, timeout=_ANSWER_SECONDS, check=False)
    except OSError as error:
        return subprocess.CompletedProcess(argv, 127, b"", str(error).encode())
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 124, b"", b"docker does not answer")


def cache_support(driver: str, driver_status: Iterable[Sequence[str]]) -> tuple[bool, bool]:
    """Whether a buildx driver exports its cache to a registry, and whether the engine has what it builds. Pure.

    The ``docker`` driver does the first with the containerd image store only (Docker's "Cache storage backends").
    """
    if driver != "docker":
        return True, False
    return any("io.containerd.snapshotter" in " ".join(pair) for pair in driver_status), True


def _builder_facts(client: DockerClient) -> tuple[bool, bool]:
    with ThreadPoolExecutor(1) as pool:
        inspected = pool.submit(client.run, "buildx", "inspect")
        status = _json(client.run("info", "--format", "{{json .DriverStatus}}").stdout)
        said = inspected.result().stdout.decode(errors="replace")
    found = re.search(r"^Driver:\s*(\S+)", said, re.MULTILINE)
    return cache_support(found.group(1) if found else "docker", status if isinstance(status, list) else ())


def _json(text: bytes) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None
