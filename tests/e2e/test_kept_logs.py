"""A run's log outlives its machine: here, and on the volume that has its checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import boto3
import pytest

from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.fault_client import Faults
from tests.e2e.account import create, terminate, volume
from tests.e2e.command_line import CommandLine, until, write_project

pytestmark = [pytest.mark.namespaces, pytest.mark.docker, pytest.mark.usefixtures("clean_account")]


@pytest.mark.slow
def test_a_log_is_found_when_its_machine_is_gone(runctl: CommandLine, faults: Faults, tmp_path: Path) -> None:
    results = volume(runctl, "results")
    first = create(runctl, "--ebs-volume", "results")
    other = create(runctl)
    train = ("aws", "train", other, "training/train.py")
    on_disk = runctl(*train, "--no-ebs-auto", "--wait", "--run-name", "disk").ok().out
    unwatched = runctl(*train, "--no-ebs-auto", "--quiet").ok().out.strip()
    saving = ("aws", "train", first, "training/train.py", "--ebs-mount", "results:/results", "--quiet")
    saved = runctl(*saving, "--", "--forever").ok().out.strip()
    until(lambda: "tick" in runctl("runs", "logs", saved).out, what="the first tick")
    until(
        lambda: runctl("runs", "show", unwatched, "--output", "json").ok().json["state"] == "ended",
        what="the end of the run that nobody follows",
    )
    shown = runctl("runs", "show", saved).ok().out
    assert f"runs/{saved}/logs/1.log on {results}" in shown

    # What was never followed is fetched before the machine goes.
    ended = runctl("aws", "terminate", other, "--yes").ok()
    assert f"fetched the log of {unwatched}" in ended.err
    # Somebody ends the other one without runctl, which would have stopped its run and fetched the rest.
    ec2 = boto3.client("ec2")
    ec2.terminate_instances(InstanceIds=[first])
    ec2.get_waiter("instance_terminated").wait(
        InstanceIds=[first], WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )

    # What was followed, or fetched, is here.
    assert runctl("runs", "logs", "disk").ok().out == on_disk
    assert "sees" in runctl("runs", "logs", unwatched).ok().out
    lost = runctl("runs", "logs", saved).ok()
    assert "tick" in lost.out
    assert f"runctl aws ebs attach {results} INSTANCE" in lost.err

    # Without anything here, the volume has it, to the end record: the machine's own word for what became of the run.
    shutil.rmtree(tmp_path / "data/runctl/logs")
    gone = runctl("runs", "logs", unwatched, "--output", "json")
    assert (gone.code, gone.error["code"]) == (5, "log-gone")
    assert results in runctl("runs", "logs", saved, "--output", "json").error["hint"]
    second = create(runctl, "--ebs-volume", "results")
    found = runctl("runs", "logs", saved).ok()
    assert second in found.err
    rows = found.out.splitlines()
    assert "tick" in rows
    # Whether the machine's shutdown reaches the supervisor or the script first is the machine's affair.
    reason = rows[-1].removeprefix("[runctl] ").partition(":")[0]
    assert reason in {"STOPPED", "FAILED"}
    assert runctl("runs", "show", saved, "--output", "json").ok().json["end_reason"] == reason

    # A piece that is missing is said.
    (piece,) = (tmp_path / f"data/runctl/logs/{saved}/1").glob("*.log")
    whole = piece.read_bytes()
    piece.rename(piece.with_name("10.log"))
    piece.with_name("10.log").write_bytes(whole[10:])
    terminate(runctl, second)
    partial = runctl("runs", "logs", saved, "--output", "json").ok()
    assert "bytes 0 to 10 are missing" in partial.err
    assert json.loads(partial.out.splitlines()[0])["offset"] == 10


SAVES = """\
import os, pathlib, sys, zipfile
print("resumes", os.environ["RUNCTL_RESUME_FROM"], sys.argv[1:], os.path.exists(os.environ["RUNCTL_RESUME_FROM"]))
folder = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"])
with zipfile.ZipFile(folder / "step-1.pt", "w") as file:
    file.writestr("weights", "1")
(folder / "step-2.pt").write_bytes(b"PK\\x03\\x04cut off")
"""


@pytest.mark.slow
def test_a_run_goes_on_from_a_run_whose_machine_is_gone(
    in_docker_sandbox: SandboxInfo, tmp_path: Path
) -> None:
    project = write_project(tmp_path / "project", {"train.py": SAVES})
    runctl = CommandLine(project, {"XDG_DATA_HOME": str(tmp_path / "data")})
    volume(runctl, "results")
    first = create(runctl, "--ebs-volume", "results")
    runctl(
        "aws", "train", first, "train.py", "--ebs-mount", "results:/data", "--run-name", "base", "--wait"
    ).ok()
    base = runctl("runs", "show", "base", "--output", "json").ok().json["id"]
    terminate(runctl, first)

    # The volume is attached and shown for it, on the host and in a container alike.
    second = create(runctl)
    train = ("aws", "train", second, "train.py", "--resume-from", "base", "--wait")
    on_host = runctl(*train, "--resume-arg", "--from {checkpoint}").ok().out
    path = f"/mnt/results/runs/{base}/checkpoints/step-1.pt"
    assert f"resumes {path} ['--from', '{path}'] True" in on_host
    assert "step-2.pt is not complete" in on_host
    in_container = runctl(*train, "--image", "python:3.11-slim").ok().out
    assert f"runs/{base}/checkpoints/step-1.pt [] True" in in_container

    # What has nothing to go on from does not start.
    refused = runctl(
        "aws", "train", second, "train.py", "--resume-from", "/mnt/results/lost+found", "--output", "json"
    )
    assert refused.error["code"] == "no-checkpoint", refused.err
