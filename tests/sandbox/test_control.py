"""Start, crash, stop: nothing of a sandbox outlives it; and the AWS command line finds its way in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from runctl.sandbox import control
from runctl.sandbox.control import SandboxInfo
from runctl.sandbox.layout import Layout

pytestmark = [pytest.mark.namespaces]


def traces(home: Path) -> list[str]:
    """What there is of a sandbox outside of its folder."""
    layout = Layout(home)
    commands = (
        ["ip", "netns", "list"],
        ["ip", "-oneline", "link", "show"],
        ["iptables-save"],
        ["losetup", "--list"],
        ["ps", "-e", "-o", "args="],
    )
    said = "\n".join(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in commands
    )
    return [line for line in said.splitlines() if layout.tag in line or str(home) in line]


def launch(info: SandboxInfo) -> str:
    """An instance with a volume, running."""
    words = info.environment()
    ec2 = boto3.client(
        "ec2",
        endpoint_url=info.endpoint_url,
        region_name=info.region,
        aws_access_key_id=words["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=words["AWS_SECRET_ACCESS_KEY"],
    )
    launched = ec2.run_instances(
        ImageId="ami-0a12023000000001",
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}],
    )
    instance_id = launched["Instances"][0]["InstanceId"]
    ec2.get_waiter("instance_running").wait(InstanceIds=[instance_id], WaiterConfig={"Delay": 1})
    return instance_id


def test_stop_leaves_nothing(tmp_path: Path) -> None:
    info = control.start(home=tmp_path / "sandbox", docker="off")
    launch(info)
    assert traces(info.home)

    control.stop(home=info.home)

    assert traces(info.home) == []
    assert control.status(home=info.home) is None


def test_a_killed_sandbox_is_cleaned_up_by_the_next_start(tmp_path: Path) -> None:
    home = tmp_path / "sandbox"
    first = control.start(home=home, docker="off")
    instance_id = launch(first)
    os.kill(first.pid, signal.SIGKILL)
    said: list[str] = []

    second = control.start(home=home, docker="off", report=said.append)
    try:
        assert second.pid != first.pid
        assert any(instance_id in line for line in said)
        assert not any(str(first.pid) == line.split()[0] for line in traces(home) if line.split())
    finally:
        control.stop(home=home)
    assert traces(home) == []


def test_a_second_start_finds_the_first(tmp_path: Path) -> None:
    first = control.start(home=tmp_path / "sandbox", docker="off")
    try:
        assert control.start(home=first.home, docker="off").pid == first.pid
    finally:
        control.stop(home=first.home)


def test_stop_where_nothing_runs_is_fine(tmp_path: Path) -> None:
    assert control.stop(home=tmp_path / "sandbox") == ()


def test_the_aws_command_line_works_in_it(tmp_path: Path) -> None:
    info = control.start(home=tmp_path / "sandbox", docker="off")
    try:
        aws = Path(sys.executable).with_name("aws")
        done = subprocess.run(
            [
                aws,
                "ec2",
                "create-volume",
                "--availability-zone",
                "us-east-1a",
                "--size",
                "2",
                "--volume-type",
                "gp3",
            ],
            env={**os.environ, **info.environment()},
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout)["Size"] == 2
    finally:
        control.stop(home=info.home)
