"""A run's checkpoints wherever they are: on its machine, on a volume that has moved on, in an object store."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from runctl.sandbox.connection import SandboxInfo
from tests.e2e.account import create, terminate, volume
from tests.e2e.command_line import CommandLine, write_project

pytestmark = [pytest.mark.namespaces, pytest.mark.docker, pytest.mark.usefixtures("clean_account")]

SAVES = """\
import os, pathlib, zipfile
print("resumes from", os.environ["RUNCTL_RESUME_FROM"])
folder = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"])
for step in (1, 2):
    with zipfile.ZipFile(folder / f"step-{step}.pt", "w") as file:
        file.writestr("weights", f"{step}" * 100_000)
"""


BUCKET = "checkpoint-places"


@pytest.fixture
def account(docker_sandbox: SandboxInfo) -> Callable[[str], Any]:
    """boto3's client of a service; there is a bucket."""
    environment = docker_sandbox.environment()

    def client(service: str) -> Any:
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=docker_sandbox.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        )

    client("s3").create_bucket(Bucket=BUCKET)
    return client


def allow(iam: Any, bucket: str) -> None:
    """Instances may use the bucket."""
    statement = {
        "Effect": "Allow",
        "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{bucket}{end}" for end in ("", "/*")],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName="runctl-instance", PolicyName=bucket, PolicyDocument=policy)


@pytest.mark.slow
def test_checkpoints_are_found_where_they_are_now(
    runctl: CommandLine, account: Callable[[str], Any], docker_sandbox: SandboxInfo
) -> None:
    write_project(runctl.cwd, {"train.py": SAVES})
    results = volume(runctl, "results")
    first = create(runctl, "--ebs-volume", "results")
    train = ("aws", "train", first, "train.py", "--wait", "--run-name")
    runctl(*train, "base", "--ebs-mount", "results:/results").ok()
    runctl(*train, "disk", "--no-ebs-auto").ok()
    allow(account("iam"), BUCKET)
    store = f"s3://{BUCKET}/published"
    runctl(
        *train,
        "stored",
        "--no-ebs-auto",
        "--checkpoint-s3",
        store,
        "--checkpoint-endpoint",
        docker_sandbox.endpoint_url,
    ).ok()

    def checkpoint(*words: object) -> Any:
        return runctl("checkpoint", *words, "--output", "json").ok().json

    # On the machine: of a run, or as a folder of an instance.
    (two, one) = checkpoint("list", "base")
    assert [(each["name"], each["step"], each["state"]) for each in (two, one)] == [
        ("step-2.pt", 2, "complete"),
        ("step-1.pt", 1, "complete"),
    ]
    assert two["where"].startswith(f"{first}:/mnt/results/runs/")
    assert [each["name"] for each in checkpoint("list", two["where"])] == ["step-2.pt", "step-1.pt"]
    assert {each["state"] for each in checkpoint("verify", "disk")} == {"verified"}

    # Fetched, in an object store, and put back as the newest.
    pulled = checkpoint("pull", "disk", "./one", "--name", "step-1.pt")
    assert (pulled["sent_files"], pulled["target"]) == (1, str(runctl.cwd / "one/step-1.pt"))
    assert zipfile.ZipFile(runctl.cwd / "one/step-1.pt").read("weights") == b"1" * 100_000
    assert checkpoint("push", "./one", f"s3://{BUCKET}/runs/run-x")["sent_files"] == 1
    assert [each["state"] for each in checkpoint("verify", f"s3://{BUCKET}/runs/run-x")] == ["verified"]
    unknown = runctl("checkpoint", "pull", f"s3://{BUCKET}/runs", "./x", "--output", "json").error
    assert unknown["hint"] == f"name a run's own folder: s3://{BUCKET}/runs/run-x"
    checkpoint("pull", f"s3://{BUCKET}/runs/run-x", "./two")
    assert _same(runctl.cwd / "one/step-1.pt", runctl.cwd / "two/step-1.pt")
    checkpoint("push", "./two", "base")
    assert [each["name"] for each in checkpoint("list", "base")] == ["step-1.pt", "step-2.pt"]
    again = ("aws", "train", first, "train.py", "--resume-from", "base", "--no-ebs-auto", "--wait")
    assert "/checkpoints/step-1.pt" in runctl(*again).ok().out

    # Of a run that publishes, in both places.
    both = checkpoint("list", "stored")
    run_id = runctl("runs", "show", "stored", "--output", "json").ok().json["id"]
    assert {each["where"].partition("://")[0] for each in both} == {"s3", both[0]["where"]}
    checkpoint("push", "./two", "stored")

    # The machine goes; the volume has those of the one run, and nothing has those of the other.
    terminate(runctl, first)
    gone = runctl("checkpoint", "list", "disk", "--output", "json").error
    assert (gone["code"], "ended with it" in gone["message"]) == ("no-checkpoint", True)
    kept = runctl("checkpoint", "list", "base", "--output", "json").error
    assert f"runctl aws ebs attach {results} INSTANCE" in kept["message"]
    stored = checkpoint("verify", "stored")
    assert {(each["where"], each["state"]) for each in stored} == {(f"{store}/{run_id}", "verified")}
    assert checkpoint("pull", "stored", "./three")["name"] == "step-1.pt"
    second = create(runctl, "--ebs-volume", "results")
    found = checkpoint("list", "base")
    assert {each["where"].partition(":")[0] for each in found} == {second}
    checkpoint("prune", "base", "--keep-last", "1", "--yes")
    assert [each["name"] for each in checkpoint("list", "base")] == ["step-1.pt"]


def _same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes() and one.stat().st_mode == other.stat().st_mode
