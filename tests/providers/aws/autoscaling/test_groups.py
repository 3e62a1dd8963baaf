"""An Auto Scaling group for a run: what is asked of AWS, in which order, and what a crash leaves."""

from __future__ import annotations

import base64
import gzip
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from runctl.agent.after_run import GroupEnd
from runctl.core import tags as tag
from runctl.core.errors import PermissionDenied
from runctl.core.machine_models import Market
from runctl.providers.abilities.groups import GroupRequest
from runctl.providers.aws.autoscaling.groups import activity_of
from runctl.providers.aws.autoscaling.planning import group_arguments
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.testing.clock import ManualClock
from tests.aws_fixtures import Refuse
from tests.providers.aws.autoscaling.group_requests import (
    CHANGES,
    MACHINE,
    NAME,
    REQUEST,
    RUN,
    TYPES,
    nothing_left,
    recorded,
)


def test_all_is_made_with_the_runs_tag_and_the_last_call_is_the_one_that_rents(
    provider: AwsProvider, session: AwsSession, bucket: None
) -> None:
    plan = provider.groups.plan(REQUEST)
    with recorded(session) as calls:
        group = provider.groups.create(plan)

    assert [name for name, _ in calls] == CHANGES
    asked = dict(calls)
    made = asked["CreateAutoScalingGroup"]
    assert (made["MinSize"], made["MaxSize"], made["DesiredCapacity"]) == (0, 1, 0)
    assert made["CapacityRebalance"] is False
    policy = made["MixedInstancesPolicy"]
    assert policy["InstancesDistribution"] == {
        "OnDemandBaseCapacity": 0,
        "OnDemandPercentageAboveBaseCapacity": 0,
        "OnDemandAllocationStrategy": "lowest-price",
        "SpotAllocationStrategy": "price-capacity-optimized",
    }
    template = policy["LaunchTemplate"]
    assert template["LaunchTemplateSpecification"]["Version"] == "1"
    assert {item["InstanceType"] for item in template["Overrides"]} == set(TYPES)
    subnets = {
        item["SubnetId"]: item["AvailabilityZone"] for item in session.ec2.describe_subnets()["Subnets"]
    }
    zones = [subnets[subnet] for subnet in made["VPCZoneIdentifier"].split(",")]
    assert len(zones) == len(set(zones)) > 1
    assert asked["SuspendProcesses"]["ScalingProcesses"] == ["AZRebalance"]
    assert asked["SetDesiredCapacity"]["DesiredCapacity"] == 1

    data = asked["CreateLaunchTemplate"]["LaunchTemplateData"]
    assert "InstanceMarketOptions" not in data
    assert data["ImageId"] == plan.machine.image
    assert data["IamInstanceProfile"] == {"Name": NAME}
    assert {item["ResourceType"] for item in data["TagSpecifications"]} == {
        "instance",
        "volume",
        "network-interface",
    }
    of_machines = [item["Tags"] for item in data["TagSpecifications"]]
    for tags in of_machines:
        found = {item["Key"]: item["Value"] for item in tags}
        assert (found[tag.RUN], found[tag.OWNED]) == (RUN, tag.OWNED_VALUE)
        assert tag.INTENT not in found, "each machine is a thing of its own"
    tagged = [made["Tags"], asked["CreateLaunchTemplate"]["TagSpecifications"][0]["Tags"]]
    tagged += [asked["CreateRole"]["Tags"], asked["CreateInstanceProfile"]["Tags"]]
    for tags in tagged:
        found = {item["Key"]: item["Value"] for item in tags}
        assert found[tag.RUN] == RUN
        assert found[tag.OWNED] == tag.OWNED_VALUE
        assert found[tag.INTENT] == plan.machine.client_token
    assert (group.run_id, group.rents, group.suspended) == (RUN, True, ())


@pytest.mark.parametrize("calls_made", range(1, len(CHANGES) + 1))
def test_a_command_that_is_killed_after_any_call_is_finished_or_taken_back(
    provider: AwsProvider, session: AwsSession, bucket: None, calls_made: int
) -> None:
    plan = provider.groups.plan(REQUEST)
    with recorded(session, calls_made) as calls, pytest.raises(KeyboardInterrupt):
        provider.groups.create(plan)
    assert len(calls) == calls_made
    found = provider.groups.find(RUN)
    rents = found is not None and found.rents
    assert rents == (calls_made == len(CHANGES)), "nothing is rented before the last call"

    if calls_made % 2:
        again = provider.groups.plan(
            replace(REQUEST, machine=replace(MACHINE, token=plan.machine.client_token))
        )
        assert provider.groups.create(again).rents
    provider.groups.end(RUN)
    assert nothing_left(session)


def test_ending_goes_from_the_group_to_the_rights_and_says_what_is_gone(
    provider: AwsProvider, session: AwsSession, bucket: None
) -> None:
    provider.groups.create(provider.groups.plan(REQUEST))
    with recorded(session) as calls:
        gone = provider.groups.end(RUN)

    names = [name for name, _ in calls]
    assert names[:3] == ["SetDesiredCapacity", "DeleteAutoScalingGroup", "DeleteLaunchTemplate"]
    assert names[-1] == "DeleteRole"
    assert dict(calls)["DeleteAutoScalingGroup"]["ForceDelete"] is True
    assert gone == (f"Auto Scaling group {NAME}", f"launch template {NAME}", f"IAM role {NAME}")
    assert nothing_left(session)
    assert provider.groups.end(RUN) == ()
    assert provider.groups.find(RUN) is None


def test_what_has_the_runs_name_and_is_not_the_runs_is_left_alone(
    provider: AwsProvider, session: AwsSession, bucket: None
) -> None:
    session.iam.create_role(RoleName=NAME, AssumeRolePolicyDocument="{}")
    session.ec2.create_launch_template(LaunchTemplateName=NAME, LaunchTemplateData={"ImageId": "ami-1"})

    with pytest.raises(PermissionDenied, match="not this run's"):
        provider.groups.create(provider.groups.plan(REQUEST))
    assert provider.groups.end(RUN) == ()
    assert not nothing_left(session)


def test_a_busy_group_is_asked_again(
    provider: AwsProvider, session: AwsSession, bucket: None, clock: ManualClock, refuse: Refuse
) -> None:
    provider.groups.create(provider.groups.plan(REQUEST))
    times = {"SetDesiredCapacity": 2, "DeleteAutoScalingGroup": 1}

    def busy(model: Any, **_: Any) -> Any:
        if times.get(model.name, 0) > 0:
            times[model.name] -= 1
            error = {"Code": "ScalingActivityInProgress", "Message": "busy"}
            return _Refused(400), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": 400}}
        return None

    session.autoscaling.meta.events.register("before-call.autoscaling.*", busy)
    provider.groups.end(RUN)
    assert times == {"SetDesiredCapacity": 0, "DeleteAutoScalingGroup": 0}
    assert nothing_left(session)


class _Refused:
    """As much of an HTTP answer as botocore's hooks need."""

    def __init__(self, status: int) -> None:
        self.status_code, self.headers, self.content = status, {}, b""  # type: ignore[var-annotated]


def test_a_limit_on_the_price_is_a_bid_and_a_time_to_live_ends_the_group_on_its_own(
    provider: AwsProvider, session: AwsSession, bucket: None, clock: ManualClock
) -> None:
    machine = replace(MACHINE, max_price=Decimal("99.50"))
    machine = replace(machine, ttl=timedelta(hours=12), idle_timeout=timedelta(hours=1))
    plan = provider.groups.plan(GroupRequest(machine, REQUEST.take_up))
    with recorded(session) as calls:
        provider.groups.create(plan)

    asked = dict(calls)
    distribution = asked["CreateAutoScalingGroup"]["MixedInstancesPolicy"]["InstancesDistribution"]
    assert distribution["SpotMaxPrice"] == "99.50"
    scheduled = asked["PutScheduledUpdateGroupAction"]
    assert (scheduled["MinSize"], scheduled["MaxSize"], scheduled["DesiredCapacity"]) == (0, 0, 0)
    assert scheduled["StartTime"] == plan.ends_at == clock.now() + timedelta(hours=12)
    limits = (plan.machine.ttl, plan.machine.unused_for, plan.machine.idle_timeout)
    assert limits == (None, None, None), "a machine that ends itself would be replaced"


def test_a_budget_is_all_machines_together(
    provider: AwsProvider, session: AwsSession, bucket: None, clock: ManualClock
) -> None:
    one = provider.renting.plan(replace(MACHINE, budget=Decimal(5)))
    plan = provider.groups.plan(GroupRequest(replace(MACHINE, budget=Decimal(5)), REQUEST.take_up))
    assert plan.ttl == one.budget_time is not None
    assert (plan.machine.budget, plan.machine.budget_time) == (None, None)


def test_a_deadline_has_a_second_group_on_demand_without_a_machine_until_then(
    provider: AwsProvider, session: AwsSession, bucket: None, clock: ManualClock
) -> None:
    begins = clock.now() + timedelta(hours=4)
    machine = replace(MACHINE, max_price=Decimal("99.50"))
    request = replace(REQUEST, machine=machine, on_demand_from=begins)
    plan = provider.groups.plan(request)
    assert plan.end == GroupEnd(NAME, NAME, others=(f"{NAME}-on-demand",), on_demand=f"{NAME}-on-demand")
    with recorded(session) as calls:
        provider.groups.create(plan)

    first, second = [params for name, params in calls if name == "CreateAutoScalingGroup"]
    assert (first["AutoScalingGroupName"], second["AutoScalingGroupName"]) == (NAME, f"{NAME}-on-demand")
    assert (second["MinSize"], second["MaxSize"], second["DesiredCapacity"]) == (0, 1, 0)
    distribution = second["MixedInstancesPolicy"]["InstancesDistribution"]
    assert distribution["OnDemandPercentageAboveBaseCapacity"] == 100
    assert "SpotMaxPrice" not in distribution
    scheduled = dict(calls)["PutScheduledUpdateGroupAction"]
    assert scheduled == {
        "AutoScalingGroupName": f"{NAME}-on-demand",
        "ScheduledActionName": "runctl-on-demand",
        "StartTime": begins,
        "MinSize": 0,
        "MaxSize": 1,
        "DesiredCapacity": 1,
    }
    assert calls[-1] == ("SetDesiredCapacity", {"AutoScalingGroupName": NAME, "DesiredCapacity": 1})
    # Each machine knows which group it is of.
    versions: Any = session.ec2.describe_launch_template_versions(LaunchTemplateName=NAME)
    told = {
        str(each["VersionNumber"]): gzip.decompress(
            base64.b64decode(each["LaunchTemplateData"]["UserData"])
        ).decode()
        for each in versions["LaunchTemplateVersions"]
    }
    for made in (first, second):
        version = made["MixedInstancesPolicy"]["LaunchTemplate"]["LaunchTemplateSpecification"]["Version"]
        assert f'"group":"{made["AutoScalingGroupName"]}"' in told[version]

    assert provider.groups.create(plan).rents
    provider.groups.end(RUN)
    assert nothing_left(session)


def test_on_demand_is_bought_where_it_was_asked_for(
    provider: AwsProvider, session: AwsSession, bucket: None
) -> None:
    machine = replace(MACHINE, market=Market.ON_DEMAND)
    arguments = group_arguments(provider.groups.plan(GroupRequest(machine, REQUEST.take_up)), "lt-0")
    distribution = arguments["MixedInstancesPolicy"]["InstancesDistribution"]
    assert distribution["OnDemandPercentageAboveBaseCapacity"] == 100


@pytest.mark.parametrize(
    ("cause", "replaced"),
    [
        (
            "an instance was taken out of service in response to an EC2 health check indicating it has been",
            True,
        ),
        (
            "an instance was taken out of service in response to an EC2 instance rebalance recommendation",
            True,
        ),
        ("an instance was taken out of service in response to a user request", False),
        (
            "an instance was taken out of service in response to a difference between desired and actual",
            False,
        ),
    ],
)
def test_what_a_group_replaces_by_itself_nobody_has_ended(cause: str, replaced: bool) -> None:
    described = {
        "Description": "Terminating EC2 instance: i-0abc",
        "Cause": cause,
        "StatusCode": "Successful",
    }
    assert activity_of(described).replaced == ("i-0abc" if replaced else None)
    assert activity_of({**described, "Description": "Launching a new EC2 instance: i-0abc"}).replaced is None
