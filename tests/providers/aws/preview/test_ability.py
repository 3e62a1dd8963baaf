"""In a preview nothing is changed, and what is read next is as if it had been."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from runctl.core.errors import NotFound
from runctl.core.ids import InstanceId
from runctl.core.machine_models import InstanceState, VolumeState
from runctl.core.progress import SILENT
from runctl.core.tags import OWNED, OWNED_VALUE
from runctl.providers.abilities.volume_plans import ResizeRequest, VolumeRequest
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.parse import tag_list
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.iam.roles import ensure_store_profile
from runctl.providers.interface import require
from runctl.testing.clock import ManualClock
from tests.aws_fixtures import REGION

ZONE = f"{REGION}a"


@pytest.fixture
def shown(provider: AwsProvider, session: AwsSession) -> AwsProvider:
    """The provider in a preview; the account has one volume of runctl's, called ``kept``."""
    volumes = require(provider.volumes)
    volumes.create(volumes.plan(VolumeRequest(size_gib=1, name="kept", zone=ZONE)))
    provider.preview.begin()
    return provider


def test_what_is_shown_is_not_done_and_is_read_as_if_it_were(
    shown: AwsProvider, session: AwsSession, moto_endpoint: str
) -> None:
    volumes, kept = require(shown.volumes), require(shown.volumes).find("kept")
    made = volumes.create(volumes.plan(VolumeRequest(size_gib=3, name="new", zone=ZONE)))
    assert (made.size_gib, made.state, made.name) == (3, VolumeState.AVAILABLE, "new")
    resizing = require(shown.resizing)
    assert resizing.resize(resizing.plan("kept", ResizeRequest(size_gib=5))).size_gib == 5
    volumes.tag(kept.id, {"of": made.id}, remove=["runctl:unused"])
    volumes.delete(kept.id)
    with pytest.raises(NotFound):
        volumes.find(kept.id)

    script = shown.preview.script("runctl …")
    order = [line.split()[2] for line in script.splitlines() if "aws ec2 " in line and "until" not in line]
    assert order == [
        "create-volume",
        "wait",
        "modify-volume",
        "create-tags",
        "create-tags",
        "delete-tags",
        "delete-volume",
    ]
    assert "describe-volumes-modifications" in script
    assert '"Value": "\'"$VOLUME_ID"\'"' in script
    (real,) = AwsSession(region=REGION, profile=None).ec2.describe_volumes()["Volumes"]
    assert (real["VolumeId"], real["Size"]) == (kept.id, 1)
    assert "of" not in json.dumps(real["Tags"])


def test_a_call_that_nobody_knows_is_shown_and_not_made(shown: AwsProvider, session: AwsSession) -> None:
    ec2: Any = session.ec2
    ec2.create_vpc(CidrBlock="10.9.0.0/16")
    session.in_region("eu-west-1").ec2.create_key_pair(KeyName="k")
    script = shown.preview.script("")
    assert "aws ec2 create-vpc --cidr-block 10.9.0.0/16" in script
    assert "aws ec2 create-key-pair --region eu-west-1 --key-name k" in script
    other = AwsSession(region=REGION, profile=None)
    assert all(each["CidrBlock"] != "10.9.0.0/16" for each in other.ec2.describe_vpcs()["Vpcs"])
    assert other.in_region("eu-west-1").ec2.describe_key_pairs()["KeyPairs"] == []


def test_rights_are_not_waited_for_in_vain(
    shown: AwsProvider, session: AwsSession, clock: ManualClock
) -> None:
    before = clock.now()
    ensure_store_profile(session, "runctl-writes-x", ["s3://bucket/runs"], clock, SILENT)
    assert clock.now() == before
    script = shown.preview.script("")
    assert script.count("aws iam put-role-policy") == 3
    assert "aws iam wait instance-profile-exists --instance-profile-name runctl-writes-x" in script.replace(
        "\\\n    ", ""
    )


def test_an_instance_goes_through_its_states_and_is_waited_for(
    shown: AwsProvider, session: AwsSession
) -> None:
    (image,) = session.ec2.describe_images(Owners=["amazon"])["Images"][:1]
    answer = session.ec2.run_instances(
        ImageId=image["ImageId"], InstanceType="t3.micro", MinCount=1, MaxCount=1
    )
    made = answer["Instances"][0]["InstanceId"]
    states = [shown.instance(made).state for _ in range(3)]  # type: ignore[arg-type]
    assert states == [InstanceState.PENDING, InstanceState.RUNNING, InstanceState.RUNNING]
    assert shown.preview.script("").count("aws ec2 wait instance-running") == 1


def test_an_instance_that_ends_lets_go_of_its_volumes(shown: AwsProvider, session: AwsSession) -> None:
    other = AwsSession(region=REGION, profile=None)
    (image,) = other.ec2.describe_images(Owners=["amazon"])["Images"][:1]
    tags: Any = [{"ResourceType": "instance", "Tags": tag_list({OWNED: OWNED_VALUE})}]
    answer = other.ec2.run_instances(
        ImageId=image["ImageId"],
        MinCount=1,
        MaxCount=1,
        Placement={"AvailabilityZone": ZONE},
        TagSpecifications=tags,
    )
    machine, volumes = InstanceId(answer["Instances"][0]["InstanceId"]), require(shown.volumes)
    other.ec2.attach_volume(VolumeId=volumes.find("kept").id, InstanceId=machine, Device="/dev/sdf")
    renting = require(shown.renting)
    assert renting.terminate(machine).state is InstanceState.SHUTTING_DOWN
    assert renting.wait_ended(machine, timeout=timedelta(0)).state is InstanceState.TERMINATED
    assert volumes.find("kept").state is VolumeState.AVAILABLE
    script = shown.preview.script("")
    assert script.index("wait instance-terminated") < script.index("wait volume-available")
    assert other.ec2.describe_instances()["Reservations"][0]["Instances"][0]["State"]["Name"] == "running"
