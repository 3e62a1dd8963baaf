"""A machine ends itself at its limits: with its agent killed, after a reboot, with the network cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runctl.sandbox.connection import SandboxInfo
from tests.e2e.account import create
from tests.e2e.command_line import CommandLine, until, write_project

pytestmark = [pytest.mark.namespaces, pytest.mark.docker, pytest.mark.usefixtures("clean_account")]

SAVES = """\
import os, pathlib, signal, sys, time
def save(*_):
    pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"], "last.txt").write_text("saved")
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("trains", flush=True)
time.sleep(600)
"""
LIMIT = """\
import json, pathlib, sys
folder = pathlib.Path("/var/lib/runctl-guard")
limits = json.loads((folder / "limits.json").read_text())
ran = json.loads((folder / "count.json").read_text())["ran"]
limits.update({name: ran + seconds for name, seconds in json.loads(sys.argv[1]).items()})
limits.update(json.loads(sys.argv[2]))
(folder / "limits.json").write_text(json.dumps(limits))
"""
"""Says when the machine ends: what the options say in minutes and dollars, in seconds from now."""


class Rented:
    """A machine, and what becomes of it."""

    def __init__(self, folder: Path, ec2: Any, *options: str) -> None:
        project = write_project(folder / "project", {"train.py": SAVES})
        self.runctl = CommandLine(project, {"XDG_DATA_HOME": str(folder / "data")})
        self.id = create(self.runctl, *options)
        self._ec2 = ec2

    def root(self, *command: str) -> str:
        return self.runctl("aws", "exec", self.id, "--", "sudo", *command).ok().out

    def limit(self, *, then: str = "", **seconds: float) -> None:
        """Counted from now, but for ``idle_seconds``."""
        idle = {name: seconds.pop(name) for name in ("idle_seconds",) if name in seconds}
        program = LIMIT + (f"import subprocess; subprocess.Popen({then.split()!r})\n" if then else "")
        self.root("python3", "-c", program, json.dumps(seconds), json.dumps(idle))

    def train(self) -> str:
        run = self.runctl("aws", "train", self.id, "train.py", "--grace", "2s", "--quiet").ok().out.strip()
        until(lambda: "trains" in self.runctl("runs", "logs", run).out, what="the script's first line")
        return run

    def guard(self) -> dict[str, Any]:
        return dict(json.loads(self.root("cat", "/run/runctl-guard.json")))

    @property
    def state(self) -> str:
        described = self._ec2.describe_instances(InstanceIds=[self.id])["Reservations"][0]["Instances"][0]
        return str(described["State"]["Name"])

    def wait_ended(self) -> None:
        until(lambda: self.state == "terminated", what="the machine to end itself")


@pytest.fixture
def folder(in_docker_sandbox: SandboxInfo, tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.slow
def test_a_run_saves_and_ends_with_its_reason_before_its_machine_does(folder: Path, ec2: Any) -> None:
    machine = Rented(folder, ec2, "--budget", "2usd", "--ttl", "8h", "--idle-timeout", "30m")
    run = machine.train()
    assert machine.guard()["limits"]["idle_seconds"] == 1800
    assert "at the latest (its budget of $2.00)" in machine.root("cat", "/run/runctl-limits")

    # The run has 2 seconds of grace, and needs some to write its end down.
    machine.limit(budget_seconds=21)
    until(
        lambda: machine.runctl("runs", "show", run, "--output", "json").ok().json["state"] == "ended",
        what="the end of the run",
    )

    assert machine.state == "running"
    shown = machine.runctl("runs", "show", run, "--output", "json").ok().json
    assert shown["end_reason"] == "BUDGET"
    assert shown["message"].startswith("the budget is used up in ")
    assert "saved" in machine.runctl("runs", "logs", run).ok().out
    machine.wait_ended()


def test_a_machine_ends_in_time_with_agent_and_guard_killed_after_a_reboot_and_without_network(
    folder: Path, ec2: Any
) -> None:
    machine = Rented(folder, ec2, "--ttl", "2h")
    machine.train()
    before = machine.guard()
    machine.root("pkill", "-KILL", "-f", "[s]upervise|[c]ollect|[g]uard.pyz run$|[t]rain.py")
    until(lambda: machine.guard()["at"] > before["at"] + 1, what="the guard to be there again")

    ec2.reboot_instances(InstanceIds=[machine.id])
    # A command that is on the machine when it goes down is lost with it, and waited for.
    until(lambda: machine.state == "pending", what="the machine to boot anew")
    until(
        lambda: (
            machine.runctl("aws", "exec", machine.id, "--", "test", "!", "-e", "/run/nologin").code == 0
            and machine.guard()["ran_seconds"] > before["ran_seconds"]
        ),
        what="the guard after the reboot",
        seconds=120,
    )
    machine.limit(ttl_seconds=6, then="ip link set eth0 down")

    machine.wait_ended()


@pytest.mark.slow
def test_a_machine_that_was_rented_for_a_run_ends_itself_though_it_was_booted_anew(
    folder: Path, ec2: Any
) -> None:
    project = write_project(folder / "project", {"train.py": SAVES})
    runctl = CommandLine(project, {"XDG_DATA_HOME": str(folder / "data")})
    launched = runctl("aws", "launch", "train.py", "--no-results", "--output", "json").ok().json
    until(lambda: "trains" in runctl("runs", "logs", launched["id"]).out, what="the script's first line")

    ec2.reboot_instances(InstanceIds=[launched["instance_id"]])

    def state() -> str:
        described = ec2.describe_instances(InstanceIds=[launched["instance_id"]])
        return str(described["Reservations"][0]["Instances"][0]["State"]["Name"])

    until(lambda: state() == "terminated", seconds=120, what="the machine to end itself")
    assert runctl("runs", "show", launched["id"], "--output", "json").ok().json["end_reason"] == "LOST"


@pytest.mark.slow
def test_an_idle_machine_ends_itself_and_one_with_a_run_does_not(folder: Path, ec2: Any) -> None:
    machine = Rented(folder, ec2)
    assert machine.guard()["limits"]["idle_seconds"] == 3600
    run = machine.train()

    machine.limit(idle_seconds=4)
    began = machine.guard()["at"]
    until(lambda: machine.guard()["at"] > began + 8, what="the guard to have looked often enough")
    assert machine.state == "running"
    machine.runctl("runs", "stop", run).ok()

    machine.wait_ended()
