"""What a run has published to a store outlives its machine: another one goes on from there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest

from runctl.sandbox.connection import SandboxInfo
from tests.e2e.account import create
from tests.e2e.command_line import CommandLine, until, write_project

pytestmark = [pytest.mark.namespaces, pytest.mark.docker, pytest.mark.usefixtures("clean_account")]

TRAIN = """\
import json, os, pathlib, sys, time
folder, resume = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"]), os.environ["RUNCTL_RESUME_FROM"]
step = json.loads(pathlib.Path(resume).read_text())["step"] if resume else 0
print("from", step, flush=True)
while step < int(sys.argv[1]):
    step += 1
    partial = folder / f".step-{step}"
    partial.write_text(json.dumps({"step": step}))
    partial.rename(folder / f"step-{step}.json")
while "stay" in sys.argv: time.sleep(0.1)
"""


@pytest.mark.slow
def test_a_run_goes_on_from_the_store_on_another_machine(
    runctl: CommandLine, docker_sandbox: SandboxInfo, tmp_path: Path
) -> None:
    runctl = runctl.in_folder(write_project(tmp_path / "stored", {"train.py": TRAIN}))
    variables = docker_sandbox.environment()
    keys: Any = {
        "endpoint_url": docker_sandbox.endpoint_url,
        "region_name": docker_sandbox.region,
        "aws_access_key_id": variables["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": variables["AWS_SECRET_ACCESS_KEY"],
    }
    boto3.client("s3", **keys).create_bucket(Bucket="checkpoints-of-mine")
    first = create(runctl)
    train = (
        "aws",
        "train",
        first,
        "train.py",
        "--checkpoint-s3",
        "s3://checkpoints-of-mine/runs",
    )

    refused = runctl(*train, "--output", "json", "--", 3)
    assert refused.code != 0
    assert refused.error["code"] == "store-denied", refused.error
    statements = json.loads(refused.error["hint"].removeprefix("add to its role: "))
    boto3.client("iam", **keys).put_role_policy(
        RoleName="runctl-instance",
        PolicyName="checkpoints",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statements}),
    )

    run = runctl(*train, "--quiet", "--", 3, "stay").ok().out.strip()

    def published() -> bool:
        newest = runctl("runs", "show", run, "--output", "json").ok().json["checkpoint"]
        return bool(newest and newest["step"] == 3 and newest["published_at"])

    until(published, what="the newest checkpoint to be published")
    assert "published" in runctl("runs", "show", run).ok().out
    runctl("aws", "terminate", first, "--yes", "--wait").ok()

    second = create(runctl)
    again = ("aws", "train", second, "train.py", "--resume-from", run, "--wait", "--", 5)
    log = runctl(*again).ok().out
    assert "from 3" in log.splitlines()
    assert f"fetched step-3.json of attempt 1 from s3://checkpoints-of-mine/runs/{run}" in log
    by_address = runctl(*again[:5], f"s3://checkpoints-of-mine/runs/{run}", "--wait", "--", 4).ok().out
    assert "from 3" in by_address.splitlines()
