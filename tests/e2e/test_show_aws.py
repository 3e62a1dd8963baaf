"""What ``--show-aws`` prints does the same as the command itself: run by a shell, with the real ``aws``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.e2e.account import volume_named
from tests.e2e.command_line import CommandLine, until

pytestmark = [pytest.mark.namespaces, pytest.mark.docker, pytest.mark.usefixtures("clean_account")]

ZONE = "us-east-1a"
OF_ITS_OWN = frozenset(
    {
        # Ids and addresses, times, and the tokens of a request.
        *("InstanceId", "VolumeId", "AssociationId", "AttachmentId", "NetworkInterfaceId", "ReservationId"),
        *(
            "PrivateIpAddress",
            "PrivateIpAddresses",
            "PublicIpAddress",
            "PublicIp",
            "MacAddress",
            "Association",
        ),
        *("PrivateDnsName", "PublicDnsName", "LaunchTime", "AttachTime", "CreateTime", "ClientToken"),
        *("SpotInstanceRequestId", "UsageOperationUpdateTime", "Id"),
    }
)
OF_EACH = frozenset({"Name", "runctl:intent", "runctl:created-at", "runctl:mounts", "runctl:unused"})


@pytest.fixture
def shown(runctl: CommandLine, tmp_path: Path) -> Any:
    """The script of a command, which was run; it is given back."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def carry_out(*argv: object) -> str:
        script = runctl("aws", *argv, "--show-aws").ok().out
        done = subprocess.run(
            ["sh", "-c", script],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            # The AWS CLI takes a second to start, and looks every 15 seconds whether what it waits for has come.
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return script

    return carry_out


def alike(described: Any) -> Any:
    """Without what two things of one kind differ by."""
    if isinstance(described, dict):
        if set(described) == {"Key", "Value"}:
            return (described["Key"], "…" if described["Key"] in OF_EACH else described["Value"])
        return {key: alike(value) for key, value in described.items() if key not in OF_ITS_OWN}
    if isinstance(described, list):
        return sorted((alike(each) for each in described), key=str)
    return described


def named(ec2: Any, name: str) -> Any:
    """The instance of that name, as EC2 describes it."""
    filters = [{"Name": "tag:Name", "Values": [name]}]
    (reservation,) = ec2.describe_instances(Filters=filters)["Reservations"]
    return reservation["Instances"][0]


# docs/aws-cli.md runs one script in every run, tests/providers/aws/preview asks how each line is made.
@pytest.mark.slow
def test_the_printed_commands_do_what_the_command_does(runctl: CommandLine, shown: Any, ec2: Any) -> None:
    setup = ("setup", "--alarm", "100usd", "--email", "somebody@example.com")
    shown(*setup)
    plan = runctl("aws", *setup, "--dry-run", "--output", "json").ok().json
    assert {part["kind"]: part["state"] for part in plan["parts"]} == dict.fromkeys(
        ("instance profile", "bucket", "budget alarm"), "ready"
    )
    shown("setup", "--remove")
    assert runctl("aws", "setup", "--remove", "--dry-run", "--output", "json").ok().json["parts"] == []

    volume = ("ebs", "create", "--size", 1, "--zone", ZONE, "--name")
    assert "VOLUME_ID=$(aws ec2 create-volume" in shown(*volume, "by-script")
    assert [each["name"] for each in runctl("aws", "ebs", "list", "--output", "json").ok().json] == [
        "by-script"
    ]
    runctl("aws", *volume, "by-command").ok()
    script, command = (
        ec2.describe_volumes(Filters=[{"Name": "tag:Name", "Values": [name]}])["Volumes"][0]
        for name in ("by-script", "by-command")
    )
    assert alike(script) == alike(command)

    machine = ("create", "t3.medium", "--zone", ZONE, "--no-wait")
    script = shown(*machine, "--name", "script", "--ebs-volume", "by-script")
    assert script.index("wait instance-running") < script.index("attach-volume")
    runctl("aws", *machine, "--name", "command", "--ebs-volume", "by-command").ok()
    until(lambda: named(ec2, "command")["State"]["Name"] == "running", what="it to run")
    assert alike(named(ec2, "script")) == alike(named(ec2, "command"))

    # What is mounted is not unmounted by commands of AWS: it says so, and takes a machine that has not mounted it.
    script = shown("ebs", "detach", "by-script")
    assert "# On i-" in script
    assert "unmounts it" in script
    assert volume_named(runctl, "by-script")["attached_to"] is None
    assert "aws ec2 wait snapshot-completed" in shown("ebs", "snapshot", "by-script", "--name", "taken")
    shown("ebs", "restore", "taken", "--name", "restored", "--zone", ZONE)
    shown("ebs", "snapshot-delete", "taken")
    assert runctl("aws", "ebs", "snapshots", "--quiet").ok().out == ""
    shown("ebs", "resize", "by-script", "--size", 2)
    assert volume_named(runctl, "by-script")["size_gib"] == 2
    shown("ebs", "clone", "by-script", "--name", "copy")
    assert volume_named(runctl, "copy")["size_gib"] == 2
    for name in ("by-script", "copy", "restored"):
        shown("ebs", "delete", name)
    shown("stop", "command")
    until(lambda: named(ec2, "command")["State"]["Name"] == "stopped", what="it to stop")
    shown("start", "command", "--no-wait")
    assert "aws ec2 wait instance-terminated" in shown("terminate", "command", "script", "--wait")
    assert runctl("aws", "list", "--quiet").ok().out == ""
    assert [each["name"] for each in runctl("aws", "ebs", "list", "--output", "json").ok().json] == [
        "by-command"
    ]


def test_nothing_is_done_or_remembered_and_a_mistake_is_told_as_ever(runctl: CommandLine, ec2: Any) -> None:
    state, before = Path(runctl.env["XDG_DATA_HOME"]), ec2.describe_instances()["Reservations"]
    script = (
        runctl("aws", "create", "t3.medium", "--spot", "--show-aws", "--output", "json").ok().json["script"]
    )
    order = [
        script.index(call) for call in ("create-launch-template", "create-fleet", "delete-launch-template")
    ]
    assert order == sorted(order)
    assert ec2.describe_instances()["Reservations"] == before
    assert ec2.describe_launch_templates()["LaunchTemplates"] == []
    assert [path for path in state.rglob("*") if path.is_file()] == []
    missing = runctl("aws", "ebs", "delete", "no-such-volume", "--show-aws")
    assert (missing.code, missing.out) == (5, "")
    assert "has no volume 'no-such-volume'" in missing.err


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_printed_commands_of_move_prewarm_and_launch_do_what_the_commands_do(
    runctl: CommandLine, shown: Any, ec2: Any
) -> None:
    runctl("aws", "ebs", "create", "--size", 1, "--zone", ZONE, "--name", "moved").ok()
    assert "describe-volume-status" in shown(
        "ebs", "move", "moved", "--zone", f"{ZONE[:-1]}b", "--delete-source"
    )
    moved = volume_named(runctl, "moved")
    assert (moved["zone"], moved["name"]) == (f"{ZONE[:-1]}b", "moved")
    assert [each["Tags"] for each in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]] == []
    assert not [each for each in moved["tags"] if each.startswith("runctl:move")]

    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="shown")
    boto3.client("s3", region_name="us-east-1").put_object(Bucket="shown", Key="data/a", Body=b"a")
    script = shown("ebs", "prewarm", "moved", "--from", "s3://shown/data")
    assert "carries out: fill s3 s3://shown/data" in script
    until(lambda: runctl("aws", "list", "--quiet").ok().out == "", what="the helper machine to end")
    assert volume_named(runctl, "moved")["attached_to"] is None

    (runctl.cwd / "train.py").write_text("print('trained')\n")
    launch = ("launch", "train.py", "--instance-type", "m5.large", "--nodes", "2", "--engine", "none")
    shown(*launch, "--name", "pair")
    ranks = {
        name: {tag["Key"]: tag["Value"] for tag in named(ec2, name)["Tags"]}["runctl:rank"]
        for name in ("pair-0", "pair-1")
    }
    assert ranks == {"pair-0": "0", "pair-1": "1"}
    refused = runctl("aws", *launch[:4], "--unattended", "--checkpoint-s3", "s3://shown/runs", "--show-aws")
    assert (refused.code, refused.out) == (2, "")
    assert "--unattended" in refused.err
