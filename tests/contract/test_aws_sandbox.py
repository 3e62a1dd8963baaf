"""The AWS provider keeps the contract with machines and disks that are really there: in the sandbox."""

from __future__ import annotations

import uuid
from collections.abc import Generator
from dataclasses import replace
from datetime import timedelta

import boto3
import pytest

from runctl.core import tags as tag
from runctl.core.config import Config
from runctl.core.errors import CapacityError, Unreachable
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.machine_models import Instance, InstanceState, Market
from runctl.providers import registry
from runctl.providers.abilities.volume_plans import VolumeRequest
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.settings import AwsConfig
from runctl.providers.instance_plans import InstanceRequest, VolumeMount
from runctl.providers.interface import Provider
from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.fault_client import Faults
from runctl.testing.contract import READY_TIMEOUT, MachineContract, RentingContract
from runctl.testing.group_contract import GroupContract
from runctl.testing.progress import RecordedProgress
from runctl.testing.volume_contract import CloneContract, VolumeContract
from tests.sandbox_fixture import lead_into

pytestmark = pytest.mark.namespaces


def a_provider(**settings: str) -> AwsProvider:
    created = registry.load("aws", Config(provided=(AwsConfig(**settings),)))  # type: ignore[arg-type]
    assert isinstance(created, AwsProvider)
    return created


@pytest.fixture
def aws(in_sandbox: SandboxInfo) -> AwsProvider:
    return a_provider()


class TestSandboxInstances(RentingContract):
    @pytest.fixture
    def provider(self, aws: AwsProvider) -> Provider:
        return aws

    @pytest.fixture
    def foreign_instance(self, aws: AwsProvider) -> Generator[InstanceId]:
        ec2 = aws.session.ec2
        image = aws.renting.plan(InstanceRequest()).image
        created = ec2.run_instances(ImageId=image, InstanceType="t3.micro", MinCount=1, MaxCount=1)
        instance_id = created["Instances"][0]["InstanceId"]
        yield InstanceId(instance_id)
        ec2.terminate_instances(InstanceIds=[instance_id])


class TestSandboxCopies(CloneContract):
    @pytest.fixture
    def provider(self, aws: AwsProvider) -> Provider:
        return aws


class TestSandboxGroups(GroupContract):
    @pytest.fixture
    def provider(self, aws: AwsProvider) -> Provider:
        return aws

    @pytest.fixture
    def store_url(self, aws: AwsProvider) -> str:
        aws.session.s3.create_bucket(Bucket="contract-groups")
        return "s3://contract-groups/runs"


class TestSandboxVolumes(VolumeContract):
    @pytest.fixture
    def provider(self, aws: AwsProvider) -> Provider:
        self._aws = aws
        return aws

    def running(self, instance: Instance) -> Instance:
        boto3.client("ec2").get_waiter("instance_running").wait(
            InstanceIds=[instance.id], WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )
        return instance

    def unprotect(self, volume_id: VolumeId) -> None:
        self._aws.session.ec2.delete_tags(Resources=[volume_id], Tags=[{"Key": tag.PERSISTENT}])


@pytest.fixture(scope="module")
def machine(sandbox: SandboxInfo) -> Generator[Instance]:
    """One ready machine that lets SSH in, for all tests that only look at it."""
    with pytest.MonkeyPatch.context() as patch:
        lead_into(sandbox, patch)
        provider = a_provider()
        ec2 = provider.session.ec2
        # Its tests may be shared out, and come back to the worker that has had some of them.
        name = f"contract-ssh-{uuid.uuid4().hex[:8]}"
        group = ec2.create_security_group(GroupName=name, Description="lets SSH in")["GroupId"]
        ec2.authorize_security_group_ingress(
            GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0"
        )
        plan = provider.renting.plan(InstanceRequest(security_groups=(group,), data_volume_size_gib=1))
        instance = provider.wait_ready(provider.renting.create(plan).id, timeout=READY_TIMEOUT)
    yield instance
    with pytest.MonkeyPatch.context() as patch:
        lead_into(sandbox, patch)
        a_provider().renting.terminate(instance.id)


@pytest.mark.parametrize("way", ["ssh", "ssm"])
class TestSandboxMachine(MachineContract):
    @pytest.fixture
    def ready(self, way: str, machine: Instance, in_sandbox: SandboxInfo) -> tuple[Provider, Instance]:
        return a_provider(transport=way), machine

    def test_the_way_is_the_one_configured(self, ready: tuple[Provider, Instance], way: str) -> None:
        provider, instance = ready
        assert provider.transport(instance).name == way


def test_a_fresh_data_volume_is_mounted_and_the_login_users(aws: AwsProvider, machine: Instance) -> None:
    transport = aws.transport(machine)

    done = transport.run(["sh", "-c", "touch /mnt/data/mine && findmnt -n -o FSTYPE /mnt/data"])

    assert (done.exit_code, done.stdout) == (0, b"ext4\n")


def test_what_one_machine_wrote_on_a_volume_is_there_on_the_next(aws: AwsProvider) -> None:
    volume = aws.volumes.create(aws.volumes.plan(VolumeRequest(1, name="contract-survives")))
    request = InstanceRequest(market=Market.SPOT, volumes=(VolumeMount("contract-survives", "/mnt/data"),))
    first = aws.wait_ready(aws.renting.create(aws.renting.plan(request)).id, timeout=READY_TIMEOUT)
    aws.transport(first).run(["sh", "-c", "echo 42 >/mnt/data/answer && sync"])
    aws.renting.terminate(first.id)
    boto3.client("ec2").get_waiter("volume_available").wait(
        VolumeIds=[volume.id], WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )

    elsewhere = replace(request, volumes=(VolumeMount("contract-survives", "/mnt/other"),))
    second = aws.wait_ready(aws.renting.create(aws.renting.plan(elsewhere)).id, timeout=READY_TIMEOUT)

    assert aws.transport(second).run(["cat", "/mnt/other/answer"]).stdout == b"42\n"
    assert aws.volumes.find(volume.id).mount_point == "/mnt/other"
    aws.renting.terminate(second.id)


def test_a_zone_without_capacity_is_named_and_nothing_is_left(aws: AwsProvider, sandbox: SandboxInfo) -> None:
    faults = Faults(sandbox)
    before = {instance.id for instance in aws.instances()}
    faults.no_capacity(zone="us-east-1a")
    try:
        with pytest.raises(CapacityError, match="us-east-1a"):
            aws.renting.create(aws.renting.plan(InstanceRequest(zone="us-east-1a", market=Market.SPOT)))
    finally:
        faults.clear()

    assert {instance.id for instance in aws.instances()} == before


def test_a_machine_that_never_boots_is_unreachable_and_still_named(
    aws: AwsProvider, sandbox: SandboxInfo
) -> None:
    faults = Faults(sandbox)
    faults.boot_never()
    try:
        instance = aws.renting.create(aws.renting.plan(InstanceRequest()))
        with pytest.raises(Unreachable) as caught:
            aws.wait_ready(instance.id, timeout=timedelta(seconds=4))
    finally:
        faults.clear()

    assert instance.id in caught.value.message + caught.value.hint
    aws.renting.terminate(instance.id)


def test_throttling_is_waited_out(aws: AwsProvider, sandbox: SandboxInfo) -> None:
    faults = Faults(sandbox)
    faults.throttle("DescribeInstances", 2)
    try:
        assert isinstance(aws.instances(), tuple)
    finally:
        faults.clear()


def test_every_stage_of_the_wait_is_told(aws: AwsProvider, machine: Instance) -> None:
    progress = RecordedProgress()

    second = aws.wait_ready(machine.id, timeout=READY_TIMEOUT, progress=progress)

    assert second.state is InstanceState.RUNNING
    assert [step for step in progress.steps if "reached" in step or "boot" in step or "mounting" in step]
    assert any("answers over" in note for note in progress.notes)
