"""Whether a machine is used: from two samples, and from what really runs here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runctl.agent.guard import activity
from runctl.agent.guard.activity import (
    BUSY_DISK,
    BUSY_NETWORK,
    Process,
    Runs,
    Sample,
    busy_with,
    is_anybody_logged_in,
    parse_stat,
    runs_of,
    sample,
    total_cpu,
)
from runctl.agent.machine.processes import process

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")

INIT = Process(0, "systemd", "1", 100.0, 0)


def a_process(cpu: float = 0.0, disk: int = 0, started: str = "9") -> Process:
    return Process(1, "python3", started, cpu, disk)


@pytest.mark.parametrize(
    ("before", "after", "network", "expected"),
    [
        ({}, {}, 0, ""),
        ({7: a_process(5)}, {7: a_process(5.5)}, 0, ""),
        ({7: a_process(5)}, {7: a_process(20)}, 0, "cpu"),
        ({}, {7: a_process(20)}, 0, "cpu"),
        ({7: a_process(disk=1 << 40)}, {7: a_process(disk=(1 << 40) + int(BUSY_DISK) * 60)}, 0, "disk"),
        # What has ended takes its count along; another with its number begins anew.
        ({7: a_process(disk=1 << 40)}, {}, 0, ""),
        ({7: a_process(disk=1 << 40)}, {7: a_process(disk=int(BUSY_DISK) * 60, started="99")}, 0, "disk"),
        ({}, {}, int(BUSY_NETWORK) * 60, "network"),
        ({}, {}, int(BUSY_NETWORK) * 59, ""),
    ],
)
def test_what_has_used_the_machine_in_a_minute(
    before: dict[int, Process], after: dict[int, Process], network: int, expected: str
) -> None:
    first = Sample(100.0, {1: INIT, **before}, 1000)
    second = Sample(160.0, {1: INIT, **after}, 1000 + network)

    assert busy_with(first, second) == expected


def test_processes_that_come_and_go_are_counted_with_whoever_waits_for_them() -> None:
    shell = subprocess.Popen(["sh", "-c", "read go; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done | cat; read end"],
                             stdin=subprocess.PIPE)  # fmt: skip
    assert shell.stdin is not None
    own = {shell.pid}
    before = {pid: found for pid, found in sample().processes.items() if pid in own}
    shell.stdin.write(b"go\n")
    shell.stdin.flush()
    used = 0.0
    while used < 0.05:
        used = sample().processes[shell.pid].cpu_seconds - before[shell.pid].cpu_seconds
    shell.stdin.write(b"end\n")
    shell.stdin.close()
    shell.wait()

    assert total_cpu(Sample(0.0, before)) < 0.05


def test_a_sample_knows_processes_as_the_agent_does() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        found, known = sample().processes[child.pid], process(child.pid)
        child.kill()

    assert known is not None
    assert (found.started, found.parent, found.name) == (known.started, os.getpid(), "sleep")


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ({}, False),
        ({10: "sshd"}, False),
        ({10: "sshd", 11: "sshd", 12: "sshd"}, False),
        ({10: "sshd", 11: "sshd", 12: "bash"}, True),
        ({10: "sshd", 11: "sshd-session", 12: "vim"}, True),
        ({10: "ssm-session-wor", 11: "sh"}, True),
        # Somebody has detached from it.
        ({10: "tmux: server", 11: "bash"}, False),
    ],
)
def test_who_is_logged_in_is_seen_by_what_their_session_runs(others: dict[int, str], expected: bool) -> None:
    processes = {1: INIT}
    for pid, name in others.items():
        processes[pid] = Process(pid - 1 if pid - 1 in others else 1, name, "9", 0.0)

    assert is_anybody_logged_in(processes) is expected


@pytest.fixture
def sleeper() -> Iterator[dict[str, object]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as child:
        known = process(child.pid)
        assert known is not None
        yield {"pid": child.pid, "started": known.started, "boot": ""}
        child.kill()


def test_a_run_goes_on_while_one_of_its_own_processes_lives(
    tmp_path: Path, sleeper: dict[str, object]
) -> None:
    folder = tmp_path / "run-1" / "1"
    gone = {**sleeper, "started": "0"}

    def found(**live: object) -> Runs:
        (folder / "status.json").write_text(json.dumps(live))
        return runs_of(tmp_path, sample().processes)

    assert runs_of(tmp_path, {}) == Runs()
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text("{}")
    assert found(supervisor=sleeper) == Runs(any=True, going=True, supervised=True)
    assert found(supervisor=gone, script=sleeper) == Runs(any=True, going=True)
    assert found(supervisor=gone, script=gone) == Runs(any=True)
    assert found() == Runs(any=True)
    (folder / "end.json").write_text("{}")
    assert found(supervisor=sleeper) == Runs(any=True)


def test_a_name_may_hold_anything() -> None:
    line = "7 (a) b (c) S 1 7 7 0 -1 0 0 0 0 0 100 50 25 25 20 0 1 0 4242 0 0"

    assert parse_stat(line) == (7, Process(1, "a) b (c", "4242", 200 / activity.TICK))
