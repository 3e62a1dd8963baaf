"""Where there are no namespaces: machines are folders and processes, and the same commands work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from runctl.sandbox import control
from tests.e2e.command_line import CommandLine, until, write_project
from tests.e2e.conftest import TRAIN
from tests.forked import client


@pytest.fixture
def runctl(tmp_path: Path) -> Iterator[CommandLine]:
    """In a project, with a sandbox of folder machines."""
    data = tmp_path / "data"
    home = data / "runctl" / "sandbox"
    try:
        info = client.sandbox(home, kind="folders", docker="auto")
        project = write_project(tmp_path / "project", {"train.py": TRAIN})
        yield CommandLine(project, {"XDG_DATA_HOME": str(data), **info.environment()})
    finally:
        control.stop(home=home)


def test_a_run_writes_to_its_volume_and_the_next_machine_finds_it(runctl: CommandLine) -> None:
    runctl("aws", "ebs", "create", "--size", 1, "--name", "datasets").ok()
    options = ["--ebs-volume", "datasets", "--mount-point", "/mnt/data", "--quiet"]
    first = runctl("aws", "create", "t3.medium", "--spot", *options).ok().out.strip()

    done = runctl(
        "aws", "train", first, "train.py", "--ebs-mount", "/mnt/data:/mnt/data", "--wait", "--", "--exit", "3"
    )
    runctl("aws", "terminate", first, "--yes").ok()
    until(
        lambda: all(
            volume["state"] == "available"
            for volume in runctl("aws", "ebs", "list", "--output", "json").ok().json
        ),
        what="the volume to be free",
    )
    second = runctl("aws", "create", "t3.medium", *options).ok().out.strip()
    (run,) = runctl("runs", "list", "--output", "json").ok().json
    found = runctl(
        "aws",
        "exec",
        second,
        "--",
        "sh",
        "-c",
        f'cat "$RUNCTL_MACHINE_ROOT/mnt/data/runs/{run["id"]}/checkpoints/last.txt"',
    ).ok()

    assert done.code == 3, f"{done}"
    assert (run["end_reason"], run["exit_code"]) == ("FAILED", 3)
    assert found.out == run["id"]

    # Machines of other providers are reached by SSH: nobody waits for what has none.
    for provider, gpu in (("lyceum", "A100"), ("runpod", "RTX 4090")):
        refused = runctl(provider, "create", "--gpu", gpu, "--yes")
        assert refused.code == 2
        assert "reached by SSH" in refused.err
        assert runctl(provider, "list", "--quiet").ok().out == ""


def test_a_run_that_nobody_watches_completes_and_leaves_nothing_rented(runctl: CommandLine) -> None:
    account: dict[str, Any] = {
        "endpoint_url": runctl.env["AWS_ENDPOINT_URL"],
        "region_name": runctl.env["AWS_REGION"],
        "aws_access_key_id": runctl.env["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": runctl.env["AWS_SECRET_ACCESS_KEY"],
    }
    boto3.client("s3", **account).create_bucket(Bucket="unattended")
    launch = ("aws", "launch", "train.py", "--instance-type", "t3.medium", "--spot", "--unattended")
    store = ("--checkpoint-s3", "s3://unattended/runs")
    run = runctl(*launch, *store, "--yes", "--quiet").ok().out.strip()

    def removed() -> bool:
        return bool(runctl("runs", "show", run, "--output", "json").ok().json["unattended"]["is_removed"])

    until(removed, seconds=90, what="the run's end")
    shown = runctl("runs", "show", run, "--output", "json").ok().json
    assert [each["end_reason"] for each in shown["attempts"]] == ["COMPLETED"]
    assert "args []" in runctl("runs", "logs", run).ok().out
    groups = boto3.client("autoscaling", **account).describe_auto_scaling_groups()["AutoScalingGroups"]
    assert groups == []
    assert runctl("aws", "list", "--quiet").ok().out == ""


def test_stop_ends_a_run_and_its_machine_leaves_no_process(runctl: CommandLine) -> None:
    instance = runctl("aws", "create", "t3.medium", "--quiet").ok().out.strip()
    run_id = runctl("aws", "train", instance, "train.py", "--quiet", "--", "--forever").ok().out.strip()
    until(lambda: "tick" in runctl("runs", "logs", run_id).out, what="the first tick")

    stopped = runctl("runs", "stop", run_id, "--output", "json").ok().json

    assert stopped[0]["end_reason"] == "STOPPED"
    assert runctl("aws", "processes", instance, "--output", "json").ok().json == []

    # So does stopping the machine, which asks first.
    other = runctl("aws", "train", instance, "train.py", "--quiet", "--", "--forever").ok().out.strip()
    until(lambda: "tick" in runctl("runs", "logs", other).out, what="the first tick")
    asked = runctl("aws", "stop", instance)
    assert asked.code == 2
    assert f"{other} (train.py) is running on {instance}" in asked.err
    runctl("aws", "stop", instance, "--yes").ok()
    assert runctl("runs", "show", other, "--output", "json").ok().json["end_reason"] == "STOPPED"
