"""From a notice to the script's signal, and from an attempt's end to the next one's first step, in the sandbox."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
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
    """A run with its checkpoints in S3, interrupted three times, and a watcher that carries it on."""
    signalled: list[float] = []
    begun: list[float] = []
    lost: list[float] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        home = folder / "data" / "runctl" / "sandbox"
        info = control.start(home=home, kind="folders", docker="off")
        trained = None
        try:
            environment = {**info.environment(), "XDG_DATA_HOME": str(folder / "data")}
            trained = Trained(folder, environment)
            faults = Faults(info)
            trained.until(lambda: trained.beginning(1))
            for attempt in range(1, ROUNDS + 1):
                machine = trained.shown()["instance_id"]
                noticed = time.time()
                faults.interrupt(machine, seconds=NOTICE_SECONDS)
                begins, signal = trained.until(lambda attempt=attempt: trained.beginning(attempt + 1))  # type: ignore[misc]
                before = trained.shown()["attempts"][attempt - 1]
                signalled.append(signal - noticed)
                begun.append(begins - datetime.fromisoformat(before["ended_at"]).timestamp())
                lost.append(float(before["lost_seconds"]))
        finally:
            if trained is not None:
                trained.close()
            control.stop(home=home)
    yield Result("notice to the script's signal, slowest", max(signalled), "", None, ROUNDS, 3.0)
    yield Result(
        "end of an attempt to the next one's script, watched",
        statistics.median(begun),
        "",
        None,
        ROUNDS,
        20.0,
    )
    yield Result("work done again after a notice", statistics.median(lost), "", None, ROUNDS)


class Trained:
    """A run, and a watcher that recovers it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._environment = {**os.environ, **environment}
        self._project = folder / "project"
        self._project.mkdir()
        (self._project / "train.py").write_text(SCRIPT)
        aws = str(Path(sys.executable).with_name("aws"))
        command([aws, "s3", "mb", f"s3://{BUCKET}"], **environment)()
        launch = ("aws", "launch", "train.py", "--instance-type", "t3.medium", "--spot")
        store = ("--checkpoint-s3", f"s3://{BUCKET}/runs")
        self.id = self._runctl(*launch, *store, "--yes", "--quiet").strip()
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
