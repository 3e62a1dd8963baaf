"""The sandbox's tests share one sandbox; what a test makes in it ends with the test."""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.ecr.registry import PROGRAM, Registry
from runctl.sandbox.fault_client import Faults
from tests.availability import missing_programs
from tests.sandbox.account import ZONE, Account, Machine

Launch = Callable[..., Machine]
MakeVolume = Callable[..., str]


@pytest.fixture(scope="session")
def account(sandbox: SandboxInfo, tmp_path_factory: pytest.TempPathFactory) -> Account:
    """The clients of the session's sandbox."""
    return Account(sandbox, tmp_path_factory.mktemp("account"))


@pytest.fixture(scope="session")
def docker_account(docker_sandbox: SandboxInfo, tmp_path_factory: pytest.TempPathFactory) -> Account:
    """Of the session's sandbox whose machines have engines."""
    return Account(docker_sandbox, tmp_path_factory.mktemp("docker-account"))


@pytest.fixture(scope="session")
def docker_machine(docker_account: Account) -> Iterator[Machine]:
    """A machine with an engine, for every test that leaves it as it was."""
    machine = docker_account.launch()
    yield machine
    docker_account.ec2.terminate_instances(InstanceIds=[machine.id])
    docker_account.wait_state(machine.id, "terminated")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry that has not been started."""
    if reason := missing_programs(PROGRAM):
        pytest.skip(reason)
    registry = Registry(tmp_path / "home", "127.0.0.1", free_port())
    yield registry
    registry.stop()


def free_port() -> int:
    """Nobody listens there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def launched(account: Account) -> Generator[list[str]]:
    """Ids of instances that are terminated after the test."""
    ids: list[str] = []
    yield ids
    for instance_id in ids:
        if account.state(instance_id) != "terminated":
            account.ec2.terminate_instances(InstanceIds=[instance_id])
    for instance_id in ids:
        account.wait_state(instance_id, "terminated")


@pytest.fixture
def run_instances(account: Account, launched: list[str]) -> Callable[..., dict[str, Any]]:
    """RunInstances with what has to be said; the answer's instance. It ends with the test."""

    def call(**more: Any) -> dict[str, Any]:
        parameters = {
            "ImageId": account.image,
            "InstanceType": "t3.micro",
            "MinCount": 1,
            "MaxCount": 1,
            **more,
        }
        instance: dict[str, Any] = account.ec2.run_instances(**parameters)["Instances"][0]
        launched.append(instance["InstanceId"])
        return instance

    return call


@pytest.fixture
def launch(account: Account, run_instances: Callable[..., dict[str, Any]]) -> Launch:
    """A machine that runs and can be reached by SSH. It ends with the test."""

    def call(user: str = "ec2-user", **more: Any) -> Machine:
        account.key_file  # noqa: B018 (makes the key pair)
        instance = run_instances(**{"KeyName": "tester", "SecurityGroupIds": [account.open_group], **more})
        described = account.wait_state(instance["InstanceId"], "running")
        return Machine(account, described, user)

    return call


@pytest.fixture
def make_volume(account: Account) -> Generator[MakeVolume]:
    """A volume that is available. It is deleted after the test, if it is still there."""
    ids: list[str] = []

    def call(size: int = 1, zone: str = ZONE, **more: Any) -> str:
        created = account.ec2.create_volume(
            **{"Size": size, "AvailabilityZone": zone, "VolumeType": "gp3", **more}
        )
        ids.append(created["VolumeId"])
        account.wait_volume(created["VolumeId"], "available")
        return str(created["VolumeId"])

    yield call
    for volume_id in ids:
        try:
            if account.volume(volume_id)["State"] != "available":
                account.ec2.detach_volume(VolumeId=volume_id, Force=True)
                account.wait_volume(volume_id, "available")
            account.ec2.delete_volume(VolumeId=volume_id)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "InvalidVolume.NotFound"


@pytest.fixture
def faults(sandbox: SandboxInfo) -> Generator[Faults]:
    """What goes wrong in this test goes well again in the next."""
    faults = Faults(sandbox)
    yield faults
    faults.clear()
