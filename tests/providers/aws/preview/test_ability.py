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
from runctl.providers.abilities.nodes import NodesRequest
from runctl.providers.abilities.volume_plans import ResizeRequest, SnapshotRequest, VolumeRequest
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.parse import tag_list
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.iam.roles import ensure_store_profile
from runctl.providers.instance_plans import InstanceRequest
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


def test_what_is_made_is_found_by_its_tags_until_it_is_deleted(
    shown: AwsProvider, session: AwsSession
) -> None:
    volumes, snapshots = require(shown.volumes), require(shown.snapshots)
    kept = volumes.find("kept")
    made = snapshots.create(snapshots.plan(SnapshotRequest(kept.id, tags={"of": "a move"})))
    assert [each.id for each in snapshots.list()] == [made.id]
    snapshots.delete(made.id)
    assert snapshots.list() == ()
    assert [each.name for each in volumes.list()] == ["kept"]
    assert 'aws ec2 delete-snapshot --snapshot-id "$SNAPSHOT_ID"' in shown.preview.script("")


def test_a_volume_with_a_rate_has_its_data_waited_for_once(shown: AwsProvider, session: AwsSession) -> None:
    volumes, snapshots = require(shown.volumes), require(shown.snapshots)
    taken = snapshots.create(snapshots.plan(SnapshotRequest(volumes.find("kept").id)))
    request = VolumeRequest(1, zone=ZONE, snapshot_id=taken.id, initialization_rate=300)
    made = volumes.create(volumes.plan(request))
    for _ in range(2):
        status = volumes.initialization(made.id)
        assert (status.rate, status.complete) == (300, True)
    script = shown.preview.script("")
    assert script.count('until aws ec2 describe-volume-status --volume-ids "$VOLUME_ID"') == 1


def test_a_policy_that_a_new_role_never_had_is_not_taken_off(shown: AwsProvider, session: AwsSession) -> None:
    iam: Any = session.iam
    iam.create_role(RoleName="new", AssumeRolePolicyDocument="{}")
    iam.attach_role_policy(RoleName="new", PolicyArn="arn:aws:iam::aws:policy/One")
    iam.detach_role_policy(RoleName="new", PolicyArn="arn:aws:iam::aws:policy/One")
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.detach_role_policy(RoleName="new", PolicyArn="arn:aws:iam::aws:policy/Two")
    script = shown.preview.script("")
    assert script.count("detach-role-policy") == 1
    assert "arn:aws:iam::aws:policy/Two" not in script


def test_a_fleet_makes_as_many_as_it_is_asked_for(shown: AwsProvider, session: AwsSession) -> None:
    nodes = require(shown.nodes)
    request = InstanceRequest("m5.large", token="t" * 32, name="n")
    plan = nodes.plan(NodesRequest(request, 2, 3))
    made = nodes.create(plan)
    assert [each.tags["Name"] for each in made] == ["n-0", "n-1", "n-2"]
    assert [each.id for each in nodes.find(plan.token)] == [each.id for each in made]
    script = shown.preview.script("")
    order = [
        script.index(f"aws ec2 {call}") for call in ("create-security-group", "create-fleet", "create-tags")
    ]
    assert order == sorted(order)
    assert "set -- $INSTANCE_IDS\nINSTANCE_ID=${1}\nINSTANCE_ID_2=${2}\nINSTANCE_ID_3=${3}\n" in script
    other: Any = AwsSession(region=REGION, profile=None).ec2
    assert other.describe_instances()["Reservations"] == []


def test_rights_are_not_waited_for_in_vain(
    shown: AwsProvider, session: AwsSession, clock: ManualClock
) -> None:
    before = clock.now()
    ensure_store_profile(session, "runctl-writes-x", ["s3://bucket/runs"], clock, SILENT)
    assert clock.now() == before
    script = shown.preview.script("")
    assert script.count("aws iam put-role-policy") == 3
    commands = script.replace("\\\n    ", "").replace("||\n    ", "|| ")
    waiting = "aws iam wait instance-profile-exists --instance-profile-name runctl-writes-x"
    assert (
        commands.index("add-role-to-instance-profile") < commands.index(waiting) < commands.index("sleep 15")
    )


def test_a_role_is_made_by_the_first_run_of_a_script_alone(
    shown: AwsProvider, session: AwsSession, clock: ManualClock
) -> None:
    ensure_store_profile(session, "runctl-writes-x", ["s3://bucket/runs"], clock, SILENT)

    commands = shown.preview.script("").replace("\\\n    ", "").replace("||\n    ", "|| ")

    checked = [line.partition(" || ") for line in commands.splitlines() if " || aws iam " in line]
    assert [(check.split()[2], call.split()[2]) for check, _, call in checked] == [
        ("get-role", "create-role"),
        ("get-instance-profile", "create-instance-profile"),
        ("get-instance-profile", "add-role-to-instance-profile"),
    ]


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
