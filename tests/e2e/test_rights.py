"""runctl works under exactly the policy that it prints; each right that is taken away stops a command by its name."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from runctl.providers.aws.iam.policies import policy_for
from runctl.providers.aws.iam.rights import RIGHTS, Whose
from runctl.sandbox.connection import SandboxInfo
from tests.docs.pages import blocks
from tests.e2e.command_line import CommandLine, Outcome, write_project

pytestmark = [pytest.mark.namespaces, pytest.mark.docker, pytest.mark.usefixtures("clean_account")]

ROLE = "uses-runctl"
ACCOUNT = "123456789012"
OWN = "adas-own-bucket"
PAGE = Path(__file__).parents[2] / "docs" / "aws-setup.md"
"""Says what lets somebody use a bucket of their own."""


class User:
    """Somebody who may do what a policy says, and no more."""

    def __init__(self, info: SandboxInfo, folder: Path) -> None:
        own = info.environment()
        session = boto3.Session(
            own["AWS_ACCESS_KEY_ID"], own["AWS_SECRET_ACCESS_KEY"], region_name=info.region
        )
        self._iam = session.client("iam", endpoint_url=info.endpoint_url)
        trust = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}
        self._iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))
        keys = session.client("sts", endpoint_url=info.endpoint_url).assume_role(
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{ROLE}", RoleSessionName="ada"
        )["Credentials"]
        project = write_project(
            folder / "project", {"train.py": "print('trained')\n", "big.bin": secrets.token_hex(4_000_000)}
        )
        self.runctl = CommandLine(
            project,
            {
                "XDG_DATA_HOME": str(folder / "data"),
                "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
                "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
                "AWS_SESSION_TOKEN": keys["SessionToken"],
            },
        )
        session.client("s3", endpoint_url=info.endpoint_url).create_bucket(Bucket=OWN)
        self.may()

    def may(self, *, without: tuple[str, ...] = (), whose: Whose = Whose.USER) -> None:
        """All that the policy allows, but for these rights; and to use a bucket of their own."""
        policy = policy_for(whose, partition="aws", account=ACCOUNT, without=without)
        (page,) = (
            block.body for block in blocks(PAGE.read_text()) if block.options.get("file") == "own.json"
        )
        own = json.loads(page.replace("arn:aws:s3:::mine", f"arn:aws:s3:::{OWN}"))["Statement"]
        policy["Statement"] += [statement for statement in own if statement["Sid"].endswith("OwnBucket")]
        self._iam.put_role_policy(RoleName=ROLE, PolicyName="runctl", PolicyDocument=json.dumps(policy))

    def leave(self) -> None:
        self._iam.delete_role_policy(RoleName=ROLE, PolicyName="runctl")
        self._iam.delete_role(RoleName=ROLE)


@pytest.fixture
def user(in_docker_sandbox: SandboxInfo, tmp_path: Path) -> Iterator[User]:
    found = User(in_docker_sandbox, tmp_path)
    yield found
    found.leave()


@pytest.mark.slow
def test_a_user_with_the_printed_policy_can_work_and_without_each_right_is_told_which_one(user: User) -> None:
    runctl = user.runctl
    printed = runctl("aws", "iam-policy").ok().out
    assert json.loads(printed) == policy_for(Whose.USER, partition="aws", account=ACCOUNT)
    missed: dict[str, str] = {}

    def refused(right: str, *command: object, action: str | None = None) -> None:
        """Without the right, the command says what it may not do."""
        user.may(without=(right,))
        done: Outcome = runctl(*command)
        user.may()
        actions = next(each.actions for each in RIGHTS if each.sid == right)
        if done.code == 0 or not any(name in done.err for name in ([action] if action else actions)):
            missed[right] = f"{done}"

    create = ("aws", "create", "t3.medium", "--yes", "--quiet")
    refused("LookAtMachines", "aws", "list")
    refused("LookAtDisks", "aws", "ebs", "list")
    refused("LookAtPrices", "aws", "spot-prices", "t3.medium")
    refused("ReadTheBill", "cost", "reconcile", "--since", "today", "--until", "tomorrow")
    for right in ("LookAtWhatIsOffered", "FindImages"):
        refused(right, *create, "--dry-run")
    for right in ("LookAtRoles", "MakeRoles", "Rent", "RentOf", "GiveRoles"):
        refused(right, *create)
    machine = runctl(*create, "--name", "dev").ok().out.strip()
    refused("ReadMeasurements", "resources", "insights", "--region", "us-east-1")
    refused("RentFromPools", *create, "--spot")
    refused("TagWhatIsMade", "aws", "ebs", "create", "--size", 1, "--name", "other")
    refused("MakeVolumes", "aws", "ebs", "create", "--size", 1, "--name", "other")
    volume = runctl("aws", "ebs", "create", "--size", 1, "--name", "data", "--quiet").ok().out.strip()
    refused("ChangeVolumes", "aws", "ebs", "resize", volume, "--size", 2, "--yes")
    refused("UseVolumes", "aws", "ebs", "attach", volume, machine)
    refused("ChangeTags", "aws", "ebs", "attach", volume, machine)
    runctl("aws", "ebs", "attach", volume, machine).ok()
    for right in ("ReachMachines", "ReachWith", "ReadAnswers"):
        refused(right, "aws", "exec", machine, "--transport", "ssm", "--", "true")
    refused("PassFilesOn", "cp", "big.bin", f"{machine}:/tmp/big.bin", "--transport", "ssm")
    runctl("cp", "big.bin", f"{machine}:/tmp/big.bin", "--transport", "ssm").ok()
    run = runctl("aws", "train", machine, "train.py", "--quiet").ok().out.strip()
    assert "trained" in runctl("runs", "logs", run, "--wait").ok().out
    runctl("aws", "extend", machine, "--ttl", "2h").ok()
    runctl("aws", "ebs", "detach", volume, "--yes").ok()
    for right in ("CopyVolumes", "MakeSnapshots"):
        refused(right, "aws", "ebs", "snapshot", volume)
    several = ("aws", "launch", "train.py", "--instance-type", "m5.large", "--nodes", 2, "--engine", "none")
    more = ("--ebs-volume", "data", "--yes", "--wait", "--quiet")
    for right in ("MakeNetworks", "MakeNetworksIn", "KeepNetworks", "EndDisksWithMachines"):
        refused(right, *several, *more)
    runctl(*several, *more).ok()
    refused("DeleteDisks", "aws", "ebs", "delete", volume, "--yes")
    runctl("aws", "ebs", "delete", volume, "--yes").ok()
    refused("StopAndStart", "aws", "stop", machine)
    refused("End", "aws", "terminate", machine, "--yes")
    runctl("aws", "terminate", machine, "--yes").ok()
    refused("KeepBucket", "aws", "setup", "--yes")
    refused("KeepAlarm", "aws", "setup", "--remove", "--yes")
    assert missed == {}


def test_leaving_a_run_alone_takes_the_policy_for_that(user: User) -> None:
    # Of several machines, whose network is made and removed besides.
    several = ("--instance-type", "m5.large", "--nodes", 2, "--engine", "none")
    launch = ("aws", "launch", "train.py", "--unattended", *several, "--yes", "--quiet")
    where = ("--spot", "--checkpoint-s3", f"s3://{OWN}/runs", "--results", f"s3://{OWN}/results")
    refused = user.runctl(*launch, *where)
    assert refused.code != 0
    assert "autoscaling:CreateAutoScalingGroup" in refused.err

    user.may(whose=Whose.UNATTENDED)
    run = user.runctl(*launch, *where, "--ttl", "1h").ok().out.strip()
    assert run in user.runctl("runs", "list", "--quiet").ok().out
    for known in user.runctl("runs", "list", "--quiet").ok().out.split():
        stopped = user.runctl("runs", "stop", known).ok()
        if known == run:
            assert "removed security group" in stopped.err
            assert "removed placement group" in stopped.err
