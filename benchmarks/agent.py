"""What the agent takes from the machine while a training runs: its supervisor's CPU time and memory."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.account import sandbox_account
from benchmarks.machine import agent_directly, start_script
from benchmarks.measure import Result, Skipped, command
from runctl.agent.checkpoint_spec import StoreSpec
from runctl.transport.agent import AgentClient

SECONDS = 20
SCRIPT = f"""\
import time
end = time.monotonic() + {SECONDS} + 60
while time.monotonic() < end:
    print(sum(range(1_000_000)), flush=True)
"""


SAVE_EVERY, SAVE_MIB, PUBLISHING_SECONDS = 30, 64, 90
SAVING = f"""\
import os, pathlib, time
folder = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"])
end, step = time.monotonic() + {PUBLISHING_SECONDS} + 120, 0
while time.monotonic() < end:
    step += 1
    part = folder / ".part"
    part.write_bytes(os.urandom({SAVE_MIB} << 20))
    part.rename(folder / f"step-{{step}}.bin")
    saved = time.monotonic()
    while time.monotonic() < saved + {SAVE_EVERY}:
        print(sum(range(1_000_000)), flush=True)
"""


def measure() -> Iterator[Result]:
    """A busy script that writes a log, watched for twenty seconds; and one that saves, which is published."""
    if sys.platform != "linux":
        raise Skipped("it reads /proc")
    yield from beside_a_training()
    yield from while_it_publishes()


def beside_a_training() -> Iterator[Result]:
    """The supervisor alone."""
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


def while_it_publishes() -> Iterator[Result]:
    """The supervisor, what copies the log, and what publishes: their time, and the memory that is theirs alone or their
    share of, when it was the most."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        sandbox_account(Path(name) / "sandbox") as environment,
    ):
        folder = Path(name)
        aws = str(Path(sys.executable).with_name("aws"))
        command([aws, "s3", "mb", "s3://benchmark"], **environment)()
        client = agent_directly(folder, folder / "state")
        store = StoreSpec("s3://benchmark/runs")
        started = start_script(client, folder, SAVING, env=environment, store=store)
        try:
            script = running(client, started.run_id)
            supervisor = parent_of(script)
            until_published(client, started.run_id, 1)
            agents = [supervisor, *(pid for pid in children_of(supervisor) if pid != script)]
            before, at = sum(map(cpu_seconds, agents)), time.monotonic()
            most = 0.0
            while time.monotonic() < at + PUBLISHING_SECONDS:
                most = max(most, sum(map(own_mib, agents)))
                time.sleep(0.1)
            percent = 100 * (sum(map(cpu_seconds, agents)) - before) / (time.monotonic() - at)
            until_published(client, started.run_id, 1 + PUBLISHING_SECONDS // SAVE_EVERY)
            what = f"agent that publishes {SAVE_MIB} MiB every {SAVE_EVERY} s"
            yield Result(f"{what}, CPU of one core", percent, "", None, 1, 1.0, "%")
            yield Result(f"{what}, memory at most", most, "", None, 1, 40.0, "MiB")
        finally:
            client.stop(started.run_id, force=True)


def until_published(client: AgentClient, run_id: str, step: int) -> None:
    """The checkpoint of that step, or a later one, is in the store."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        now = client.status(run_id).checkpoint
        if now is not None and now.published_at is not None and (now.step or 0) >= step:
            return
        time.sleep(0.5)
    raise RuntimeError(f"the checkpoint of step {step} was not published within two minutes")


def children_of(pid: int) -> list[int]:
    """Its own children that go on."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in found.split()]


def own_mib(pid: int) -> float:
    """Its memory, with its share of what several processes have."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


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
