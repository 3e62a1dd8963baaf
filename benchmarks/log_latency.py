"""From a script's print to the follower's screen, over ssh."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.machine import agent_over_ssh, missing, start_script
from benchmarks.measure import Result, Skipped
from benchmarks.sshd import sshd

LINES = 40
SCRIPT = f"""\
import time
for _ in range({LINES}):
    print("printed at", time.time())
    time.sleep(0.15)
"""
MARK = b"printed at "


def measure() -> Iterator[Result]:
    """Both clocks are this computer's."""
    if reason := missing("ssh"):
        raise Skipped(reason)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with sshd(folder) as server:
            client = agent_over_ssh(server, folder, folder / "state")
            started = start_script(client, folder, SCRIPT)
            delays: list[float] = []
            rest = b""

            def arrived(data: bytes) -> None:
                nonlocal rest
                now = time.time()
                *lines, rest = (rest + data).split(b"\n")
                delays.extend(now - float(line[len(MARK) :]) for line in lines if line.startswith(MARK))

            client.logs(started.run_id, on_bytes=arrived)
            if len(delays) != LINES:
                raise RuntimeError(f"{len(delays)} of {LINES} lines arrived")
            what = "log line, printed to seen, ssh"
            yield Result(f"{what}, median", statistics.median(delays), "", None, LINES)
            yield Result(f"{what}, slowest", max(delays), "", None, LINES, 2.0)
