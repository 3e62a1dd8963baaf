"""``docker build-push`` against ``docker build`` and ``docker push``: one engine and one registry for both."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.agent import engine as engines
from tests.agent.engine import Engine

from benchmarks.free_port import free_port
from benchmarks.measure import Result, Skipped, command, interleaved
from runctl.containers.client import Builder, choose, examine, programs
from runctl.sandbox.ecr.registry import Registry

RUNCTL = str(Path(sys.executable).with_name("runctl"))
BASE = "base:py"
FILES = 2000
DEPENDENCIES_MIB = 150
ROUNDS = 5
PEER = "docker build && docker push"

DOCKERFILE = f"""\
FROM {BASE} AS deps
COPY requirements.txt /r.txt
RUN python3 -c "import os; open('/deps', 'wb').write(os.urandom({DEPENDENCIES_MIB} << 20))"
FROM {BASE}
COPY --from=deps /deps /deps
COPY . /workspace
"""


def measure() -> Iterator[Result]:
    """Nothing changed; one file changed; one file changed, on a machine that has built nothing yet."""
    docker = _docker()
    # A socket's path is short.
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        for part in ("engine", "project"):
            (folder / part).mkdir()
        registry = Registry(folder / "registry", "127.0.0.1", free_port())
        with ExitStack() as stack:
            registry.start()
            stack.callback(registry.stop)
            engine = engines.start(folder / "engine", bridge=True)
            stack.callback(engines.stop, engine)
            engines.python_image(engine, BASE)
            yield from _measure(docker, engine, registry, folder)


def _measure(docker: str, engine: Engine, registry: Registry, folder: Path) -> Iterator[Result]:
    project = folder / "project"
    _write(project)
    variables = {
        "DOCKER_HOST": engine.host,
        "DOCKER_BUILDKIT": "1",
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    numbers = itertools.count()

    def change() -> None:
        (project / "train.py").write_text(f"print({next(numbers)})\n")

    ours = _in(project, [RUNCTL, "docker", "build-push", "--quiet", "--registry", f"{registry.address}/ours"])
    image = f"{registry.address}/theirs:latest"
    build = _in(project, [docker, "build", "--quiet", "--tag", image, "."])
    push = command([docker, "push", "--quiet", image], **variables)

    def runctl() -> None:
        command(ours, **variables)()

    def plain() -> None:
        command(build, **variables)()
        push()

    def forget() -> None:
        """The engine has the base image, and nothing else."""
        change()
        keep = engine.docker("image", "inspect", "--format", "{{.Id}}", BASE).strip()
        ids = {
            image for image in engine.docker("image", "ls", "--quiet", "--no-trunc").split() if image != keep
        }
        if ids:
            engine.docker("image", "rm", "--force", *ids, check=False)
        engine.docker("builder", "prune", "--all", "--force")

    change()
    yield interleaved("build and push, nothing changed", runctl, PEER, plain, rounds=ROUNDS, target=1)
    yield interleaved(
        "build and push, one file changed", runctl, PEER, plain, rounds=ROUNDS, before=change, target=1
    )
    yield interleaved(
        "the same on a machine that has built nothing",
        runctl,
        PEER,
        plain,
        rounds=3,
        before=forget,
    )


def _write(project: Path) -> None:
    (project / "Dockerfile").write_text(DOCKERFILE)
    (project / ".dockerignore").write_text(".git\n")
    (project / "requirements.txt").write_text("numpy\n")
    for number in range(FILES):
        file = project / f"package{number % 20}" / f"module{number}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"VALUE = {number}\n" * 50)
    subprocess.run(["git", "init", "--quiet", project], check=True)


def _in(folder: Path, argv: list[str]) -> list[str]:
    return ["env", "--chdir", str(folder), *argv]


def _docker() -> str:
    """The program that runctl takes, too: both build with the same BuildKit. Raises `Skipped`."""
    if os.geteuid() != 0 or shutil.which("docker-registry") is None:
        raise Skipped("needs root and docker-registry")
    best = choose([found for program in programs() if (found := examine(program)) is not None])
    if best is None or best.builder is not Builder.BUILT_IN:
        raise Skipped("needs a docker that builds with the engine's own BuildKit")
    return best.program
