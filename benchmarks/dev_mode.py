"""From an edit to the script's first line, in a container: dev-mode against building the image."""

from __future__ import annotations

import importlib
import itertools
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.machine import agent_directly, missing
from benchmarks.measure import Result, Skipped, interleaved
from runctl.agent.end_reason import EndReason
from runctl.agent.spec import ContainerSpec, RunSpec
from runctl.project.sync import sync
from runctl.runs.images.settled_image import with_dev_parts
from runctl.transport.agent import AgentClient

ROUNDS = 5
DATA_FILES, DATA_BYTES = 400, 50_000
"""Of the project, beside the script: code, small data, assets."""
DOCKERFILE = """\
FROM base:py
WORKDIR /workspace
COPY requirements.txt .
RUN python3 -c "import compileall; compileall.compile_dir('/usr/lib/python3.11/email', quiet=1, force=True)"
COPY . .
"""
SCRIPT = "print('step', {}, flush=True)\n"


def measure() -> Iterator[Result]:
    """An edit of one file, run both ways in turn on one engine, its caches warm."""
    if os.geteuid() != 0:
        raise Skipped("it starts a Docker engine, which takes root")
    if why := missing("dockerd", "containerd", "docker"):
        raise Skipped(why)
    # The engine that the tests have: ours alone, without a network.
    engines = importlib.import_module("tests.agent.engine")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        engine = engines.start(folder)
        before = os.environ.get("DOCKER_HOST")
        os.environ["DOCKER_HOST"] = engine.host
        try:
            engines.python_image(engine, "base:py")
            edits = _Edits(folder, agent_directly(folder, folder / "state"))
            yield interleaved(
                "edit to first line, container, code alone changed",
                lambda: edits.run("mount"),
                "build with warm cache, then run",
                lambda: edits.run("image"),
                rounds=ROUNDS,
                before=edits.edit,
                target=1.0,
            )
        finally:
            if before is None:
                del os.environ["DOCKER_HOST"]
            else:
                os.environ["DOCKER_HOST"] = before
            engines.stop(engine)


class _Edits:
    """A project that is edited, and run after each edit."""

    def __init__(self, folder: Path, client: AgentClient) -> None:
        self._client, self._cache = client, folder / "cache"
        self._project = folder / "project"
        self._numbers = itertools.count()
        (self._project / "data").mkdir(parents=True)
        for number in range(DATA_FILES):
            (self._project / "data" / f"{number}.bin").write_bytes(os.urandom(DATA_BYTES))
        (self._project / "Dockerfile").write_text(DOCKERFILE)
        (self._project / "requirements.txt").write_text("")
        self.edit()
        self.run("image")

    def edit(self) -> None:
        """One file changes."""
        self._number = next(self._numbers)
        (self._project / "train.py").write_text(SCRIPT.format(self._number))

    def run(self, code: str) -> None:
        """Sync, start, and wait for the script's first line; the run's end is not waited for."""
        synced = sync(self._project, self._client, "benchmark", cache=self._cache)
        files = [
            path.relative_to(self._project).as_posix() for path in self._project.rglob("*") if path.is_file()
        ]
        container = with_dev_parts(
            ContainerSpec(dockerfile="Dockerfile", code=code),
            self._project,
            "train.py",
            files,
        )
        spec = RunSpec(f"run-{uuid.uuid4().hex[:10]}", "train.py", project=synced.project, tree=synced.digest)
        run = self._client.start(replace(spec, container=container))
        wanted, seen = f"step {self._number}".encode(), bytearray()
        deadline = time.monotonic() + 120
        while wanted not in seen:
            seen.clear()
            frame = self._client.logs(run.run_id, follow=False, on_bytes=seen.extend)
            if frame.end is not None and frame.end.reason is not EndReason.COMPLETED:
                raise RuntimeError(f"the run ended: {frame.end}\n{seen.decode()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"no line within two minutes\n{seen.decode()}")
