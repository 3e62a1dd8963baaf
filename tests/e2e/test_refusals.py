"""What cannot be done is one clear error, and leaves nothing: before anything runs, and before anything is rented."""

from __future__ import annotations

import json

import pytest

from runctl.sandbox.fault_client import Faults
from tests.e2e.account import create, volume
from tests.e2e.command_line import CommandLine

pytestmark = [
    pytest.mark.namespaces,
    pytest.mark.docker,
    pytest.mark.usefixtures("clean_account"),
]


def test_a_machine_without_docker_says_so_before_anything_is_sent(in_container: CommandLine) -> None:
    instance = create(in_container, "--ami-id", "ami-0b00000000000001")

    done = in_container("aws", "train", instance, "training/train.py", "--output", "json")

    assert done.code == 1
    assert done.error["code"] == "no-docker"
    assert done.error["hint"]
    assert "sending" not in done.err
    assert in_container("runs", "list", "--output", "json").ok().json == []


@pytest.mark.parametrize(
    ("argv", "code", "error_code"),
    [
        (["aws", "status", "i-0123456789abcdef0"], 5, None),
        (["aws", "train", "i-0123456789abcdef0", "training/train.py"], 5, None),
        (["aws", "terminate", "i-0123456789abcdef0", "--yes"], 5, None),
        (["aws", "train", "vol-0123456789abcdef0", "training/train.py"], 2, "bad-instance-id"),
        (["aws", "create", "t3.nonsense"], None, None),
        (["aws", "create", "--ebs-volume", "nosuch", "--mount-point", "/mnt/x"], 5, None),
        (["aws", "create", "--ebs-volume", "a", "--ebs-volume", "b", "--mount-point", "/x"], 2, "unpaired"),
        (["aws", "ebs", "create", "--size", "0"], 2, None),
        (["aws", "ebs", "delete", "nosuch", "--yes"], 5, None),
    ],
)
def test_bad_input_is_one_clear_error_and_makes_nothing(
    runctl: CommandLine, argv: list[str], code: int | None, error_code: str | None
) -> None:
    done = runctl(*argv, "--output", "json")

    assert done.code == code if code is not None else done.code in {2, 5}, f"{done}"
    assert done.out == ""
    assert done.error["message"]
    assert error_code is None or done.error["code"] == error_code
    assert runctl("aws", "list", "--output", "json").ok().json == []


def test_a_volume_in_another_zone_or_in_use_is_refused(runctl: CommandLine) -> None:
    volume(runctl, "here", "--availability-zone", "us-east-1a")
    volume(runctl, "there", "--availability-zone", "us-east-1b")
    both = [
        "--ebs-volume",
        "here",
        "--mount-point",
        "/mnt/a",
        "--ebs-volume",
        "there",
        "--mount-point",
        "/mnt/b",
    ]

    apart = runctl("aws", "create", "t3.medium", *both, "--output", "json")
    wrong = runctl(
        "aws",
        "create",
        "t3.medium",
        "--zone",
        "us-east-1b",
        "--ebs-volume",
        "here",
        "--mount-point",
        "/mnt/a",
        "--output",
        "json",
    )
    instance = create(runctl, "--ebs-volume", "here", "--mount-point", "/mnt/a")
    taken = runctl(
        "aws", "create", "t3.medium", "--ebs-volume", "here", "--mount-point", "/mnt/a", "--output", "json"
    )
    across = runctl("aws", "ebs", "attach", "there", instance, "--output", "json")

    assert [apart.error["code"], wrong.error["code"], across.error["code"]] == ["zone-mismatch"] * 3
    assert (taken.code, instance in taken.error["message"]) == (1, True)
    assert [found["id"] for found in runctl("aws", "list", "--output", "json").ok().json] == [instance]


def test_a_mount_that_cannot_be_made_starts_nothing(runctl: CommandLine) -> None:
    instance = create(runctl)

    done = runctl(
        "aws", "train", instance, "training/train.py", "--ebs-mount", "/mnt/nowhere:/data", "--output", "json"
    )

    assert done.code == 5
    assert done.error["code"] == "not-a-mount"
    assert runctl("aws", "processes", instance, "--all", "--output", "json").ok().json == []


def test_no_capacity_is_said_with_its_own_code_and_leaves_nothing(
    runctl: CommandLine, faults: Faults
) -> None:
    faults.no_capacity(instance_type="t3.medium")

    done = runctl("aws", "create", "t3.medium", "--spot", "--output", "json")

    assert done.code == 6
    assert done.error["hint"]
    assert runctl("aws", "list", "--output", "json").ok().json == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, 4),
        ({"AWS_SESSION_TOKEN": "expired"}, 4),
        ({"AWS_ACCESS_KEY_ID": "AKIAINVALID"}, 4),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, 7),
    ],
)
def test_credentials_and_endpoint_errors_are_told_apart(
    runctl: CommandLine, changes: dict[str, str], code: int
) -> None:
    done = CommandLine(runctl.cwd, {**runctl.env, **changes})("aws", "list", "--output", "json")

    assert done.code == code, f"{done}"
    assert done.error["hint"]


def test_what_is_not_ours_is_not_touched(runctl: CommandLine) -> None:
    import boto3

    ec2 = boto3.client("ec2")
    launched = ec2.run_instances(
        ImageId="ami-0a12023000000001", InstanceType="t3.micro", MinCount=1, MaxCount=1
    )
    theirs = launched["Instances"][0]["InstanceId"]
    try:
        done = runctl("aws", "terminate", theirs, "--yes", "--output", "json")

        assert (done.code, done.error["code"]) == (4, "not-ours")
        assert runctl("aws", "list", "--output", "json").ok().json == []
        everyone = runctl("aws", "list", "--everyone", "--output", "json").ok().json
        assert theirs in json.dumps(everyone)
    finally:
        ec2.terminate_instances(InstanceIds=[theirs])
