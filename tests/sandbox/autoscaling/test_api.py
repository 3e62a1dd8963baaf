"""Auto Scaling groups of real machines: what they launch, replace and give back, and what AWS refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from runctl.sandbox.fault_client import Faults
from tests.sandbox.account import Account, code_of, until

pytestmark = pytest.mark.namespaces

NAME = "one-run"
TYPES = ("g5.xlarge", "g4dn.xlarge")
ZONES = ("us-east-1a", "us-east-1b")
SPOT = {
    "OnDemandBaseCapacity": 0,
    "OnDemandPercentageAboveBaseCapacity": 0,
    "SpotAllocationStrategy": "price-capacity-optimized",
}
CreateGroup = Callable[..., None]


@pytest.fixture
def groups(account: Account) -> Any:
    return account.client("autoscaling")


@pytest.fixture
def template(account: Account) -> Generator[str]:
    data = {"ImageId": account.image, "SecurityGroupIds": [account.open_group]}
    created = account.ec2.create_launch_template(LaunchTemplateName="group-test", LaunchTemplateData=data)
    yield created["LaunchTemplate"]["LaunchTemplateId"]
    account.ec2.delete_launch_template(LaunchTemplateId=created["LaunchTemplate"]["LaunchTemplateId"])


@pytest.fixture
def create_group(account: Account, groups: Any, template: str) -> Generator[CreateGroup]:
    found = account.ec2.describe_subnets()["Subnets"]
    subnets = {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in found}
    seen: set[str] = set()

    def call(**more: Any) -> None:
        parameters: dict[str, Any] = {
            "AutoScalingGroupName": NAME,
            "MinSize": 0,
            "MaxSize": 1,
            "DesiredCapacity": 1,
            "VPCZoneIdentifier": ",".join(subnets[zone] for zone in ZONES),
            "MixedInstancesPolicy": {
                "LaunchTemplate": {
                    "LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "1"},
                    "Overrides": [{"InstanceType": kind} for kind in TYPES],
                },
                "InstancesDistribution": SPOT,
            },
            "Tags": [{"Key": "runctl:run", "Value": "run-1", "PropagateAtLaunch": True}],
            **more,
        }
        groups.create_auto_scaling_group(**parameters)

    yield call
    for group in groups.describe_auto_scaling_groups()["AutoScalingGroups"]:
        seen |= {member["InstanceId"] for member in group["Instances"]}
        if "Status" not in group:
            groups.delete_auto_scaling_group(
                AutoScalingGroupName=group["AutoScalingGroupName"], ForceDelete=True
            )
    until(lambda: not groups.describe_auto_scaling_groups()["AutoScalingGroups"], "the groups to be gone")
    for instance_id in seen:
        account.wait_state(instance_id, "terminated")


def members(groups: Any, state: str | None = "InService") -> list[str]:
    """Ids of the group's members in that state."""
    (group,) = groups.describe_auto_scaling_groups(AutoScalingGroupNames=[NAME])["AutoScalingGroups"]
    return [each["InstanceId"] for each in group["Instances"] if state in (None, each["LifecycleState"])]


def member(groups: Any, *, other_than: str = "") -> str:
    """The group's member, once it is in service."""
    return str(until(lambda: [each for each in members(groups) if each != other_than], "a member")[0])


def descriptions(groups: Any, **more: Any) -> list[tuple[str, str]]:
    """Status and description of its activities, the newest first."""
    found = groups.describe_scaling_activities(AutoScalingGroupName=NAME, **more)["Activities"]
    return [(each["StatusCode"], each["Description"]) for each in found]


def test_a_group_of_one_spot_instance_replaces_what_ends_and_goes_with_all_of_it(
    account: Account, groups: Any, create_group: CreateGroup, faults: Faults
) -> None:
    faults.no_capacity(zone=ZONES[0])
    create_group()
    first = member(groups)

    described = account.describe(first)
    assert described["InstanceLifecycle"] == "spot"
    assert described["Placement"]["AvailabilityZone"] == ZONES[1]
    tags = {tag["Key"]: tag["Value"] for tag in described["Tags"]}
    assert (tags["aws:autoscaling:groupName"], tags["runctl:run"]) == (NAME, "run-1")

    # EC2 takes it back: with capacity rebalancing off, the next one comes after its end.
    faults.interrupt(first, seconds=0.5)
    second = member(groups, other_than=first)
    assert account.describe(first)["StateReason"]["Code"] == "Server.SpotInstanceTermination"

    # It ends itself: not running is not healthy, and it is replaced, too.
    account.ec2.terminate_instances(InstanceIds=[second])
    third = member(groups, other_than=second)
    (shown,) = groups.describe_auto_scaling_instances(InstanceIds=[third])["AutoScalingInstances"]
    assert (shown["AutoScalingGroupName"], shown["HealthStatus"]) == (NAME, "HEALTHY")

    with pytest.raises(ClientError) as refused:
        groups.delete_auto_scaling_group(AutoScalingGroupName=NAME)
    assert code_of(refused.value) == "ResourceInUse"
    groups.delete_auto_scaling_group(AutoScalingGroupName=NAME, ForceDelete=True)
    until(lambda: not groups.describe_auto_scaling_groups()["AutoScalingGroups"], "the group to be gone")
    account.wait_state(third, "terminated")
    assert account.describe(third)["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    story = descriptions(groups, IncludeDeletedGroups=True)
    for instance_id in (first, second, third):
        assert ("Successful", f"Launching a new EC2 instance: {instance_id}") in story
        assert ("Successful", f"Terminating EC2 instance: {instance_id}") in story


def test_without_capacity_it_tries_again_and_its_activities_say_why(
    groups: Any, create_group: CreateGroup, faults: Faults
) -> None:
    for zone in ZONES:
        faults.no_capacity(zone=zone)
    create_group()
    until(lambda: descriptions(groups), "a failed activity")
    (status, description) = descriptions(groups)[0]
    assert status == "Failed"
    assert "do not have sufficient" in description
    assert members(groups, None) == []

    faults.clear()
    member(groups)


def test_a_group_of_several_keeps_their_number_in_its_placement_group(
    account: Account, groups: Any, create_group: CreateGroup
) -> None:
    account.ec2.create_placement_group(GroupName="close", Strategy="cluster")
    subnet = account.ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    create_group(MaxSize=2, DesiredCapacity=2, VPCZoneIdentifier=subnet, PlacementGroup="close")
    until(lambda: len(members(groups)) == 2, "two machines")
    both = members(groups)
    (group,) = groups.describe_auto_scaling_groups()["AutoScalingGroups"]
    assert group["PlacementGroup"] == "close"
    with pytest.raises(ClientError, match="in use"):
        account.ec2.delete_placement_group(GroupName="close")

    account.ec2.terminate_instances(InstanceIds=[both[0]])
    until(lambda: len(members(groups)) == 2 and both[0] not in members(groups), "another one")
    left = members(groups)
    assert both[1] in left
    groups.delete_auto_scaling_group(AutoScalingGroupName=NAME, ForceDelete=True)
    for each in left:
        account.wait_state(each, "terminated")
    account.ec2.delete_placement_group(GroupName="close")


def test_with_rebalancing_a_recommendation_brings_a_second_machine_before_the_first_one_goes(
    account: Account, groups: Any, create_group: CreateGroup, faults: Faults
) -> None:
    create_group(CapacityRebalance=True)
    first = member(groups)
    faults.rebalance(first)

    second = member(groups, other_than=first)
    account.wait_state(first, "terminated")
    assert members(groups) == [second]


def test_sizes_are_changed_by_hand_and_by_the_clock_within_their_bounds(
    account: Account, groups: Any, create_group: CreateGroup
) -> None:
    create_group(DesiredCapacity=0)
    with pytest.raises(ClientError, match="above max value 1"):
        groups.set_desired_capacity(AutoScalingGroupName=NAME, DesiredCapacity=2)
    for wrong, phrase in (
        ({"StartTime": datetime.now(UTC) - timedelta(seconds=5), "DesiredCapacity": 1}, "in the past"),
        (
            {"StartTime": datetime.now(UTC) + timedelta(hours=1), "DesiredCapacity": 2},
            "between the specified",
        ),
    ):
        with pytest.raises(ClientError, match=phrase):
            groups.put_scheduled_update_group_action(
                AutoScalingGroupName=NAME, ScheduledActionName="now", **wrong
            )
    at = datetime.now(UTC) + timedelta(hours=1)
    for start in (at, datetime.now(UTC) + timedelta(seconds=1.2)):
        # The same name again moves it.
        groups.put_scheduled_update_group_action(
            AutoScalingGroupName=NAME, ScheduledActionName="start", StartTime=start, DesiredCapacity=1
        )
    only = member(groups)
    assert groups.describe_scheduled_actions(AutoScalingGroupName=NAME)["ScheduledUpdateGroupActions"] == []

    activity = groups.terminate_instance_in_auto_scaling_group(
        InstanceId=only, ShouldDecrementDesiredCapacity=True
    )["Activity"]
    assert activity["Description"] == f"Terminating EC2 instance: {only}"
    account.wait_state(only, "terminated")
    assert members(groups, None) == []


def test_what_aws_refuses_is_refused(account: Account, groups: Any, create_group: CreateGroup) -> None:
    create_group(DesiredCapacity=0)
    data = {"ImageId": account.image, "InstanceMarketOptions": {"MarketType": "spot"}}
    created = account.ec2.create_launch_template(LaunchTemplateName="spot-template", LaunchTemplateData=data)
    wrong_template = {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateName": "spot-template", "Version": "1"},
            "Overrides": [{"InstanceType": TYPES[0]}],
        }
    }
    other = {"AutoScalingGroupName": "other", "DesiredCapacity": 0}
    for parameters, code in (
        ({}, "AlreadyExists"),
        ({**other, "MixedInstancesPolicy": wrong_template}, "ValidationError"),
        ({**other, "DesiredCapacity": 2}, "ValidationError"),
        ({**other, "TargetGroupARNs": ["arn:aws:x"]}, "UnsupportedOperation"),
    ):
        with pytest.raises(ClientError) as refused:
            create_group(**parameters)
        assert code_of(refused.value) == code
    account.ec2.create_placement_group(GroupName="close", Strategy="cluster")
    for name, said in (("close", "multiple Availability Zones"), ("nowhere", "does not exist")):
        with pytest.raises(ClientError, match=said):
            create_group(**other, PlacementGroup=name)
    account.ec2.delete_placement_group(GroupName="close")
    account.ec2.delete_launch_template(LaunchTemplateId=created["LaunchTemplate"]["LaunchTemplateId"])
    with pytest.raises(ClientError, match="no PutLifecycleHook"):
        groups.put_lifecycle_hook(AutoScalingGroupName=NAME, LifecycleHookName="hook")


def test_a_machine_may_end_the_group_of_its_run_and_no_other(
    account: Account, groups: Any, create_group: CreateGroup
) -> None:
    iam = account.client("iam")
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["autoscaling:SetDesiredCapacity", "autoscaling:DeleteAutoScalingGroup"],
                "Resource": "*",
                "Condition": {"StringEquals": {"aws:ResourceTag/runctl:run": "run-1"}},
            }
        ],
    }
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    arn = iam.create_role(RoleName="group-test", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    iam.put_role_policy(RoleName="group-test", PolicyName="own", PolicyDocument=json.dumps(policy))
    keys = account.client("sts").assume_role(RoleArn=arn, RoleSessionName="machine")["Credentials"]
    machine = account.session.client(
        "autoscaling",
        endpoint_url=account.info.endpoint_url,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )
    try:
        create_group(DesiredCapacity=0)
        create_group(
            AutoScalingGroupName="another",
            DesiredCapacity=0,
            Tags=[{"Key": "runctl:run", "Value": "run-2", "PropagateAtLaunch": True}],
        )
        machine.set_desired_capacity(AutoScalingGroupName=NAME, DesiredCapacity=0)
        for call, parameters in (
            (machine.delete_auto_scaling_group, {"AutoScalingGroupName": "another"}),
            (machine.update_auto_scaling_group, {"AutoScalingGroupName": NAME, "MaxSize": 2}),
        ):
            with pytest.raises(ClientError) as refused:
                call(**parameters)
            assert code_of(refused.value) == "AccessDenied"
        machine.delete_auto_scaling_group(AutoScalingGroupName=NAME, ForceDelete=True)
    finally:
        iam.delete_role_policy(RoleName="group-test", PolicyName="own")
        iam.delete_role(RoleName="group-test")


def test_a_group_is_in_one_region_only(account: Account, create_group: CreateGroup) -> None:
    create_group(DesiredCapacity=0)
    elsewhere = account.client("autoscaling", region_name="eu-west-1")
    assert elsewhere.describe_auto_scaling_groups()["AutoScalingGroups"] == []
    with pytest.raises(ClientError) as refused:
        elsewhere.set_desired_capacity(AutoScalingGroupName=NAME, DesiredCapacity=1)
    assert "not found" in str(refused.value)
