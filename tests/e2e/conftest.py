"""Sandboxes for the end-to-end tests, and the command line in them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.fault_client import Faults
from tests.e2e.command_line import CommandLine, until, write_project

TRAIN = """\
import json, os, pathlib, sys, time
print("args", json.dumps(sys.argv[1:]), flush=True)
data = pathlib.Path(os.environ["RUNCTL_DATA_DIR"])
print("sees", sorted(path.name for path in data.iterdir() if path.name != "lost+found"), flush=True)
checkpoint = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"], "last.txt")
checkpoint.write_text(os.environ["RUNCTL_RUN_ID"])
if "--forever" in sys.argv:
    while True:
        print("tick", flush=True)
        time.sleep(0.2)
if "--exit" in sys.argv:
    sys.exit(int(sys.argv[sys.argv.index("--exit") + 1]))
"""

DOCKERFILE = "FROM python:3.11-slim\nWORKDIR /workspace\nCOPY . .\n"


@pytest.fixture
def runctl(in_docker_sandbox: SandboxInfo, tmp_path: Path) -> CommandLine:
    """In a project without a Dockerfile."""
    project = write_project(tmp_path / "project", {"training/train.py": TRAIN})
    return CommandLine(project, {"XDG_DATA_HOME": str(tmp_path / "data")})


@pytest.fixture
def in_container(in_docker_sandbox: SandboxInfo, tmp_path: Path) -> CommandLine:
    """In a project with one."""
    project = write_project(tmp_path / "dockered", {"training/train.py": TRAIN, "Dockerfile": DOCKERFILE})
    return CommandLine(project, {"XDG_DATA_HOME": str(tmp_path / "data")})


@pytest.fixture
def faults(in_docker_sandbox: SandboxInfo) -> Iterator[Faults]:
    """What goes wrong on request; all is well again afterwards."""
    faults = Faults(in_docker_sandbox)
    yield faults
    faults.clear()


@pytest.fixture(scope="session")
def ec2(docker_sandbox: SandboxInfo) -> Any:
    """boto3's client of the account."""
    environment = docker_sandbox.environment()
    return boto3.client(
        "ec2",
        endpoint_url=docker_sandbox.endpoint_url,
        region_name=docker_sandbox.region,
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )


@pytest.fixture
def clean_account(ec2: Any) -> Iterator[None]:
    """No instance and no volume of this test is there afterwards, and no network that was made for machines of a run.

    By AWS's own calls: a command takes a second to start, and what it does is not what is tested here.
    """
    yield

    def instances() -> list[str]:
        reservations = ec2.describe_instances()["Reservations"]
        found = [item for reservation in reservations for item in reservation["Instances"]]
        return [entry["InstanceId"] for entry in found if entry["State"]["Name"] != "terminated"]

    if left := instances():
        ec2.terminate_instances(InstanceIds=left)
        until(lambda: not instances(), what="the instances to be gone")

    def volumes() -> list[dict[str, Any]]:
        return list(ec2.describe_volumes()["Volumes"])

    until(lambda: all(volume["State"] == "available" for volume in volumes()), what="the volumes to be free")
    for volume in volumes():
        ec2.delete_volume(VolumeId=volume["VolumeId"])
    for placement in ec2.describe_placement_groups()["PlacementGroups"]:
        ec2.delete_placement_group(GroupName=placement["GroupName"])
    for group in ec2.describe_security_groups()["SecurityGroups"]:
        if group["GroupName"].startswith("runctl-nodes-"):
            ec2.delete_security_group(GroupId=group["GroupId"])


@pytest.fixture(scope="session")
def ssh_account(ec2: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A key pair and a security group that lets port 22 in, as an account that uses SSH has them."""
    key = tmp_path_factory.mktemp("key") / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    ec2.import_key_pair(KeyName="e2e", PublicKeyMaterial=key.with_suffix(".pub").read_bytes())
    group = ec2.create_security_group(GroupName="e2e-ssh", Description="SSH in")["GroupId"]
    ec2.authorize_security_group_ingress(
        GroupId=group,
        IpPermissions=[
            {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        ],
    )
    return {"key": str(key), "group": group}
