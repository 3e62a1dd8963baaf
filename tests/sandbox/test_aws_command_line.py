"""The real ``aws`` command works against the sandbox, with nothing but the variables that ``sandbox env`` prints."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from runctl.sandbox.connection import SandboxInfo
from tests.sandbox.account import AMAZON_LINUX, Account

pytestmark = pytest.mark.namespaces

AWS = Path(sysconfig.get_path("scripts"), "aws")


def aws(*argv: str) -> subprocess.CompletedProcess[str]:
    """The command, in the environment of the test."""
    return subprocess.run(
        [str(AWS), "--output", "json", *argv],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "AWS_PAGER": ""},
    )


def answer(*argv: str) -> Any:
    """What it prints as JSON; it must end well."""
    done = aws(*argv)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


def test_an_instance_is_launched_waited_for_and_terminated(
    in_sandbox: SandboxInfo, account: Account, launched: list[str]
) -> None:
    run = ["ec2", "run-instances", "--image-id", account.image, "--instance-type", "t3.micro"]

    (instance,) = answer(*run)["Instances"]
    launched.append(instance["InstanceId"])
    aws("ec2", "wait", "instance-running", "--instance-ids", instance["InstanceId"]).check_returncode()
    answer("ec2", "terminate-instances", "--instance-ids", instance["InstanceId"])

    assert account.wait_state(instance["InstanceId"], "terminated")


def test_the_image_is_found_by_its_public_parameter(in_sandbox: SandboxInfo) -> None:
    parameter = answer("ssm", "get-parameter", "--name", AMAZON_LINUX)["Parameter"]

    images = answer("ec2", "describe-images", "--image-ids", parameter["Value"])["Images"]

    assert [image["ImageId"] for image in images] == [parameter["Value"]]


def test_files_go_to_s3_and_come_back(in_sandbox: SandboxInfo, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(100_000))
    aws("s3", "mb", "s3://by-command-line").check_returncode()

    aws("s3", "cp", "--quiet", str(source), "s3://by-command-line/folder/file").check_returncode()
    aws("s3", "cp", "--quiet", "s3://by-command-line/folder/file", str(target)).check_returncode()

    assert target.read_bytes() == source.read_bytes()


def test_it_says_who_one_is(in_sandbox: SandboxInfo) -> None:
    assert answer("sts", "get-caller-identity")["Account"].isdigit()


def test_an_error_has_awss_code(in_sandbox: SandboxInfo) -> None:
    done = aws("ec2", "describe-instances", "--instance-ids", "i-0123456789abcdef0")

    assert done.returncode != 0
    assert "InvalidInstanceID.NotFound" in done.stderr
