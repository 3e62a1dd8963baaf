"""What the agent takes from the machine while a training runs: its supervisor's CPU time and memory."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.machine import agent_directly, start_script
from benchmarks.measure import Result, Skipped
from runctl.transport.agent import AgentClient

SECONDS = 20
SCRIPT = f"""\
import time
end = time.monotonic() + {SECONDS} + 60
while time.monotonic() < end:
    print(sum(range(1_000_000)), flush=True)
"""


def measure() -> Iterator[Result]:
    """A busy script that writes a log, watched for twenty seconds."""
    if sys.platform != "linux":
        raise Skipped("it reads /proc")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        client = agent_directly(folder, folder / "state")
        started = start_script(client, folder, SCRIPT)
        try:
            supervisor = parent_of(running(client, started.run_id))
            if started.run_id not in Path(f"/proc/{supervisor}/cmdline").read_text():
                raise RuntimeError(f"process {supervisor} is not the supervisor of {started.run_id}")
            before, at = cpu_seconds(supervisor), time.monotonic()
            time.sleep(SECONDS)
            percent = 100 * (cpu_seconds(supervisor) - before) / (time.monotonic() - at)
            yield Result("agent beside a training, CPU of one core", percent, "", None, 1, 1.0, "%")
            yield Result(
                "agent beside a training, memory at most", peak_mib(supervisor), "", None, 1, 40.0, "MiB"
            )
        finally:
            client.stop(started.run_id, force=True)


def running(client: AgentClient, run_id: str) -> int:
    """The training's process id, once it has one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        now = client.status(run_id)
        if now.pid is not None:
            return now.pid
        if now.end is not None:
            raise RuntimeError(f"the run ended: {now.end}")
        time.sleep(0.1)
    raise RuntimeError("the run did not start within a minute")


def stat_fields(pid: int) -> list[str]:
    """/proc/PID/stat from the third field on; the second may hold blanks."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def parent_of(pid: int) -> int:
    """The process that waits for it."""
    return int(stat_fields(pid)[1])


def cpu_seconds(pid: int) -> float:
    """Its own and its dead children's, in user and system mode: `nvidia-smi` and its like count, the training not."""
    return sum(int(word) for word in stat_fields(pid)[11:15]) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    """The largest resident size so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
