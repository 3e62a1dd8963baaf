"""A run with a store is recovered from any computer, by one at a time, and its log is read when its machine is gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest

from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.fault_client import Faults
from tests.e2e.command_line import CommandLine, until, write_project

pytestmark = [pytest.mark.namespaces, pytest.mark.docker, pytest.mark.usefixtures("clean_account")]

BUCKET = "runs-of-everybody"
TRAIN = """\
import json, os, pathlib, sys, time
folder, resume = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"]), os.environ["RUNCTL_RESUME_FROM"]
step = json.loads(pathlib.Path(resume).read_text())["step"] if resume else 0
print("from", step, "with", os.environ["SALT"], flush=True)
while step < int(sys.argv[1]):
    step += 1
    partial = folder / f".step-{step}"
    partial.write_text(json.dumps({"step": step}))
    partial.rename(folder / f"step-{step}.json")
while not resume: time.sleep(0.1)
"""


def shown(runctl: CommandLine, run: str) -> Any:
    return runctl("runs", "show", run, "--output", "json").ok().json


@pytest.mark.slow
def test_two_computers_recover_a_run_at_once_and_one_attempt_follows(
    runctl: CommandLine, docker_sandbox: SandboxInfo, faults: Faults, ec2: Any, tmp_path: Path
) -> None:
    keys = docker_sandbox.environment()
    s3: Any = boto3.client(
        "s3",
        endpoint_url=docker_sandbox.endpoint_url,
        region_name=docker_sandbox.region,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )
    s3.create_bucket(Bucket=BUCKET)
    here = runctl.in_folder(write_project(tmp_path / "project-of-mine", {"train.py": TRAIN}))
    # Another data folder, and none of the project's files.
    there = CommandLine(tmp_path, {"XDG_DATA_HOME": str(tmp_path / "another computer")})
    launch = ("aws", "launch", "train.py", "--instance-type", "t3.micro", "--spot", "--checkpoint-s3")
    options = (f"s3://{BUCKET}/runs", "--env", "SALT=kept", "--no-auto-resume", "--yes", "--quiet")
    run = here(*launch, *options, "--", 3).ok().out.strip()
    address = f"s3://{BUCKET}/runs/{run}"

    def newest() -> Any:
        return (shown(here, run)["checkpoint"] or {}).get("published_at")

    until(newest, what="a checkpoint in the store")
    goes_on = there("runs", "recover", address).ok().out
    assert goes_on.startswith(f"{run} is running")

    faults.kill_instance(shown(here, run)["instance_id"])
    recovering = [here.start("runs", "recover", run), there.start("runs", "recover", run, "--from", address)]
    outs = []
    for process in recovering:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err.decode()
        outs.append(out.decode())
    assert sum(f"{run} goes on as attempt 2 on i-" in out for out in outs) == 1, outs
    (rented,) = ec2.describe_instances(Filters=[{"Name": "tag:runctl:attempt", "Values": [f"{run}/2"]}])[
        "Reservations"
    ]
    assert len(rented["Instances"]) == 1

    # Each of them knows all of it.
    for computer in (here, there):
        until(lambda on=computer: shown(on, run)["state"] == "ended", what="the end")  # type: ignore[misc]
    attempts = [shown(computer, run)["attempts"] for computer in (here, there)]
    for each in attempts:
        assert [one["end_reason"] for one in each] == ["LOST", "COMPLETED"]
        assert each[1]["instance_id"] == rented["Instances"][0]["InstanceId"]
        assert (each[0]["step"], each[1]["resumed_step"]) == (3, 3)
    ledger = here("cost", "run", run, "--cached", "--output", "json").ok().json
    assert ledger["attempts"][0]["ended_at"] is not None, "the dead machine's time would go on"
    assert (
        json.loads(s3.get_object(Bucket=BUCKET, Key=f"runs/{run}/lease.json")["Body"].read())["attempt"] == 2
    )

    spec = json.loads(s3.get_object(Bucket=BUCKET, Key=f"runs/{run}/spec.json")["Body"].read())
    assert spec["env"]["SALT"] == ""

    here("aws", "terminate", attempts[0][1]["instance_id"], "--yes", "--wait").ok()
    kept = there("runs", "logs", run)
    assert "from 3 with kept" in kept.out.splitlines()
    assert f"this is its log, from {address}" in kept.err
