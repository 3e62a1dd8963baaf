"""A shutdown that is planned on the machine ends the run in time, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl.sandbox.connection import SandboxInfo
from tests.e2e.account import create, terminate
from tests.e2e.command_line import CommandLine, until, write_project

pytestmark = [pytest.mark.namespaces, pytest.mark.docker, pytest.mark.usefixtures("clean_account")]

SAVES = """\
import signal, sys, time
def save(*_):
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("trains", flush=True)
time.sleep(600)
"""


def test_a_run_saves_and_ends_before_its_machine_shuts_down_as_planned(
    in_docker_sandbox: SandboxInfo, tmp_path: Path
) -> None:
    project = write_project(tmp_path / "project", {"train.py": SAVES})
    runctl = CommandLine(project, {"XDG_DATA_HOME": str(tmp_path / "data")})
    machine = create(runctl)
    run = runctl("aws", "train", machine, "train.py", "--grace", "44s", "--quiet").ok().out.strip()
    until(lambda: "trains" in runctl("runs", "logs", run).out, what="the script's first line")

    # A minute is left: of it the grace takes 44 seconds, and the end record and the log have the rest.
    runctl("aws", "exec", machine, "--", "sudo", "shutdown", "-h", "+1").ok()
    until(
        lambda: runctl("runs", "show", run, "--output", "json").ok().json["state"] == "ended",
        what="the end of the run",
    )

    # The machine is still there: the run has ended before it.
    runctl("aws", "exec", machine, "--", "sudo", "shutdown", "-c").ok()
    shown = runctl("runs", "show", run, "--output", "json").ok().json
    assert shown["end_reason"] == "STOPPED"
    assert "the machine shuts down at " in shown["message"]
    assert "saved" in runctl("runs", "logs", run).ok().out
    terminate(runctl, machine)
