"""Terraform takes over what runctl has made, and runctl uses what Terraform has made: with the real Terraform."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runctl.core.tags import OWNED, OWNED_VALUE
from runctl.sandbox.connection import SandboxInfo
from tests.availability import terraform_environment
from tests.docs.pages import blocks
from tests.e2e.account import create, volume
from tests.e2e.command_line import CommandLine, write_project
from tests.e2e.test_launch import client

# docs/terraform.md imports an instance and a volume in every run; here is the rest.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.namespaces,
    pytest.mark.docker,
    pytest.mark.terraform,
    pytest.mark.usefixtures("clean_account"),
]

ZONE, ELSEWHERE = "us-east-1a", "eu-west-1"
OURS = [{"Key": OWNED, "Value": OWNED_VALUE}]
SLEEPER = "import time\ntime.sleep(3000)\n"
KEEPS_TEN = {
    "rules": [
        {
            "rulePriority": 1,
            "description": "keep ten",
            "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 10},
            "action": {"type": "expire"},
        }
    ]
}
EVERY_TYPE = {
    "aws_autoscaling_group",
    "aws_autoscaling_schedule",
    "aws_ebs_snapshot",
    "aws_ebs_volume",
    "aws_ecr_lifecycle_policy",
    "aws_ecr_repository",
    "aws_iam_instance_profile",
    "aws_iam_role",
    "aws_iam_role_policy",
    "aws_instance",
    "aws_launch_template",
    "aws_placement_group",
    "aws_s3_bucket",
    "aws_s3_bucket_lifecycle_configuration",
    "aws_s3_bucket_public_access_block",
    "aws_s3_bucket_server_side_encryption_configuration",
    "aws_security_group",
    "aws_volume_attachment",
}


def shape(name: str) -> dict[str, Any]:
    """The example in docs/json.md."""
    text = (Path(__file__).parents[2] / "docs" / "json.md").read_text()
    (body,) = [block.body for block in blocks(text) if block.options.get("shape") == name]
    found: dict[str, Any] = json.loads(body)
    return found


@dataclass(frozen=True)
class Terraform:
    """The program in one folder, with the providers that this computer has."""

    folder: Path

    def __call__(self, *argv: str, code: int = 0) -> str:
        done = subprocess.run(
            ["terraform", *argv],
            cwd=self.folder,
            env={**os.environ, **terraform_environment(self.folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == code, f"terraform {' '.join(argv)}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def terraform(tmp_path: Path, runctl: CommandLine) -> Terraform:
    folder = tmp_path / "terraform"
    folder.mkdir()
    return Terraform(folder)


@pytest.fixture
def of_all_kinds(runctl: CommandLine, in_docker_sandbox: SandboxInfo) -> Iterator[CommandLine]:
    """What runctl makes, and what it has made elsewhere or by hand has its tag."""
    write_project(runctl.cwd, {"train.py": SLEEPER})
    s3, ecr, ec2 = (client(in_docker_sandbox, name) for name in ("s3", "ecr", "ec2"))
    runctl("aws", "setup", "--yes").ok()
    volume(runctl, "datasets", "--zone", ZONE)
    create(
        runctl,
        "--spot",
        "--zone",
        ZONE,
        "--name",
        "trainer",
        "--ebs-volume",
        "datasets",
        "--data-volume-size",
        "1",
    )
    runctl("aws", "ebs", "snapshot", "datasets", "--yes").ok()
    # Two of one name, one of them in another region.
    volume(runctl, "archive", "--zone", ZONE)
    volume(runctl, "archive", "--region", ELSEWHERE)
    group = ec2.create_security_group(
        GroupName="nodes",
        Description="nodes of a run",
        TagSpecifications=[{"ResourceType": "security-group", "Tags": OURS}],
    )["GroupId"]
    ec2.authorize_security_group_ingress(
        GroupId=group,
        IpPermissions=[
            {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group, "Description": "each other"}]},
            {
                "IpProtocol": "tcp",
                "FromPort": 22,
                "ToPort": 22,
                "IpRanges": [{"CidrIp": "10.0.0.0/8"}, {"CidrIp": "192.0.2.0/24", "Description": "office"}],
            },
        ],
    )
    placed = [{"ResourceType": "placement-group", "Tags": OURS}]
    ec2.create_placement_group(GroupName="runctl-nodes", Strategy="cluster", TagSpecifications=placed)
    ecr.create_repository(
        repositoryName="runctl/digits", tags=OURS, imageScanningConfiguration={"scanOnPush": True}
    )
    ecr.put_lifecycle_policy(repositoryName="runctl/digits", lifecyclePolicyText=json.dumps(KEEPS_TEN))
    s3.create_bucket(Bucket="kept-runs")
    launch = (
        "aws",
        "launch",
        "train.py",
        "--instance-type",
        "t3.medium",
        "--spot",
        "--unattended",
        "--ttl",
        "5h",
    )
    run = runctl(*launch, "--checkpoint-s3", "s3://kept-runs/runs", "--yes", "--quiet").ok().out.strip()
    yield runctl
    runctl("runs", "stop", run, "--force").ok()
    runctl("aws", "setup", "--remove", "--yes")
    ecr.delete_repository(repositoryName="runctl/digits", force=True)
    ec2.delete_security_group(GroupId=group)
    ec2.delete_placement_group(GroupName="runctl-nodes")
    client(in_docker_sandbox, "ec2", ELSEWHERE).delete_volume(
        VolumeId=runctl("aws", "ebs", "list", "--region", ELSEWHERE, "--quiet").out.strip()
    )
    for snapshot in runctl("aws", "ebs", "snapshots", "--quiet").ok().out.split():
        ec2.delete_snapshot(SnapshotId=snapshot)


def test_terraform_takes_over_every_kind_as_it_is_and_changes_nothing(
    of_all_kinds: CommandLine, terraform: Terraform
) -> None:
    runctl = of_all_kinds
    written = runctl("export", "terraform").ok().out
    assert runctl("export", "terraform").ok().out == written
    document = runctl("export", "terraform", "--output", "json").ok().json
    assert list(document) == list(shape("TerraformExported"))
    assert document["configuration"] == written
    (terraform.folder / "runctl.tf").write_text(written)
    resources = re.findall(r'^resource "(\w+)" "(\w+)"', written, re.MULTILINE)
    assert {kind for kind, _ in resources} == EVERY_TYPE
    assert "rents and ends it" in written.partition("\n\n")[0], "the group's own machine"

    assert terraform("fmt", "-check", "-diff") == ""
    terraform("init", "-input=false")
    planned = terraform("plan", "-input=false", "-out=plan")
    assert f"Plan: {len(resources)} to import, 0 to add, 0 to change, 0 to destroy." in planned, planned
    terraform("apply", "-input=false", "plan")
    assert "No changes." in terraform("plan", "-input=false", "-detailed-exitcode")


MADE_BY_TERRAFORM = """\
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {}

data "aws_subnet" "of_zone" {
  availability_zone = "us-east-1a"
  default_for_az    = true
}

resource "aws_ebs_volume" "datasets" {
  availability_zone = "us-east-1a"
  size              = 1
  tags              = { Name = "tf-datasets" }
}

resource "aws_security_group" "ssh" {
  name   = "tf-ssh"
  vpc_id = data.aws_subnet.of_zone.vpc_id
}

resource "aws_iam_role" "machine" {
  name               = "tf-machine"
  assume_role_policy = data.aws_iam_policy_document.trust.json
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy_attachment" "ssm" {
  role       = aws_iam_role.machine.name
  policy_arn = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

resource "aws_iam_instance_profile" "machine" {
  name = "tf-machine"
  role = aws_iam_role.machine.name
}

resource "aws_key_pair" "ours" {
  key_name   = "tf-key"
  public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1u2cUoYLVvpEl3jkqg6GOmPi1J8r3tbGXVRkM1XIdm"
}

output "volume" {
  value = aws_ebs_volume.datasets.id
}

output "subnet" {
  value = data.aws_subnet.of_zone.id
}
"""


def test_runctl_uses_what_terraform_has_made_and_never_deletes_it(
    runctl: CommandLine, terraform: Terraform
) -> None:
    (terraform.folder / "main.tf").write_text(MADE_BY_TERRAFORM)
    terraform("init", "-input=false")
    terraform("apply", "-input=false", "-auto-approve")
    made: dict[str, Any] = {
        name: output["value"] for name, output in json.loads(terraform("output", "-json")).items()
    }

    options = ("--security-group", "tf-ssh", "--subnet", made["subnet"])
    machine = create(runctl, *options, "--instance-profile", "tf-machine", "--key-name", "tf-key")
    runctl("aws", "ebs", "attach", "tf-datasets", machine, "--format").ok()
    (found,) = runctl("aws", "list", "--output", "json").ok().json
    assert found["id"] == machine
    mounted = runctl("aws", "exec", machine, "--", "findmnt", "-no", "TARGET", "/mnt/tf-datasets")
    assert mounted.ok().out.strip() == "/mnt/tf-datasets"

    # What runctl has made goes, Terraform's stays: asked for by name, by id, and by clearing up.
    for named in ("tf-datasets", made["volume"]):
        refused = runctl("aws", "ebs", "delete", named, "--yes", "--output", "json")
        assert (refused.code, refused.error["code"]) == (4, "not-ours"), str(refused)
    runctl("aws", "terminate", machine, "--yes", "--wait").ok()
    runctl("resources", "cleanup", "--include", "volumes", "--yes").ok()
    assert "No changes." in terraform("plan", "-input=false", "-detailed-exitcode")
    terraform("destroy", "-input=false", "-auto-approve")
