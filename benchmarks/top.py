"""What the dashboard takes of a processor while it watches a run."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.account import sandbox_account
from benchmarks.agent import cpu_seconds
from benchmarks.measure import Result

RUNCTL = Path(sys.executable).with_name("runctl")
SETTLED = 15.0
"""Seconds until it has started and asked everybody once."""
WATCHED = 120.0


def measure() -> Iterator[Result]:
    """With what its children take, over two minutes: machines are asked every ten seconds, providers every minute."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, sandbox_account(Path(name)) as account:
        folders = {f"XDG_{kind}_HOME": f"{name}/{kind}" for kind in ("DATA", "CONFIG", "STATE", "CACHE")}
        environment = {**os.environ, **account, **folders, "TERM": "xterm-256color"}
        project = Path(name, "project")
        project.mkdir()
        (project / "train.py").write_text("import time\nwhile True:\n    time.sleep(1)\n")

        def runctl(*argv: str) -> str:
            done = subprocess.run(
                [RUNCTL, *argv], cwd=project, env=environment, capture_output=True, text=True, check=True
            )
            return done.stdout.strip()

        run_id = runctl("local", "train", "train.py", "--quiet")
        try:
            percent = _watch(project, environment)
        finally:
            runctl("runs", "stop", run_id)
    yield Result("`runctl top`, a run watched, CPU of one core", percent, "", None, 1, 2.0, "%")


def _watch(project: Path, environment: dict[str, str]) -> float:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
    process = subprocess.Popen(
        [RUNCTL, "top"], cwd=project, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = bytearray()
    threading.Thread(target=_read, args=(ours, written), daemon=True).start()
    try:
        time.sleep(SETTLED)
        before, at = cpu_seconds(process.pid), time.monotonic()
        time.sleep(WATCHED)
        percent = 100 * (cpu_seconds(process.pid) - before) / (time.monotonic() - at)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    if b"train.py" not in written:
        raise RuntimeError("runctl top did not show the run")
    return percent


def _read(terminal: int, into: bytearray) -> None:
    try:
        while True:
            into += os.read(terminal, 1 << 16)
    except OSError:
        return
