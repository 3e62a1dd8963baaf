"""From a notice to the script's signal, and from an attempt's end to the next one's first step, in the sandbox."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.measure import Result, command
from runctl.sandbox import control
from runctl.sandbox.fault_client import Faults

ROUNDS = 3
NOTICE_SECONDS = 20.0
BUCKET = "benchmark"
MACHINES = {False: "folders", True: "namespaces"}
"""Of the sandbox: folders boot at once; a run takes itself up on a machine that has a root of its own."""
SCRIPT = """\
import json, os, pathlib, signal, sys, time
folder, resumed = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"]), os.environ["RUNCTL_RESUME_FROM"]
step, signalled = json.loads(pathlib.Path(resumed).read_text()) if resumed else (0, 0.0)
def save(*_):
    part = folder / ".part"
    part.write_text(json.dumps([step, time.time()]))
    part.rename(folder / f"step-{step}.json")
    sys.exit(1)
signal.signal(signal.SIGTERM, save)
print("begins at", time.time(), "after a signal at", signalled, flush=True)
while True:
    step += 1
    time.sleep(0.05)
"""


def measure() -> Iterator[Result]:
    """A run with its checkpoints in S3, interrupted three times: carried on by a watcher, and then by a group."""
    watched = interrupted(unattended=False)
    yield Result("notice to the script's signal, slowest", max(watched.signalled), "", None, ROUNDS, 3.0)
    what = "end of an attempt to the next one's script"
    yield Result(f"{what}, watched", statistics.median(watched.begun), "", None, ROUNDS, 20.0)
    yield Result("work done again after a notice", statistics.median(watched.lost), "", None, ROUNDS)
    alone = interrupted(unattended=True)
    yield Result(f"{what}, unattended", statistics.median(alone.begun), "", None, ROUNDS, 20.0)


@dataclass
class Interruptions:
    """What was seen of them, in seconds."""

    signalled: list[float] = field(default_factory=list)
    """From the notice to the script's signal."""
    begun: list[float] = field(default_factory=list)
    """From an attempt's end to the next one's script."""
    lost: list[float] = field(default_factory=list)
    """The work that is done again."""


def interrupted(*, unattended: bool) -> Interruptions:
    """A run that nobody watches where it is ``unattended``, else with a watcher."""
    seen = Interruptions()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        home = folder / "data" / "runctl" / "sandbox"
        info = control.start(home=home, kind=MACHINES[unattended], docker="off")
        trained = None
        try:
            environment = {**info.environment(), "XDG_DATA_HOME": str(folder / "data")}
            trained = Trained(folder, environment, unattended=unattended)
            faults = Faults(info)
            trained.until(lambda: trained.beginning(1))
            for attempt in range(1, ROUNDS + 1):
                machine = trained.shown()["instance_id"]
                noticed = time.time()
                faults.interrupt(machine, seconds=NOTICE_SECONDS)
                begins, signal = trained.until(lambda attempt=attempt: trained.beginning(attempt + 1))  # type: ignore[misc]
                before = trained.shown()["attempts"][attempt - 1]
                seen.signalled.append(signal - noticed)
                seen.begun.append(begins - datetime.fromisoformat(before["ended_at"]).timestamp())
                seen.lost.append(float(before["lost_seconds"] or 0))
        finally:
            if trained is not None:
                trained.close()
            control.stop(home=home)
    return seen


class Trained:
    """A run, and a watcher that recovers it; without one where it is ``unattended``."""

    def __init__(self, folder: Path, environment: dict[str, str], *, unattended: bool) -> None:
        self._environment = {**os.environ, **environment}
        self._project = folder / "project"
        self._project.mkdir()
        (self._project / "train.py").write_text(SCRIPT)
        aws = str(Path(sys.executable).with_name("aws"))
        command([aws, "s3", "mb", f"s3://{BUCKET}"], **environment)()
        launch = ("aws", "launch", "train.py", "--instance-type", "t3.medium", "--spot")
        store = ("--checkpoint-s3", f"s3://{BUCKET}/runs")
        alone = ("--unattended",) if unattended else ()
        self.id = self._runctl(*launch, *store, *alone, "--yes", "--quiet").strip()
        self._watcher: subprocess.Popen[bytes] | None = None
        if unattended:
            return
        self._watcher = subprocess.Popen(
            [sys.executable, "-m", "runctl", "runs", "watch", self.id, "--every", "1s"],
            cwd=self._project,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def close(self) -> None:
        """The watcher has ended."""
        if self._watcher is not None:
            self._watcher.terminate()
            self._watcher.wait()

    def shown(self) -> dict[str, Any]:
        """What ``runs show`` has."""
        text = self._runctl("runs", "show", self.id, "--output", "json")
        return dict(msgspec.json.decode(text.encode()))

    def beginning(self, attempt: int) -> tuple[float, float] | None:
        """When the attempt's script began, and when the one before it was signalled; ``None`` as long as it has not."""
        if self.shown()["attempt"] < attempt:
            return None
        lines = self._runctl("runs", "logs", self.id, may_fail=True).splitlines()
        found = [line.split() for line in lines if line.startswith("begins at ")]
        return (float(found[-1][2]), float(found[-1][-1])) if found else None

    def until(self, ask: Callable[[], tuple[float, float] | None]) -> tuple[float, float]:
        """Asked until there is an answer. Raises `RuntimeError` after two minutes."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if (found := ask()) is not None:
                return found
            time.sleep(0.2)
        raise RuntimeError("the run did not get so far within two minutes")

    def _runctl(self, *words: str, may_fail: bool = False) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "runctl", *words],
            cwd=self._project,
            env=self._environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode and not may_fail:
            raise RuntimeError(
                f"runctl {' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}"
            )
        return done.stdout
