"""EC2 Instance Connect: a key that opens a machine for a minute."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from runctl.sandbox import world
from runctl.sandbox.ebs.disks import Disks
from runctl.sandbox.ec2 import instance_connect
from runctl.sandbox.ec2.instance_connect import ConnectError, SandboxConnect
from runctl.sandbox.layout import Layout
from runctl.sandbox.world import ACCOUNT, World
from tests.sandbox.account import Account, Machine, code_of, until


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "one-time"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def public(key: Path) -> str:
    return key.with_suffix(".pub").read_text()


class Door:
    """A machine of which only the logins matter."""

    is_up = True

    def __init__(self) -> None:
        self.open: list[tuple[str, str]] = []

    def authorize(self, user: str, public_key: str) -> Callable[[], None]:
        self.open.append((user, public_key))
        return self.open.clear


@pytest.fixture
def door(tmp_path: Path) -> Iterator[tuple[str, Door]]:
    """An instance of moto's and its machine."""
    with mock_aws():
        ec2 = boto3.client(
            "ec2", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
        )
        image = ec2.describe_images()["Images"][0]["ImageId"]
        created = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="t3.micro")
        instance_id, machine = created["Instances"][0]["InstanceId"], Door()
        layout, before = Layout(tmp_path), list(world._current)
        here = World(layout, "us-east-1", 1, None, False, Disks(layout))
        machines: dict[str, Any] = here.machines
        machines[instance_id] = machine
        world.become(here)
        yield instance_id, machine
        world._current[:] = before


def test_a_key_is_withdrawn_when_its_time_is_over(
    door: tuple[str, Door], key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance_id, machine = door
    monkeypatch.setattr(instance_connect, "SECONDS", 0.2)

    SandboxConnect("us-east-1", ACCOUNT).send_key(instance_id, "ec2-user", public(key))

    assert machine.open == [("ec2-user", " ".join(public(key).split()[:2]))]
    until(lambda: not machine.open, "the key to be withdrawn", 5)


def test_a_key_sent_again_has_its_time_again(
    door: tuple[str, Door], key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance_id, machine = door
    service = SandboxConnect("us-east-1", ACCOUNT)
    monkeypatch.setattr(instance_connect, "SECONDS", 0.3)
    service.send_key(instance_id, "ec2-user", public(key))
    first = next(iter(service._withdrawals.values()))

    monkeypatch.setattr(instance_connect, "SECONDS", 60.0)
    service.send_key(instance_id, "ec2-user", public(key))

    first.join(5)
    assert len(machine.open) == 2
    next(iter(service._withdrawals.values())).cancel()


def test_a_machine_without_an_ssh_server_is_unavailable(door: tuple[str, Door], key: Path) -> None:
    class Folder:
        is_up = True

    instance_id, _ = door
    machines: dict[str, Any] = world.current().machines
    machines[instance_id] = Folder()

    with pytest.raises(ConnectError) as refused:
        SandboxConnect("us-east-1", ACCOUNT).send_key(instance_id, "ec2-user", public(key))

    assert refused.value.code == "EC2InstanceUnavailableException"


@pytest.mark.parametrize(
    ("user", "text"),
    [
        ("ec2-user", "not a key"),
        ("ec2-user", "ssh-ed25519 ????"),
        ("ec2-user", "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIA=="),
        ("", None),
        ("../etc", None),
    ],
)
def test_arguments_that_are_none_are_refused(
    door: tuple[str, Door], key: Path, user: str, text: str | None
) -> None:
    with pytest.raises(ConnectError) as refused:
        SandboxConnect("us-east-1", ACCOUNT).send_key(door[0], user, text or public(key))

    assert refused.value.code == "InvalidArgsException"
    assert door[1].open == []


@pytest.mark.namespaces
@pytest.mark.sshd
def test_a_key_that_was_sent_opens_the_machine(
    account: Account, launch: Callable[..., Machine], key: Path
) -> None:
    machine = launch()
    ours = ["ssh", "-i", str(key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
    ours += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    ours += [f"ec2-user@{machine.address}", "id", "-un"]
    before = subprocess.run(ours, capture_output=True, text=True, timeout=20, check=False)

    account.client("ec2-instance-connect").send_ssh_public_key(
        InstanceId=machine.id, InstanceOSUser="ec2-user", SSHPublicKey=public(key)
    )

    after = subprocess.run(ours, capture_output=True, text=True, timeout=20, check=False)
    assert before.returncode == 255
    assert after.stdout == "ec2-user\n", after.stderr


@pytest.mark.namespaces
def test_an_instance_that_is_not_there_is_not_found(account: Account, key: Path) -> None:
    with pytest.raises(ClientError) as refused:
        account.client("ec2-instance-connect").send_ssh_public_key(
            InstanceId="i-0123456789abcdef0", InstanceOSUser="ec2-user", SSHPublicKey=public(key)
        )

    assert code_of(refused.value) == "EC2InstanceNotFoundException"


@pytest.mark.namespaces
def test_an_instance_that_does_not_run_is_refused(
    account: Account, launch: Callable[..., Machine], key: Path
) -> None:
    machine = launch()
    account.ec2.stop_instances(InstanceIds=[machine.id])
    account.wait_state(machine.id, "stopped")

    with pytest.raises(ClientError) as refused:
        account.client("ec2-instance-connect").send_ssh_public_key(
            InstanceId=machine.id, InstanceOSUser="ec2-user", SSHPublicKey=public(key)
        )

    assert code_of(refused.value) == "EC2InstanceStateInvalidException"
