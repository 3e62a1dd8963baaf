"""From a script's print to the follower's screen, over ssh and over ssm."""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.listing import environment
from benchmarks.machine import agent_over_ssh, missing, start_script
from benchmarks.measure import Result, Skipped, command
from benchmarks.sshd import sshd
from runctl.core.config import Config
from runctl.core.machine_models import Instance
from runctl.core.progress import SILENT
from runctl.providers.aws.settings import AwsConfig
from runctl.providers.interface import Provider
from runctl.providers.registry import load
from runctl.sandbox import control
from runctl.transport.agent import AgentClient

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
    if reason := missing("ssh", "sshd"):
        raise Skipped(reason)
    # ssh's control socket is in it, and a socket's path has to be short.
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with sshd(folder) as server:
            yield from follow("ssh", agent_over_ssh(server, folder, folder / "state"), folder, 2.0)
        with sandbox_machine(folder / "sandbox") as (provider, instance):
            yield from follow("ssm", provider.agent(instance, "ssm"), folder, 5.0)


def follow(way: str, client: AgentClient, folder: Path, target: float) -> Iterator[Result]:
    """The time from print to the follower's hands, line by line."""
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
    what = f"log line, printed to seen, {way}"
    yield Result(f"{what}, median", statistics.median(delays), "", None, LINES)
    yield Result(f"{what}, slowest", max(delays), "", None, LINES, target)


@contextlib.contextmanager
def sandbox_machine(home: Path) -> Iterator[tuple[Provider, Instance]]:
    """An instance of a sandbox, which needs neither root nor Linux: what is measured is the way through SSM."""
    info = control.start(home=home / "runctl" / "sandbox", kind="folders", docker="off")
    try:
        with environment({**info.environment(), "XDG_DATA_HOME": str(home)}):
            provider = load("aws", Config(provided=(AwsConfig(region=info.region),)), progress=SILENT)
            command([sys.executable, "-m", "runctl", "aws", "create", "t3.medium", "--yes"])()
            (instance,) = provider.instances()
            yield provider, instance
    finally:
        control.stop(home=home / "runctl" / "sandbox")
