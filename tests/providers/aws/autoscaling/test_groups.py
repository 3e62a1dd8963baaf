"""An Auto Scaling group for a run: what is asked of AWS, in which order, and what a crash leaves."""

from __future__ import annotations

import ast
import base64
import gzip
import json
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from runctl.agent.after_run import GroupEnd
from runctl.core import tags as tag
from runctl.core.errors import PermissionDenied
from runctl.core.ids import RunId
from runctl.core.machine_models import Market
from runctl.core.money import usd
from runctl.machines.expected_costs import expected_costs
from runctl.machines.nodes import Engine
from runctl.providers.abilities.groups import GroupPlan, GroupRequest, TakeUp
from runctl.providers.abilities.volume_plans import VolumeRequest
from runctl.providers.aws.autoscaling import first_boot
from runctl.providers.aws.autoscaling.groups import activity_of
from runctl.providers.aws.autoscaling.planning import group_arguments, in_one_zone
from runctl.providers.aws.autoscaling.rights import POLICY, run_policy
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.ec2.private_network import remove_old_networks
from runctl.providers.first_boot import LIMIT_BYTES, compressed
from runctl.providers.interface import InstanceRequest, VolumeMount
from runctl.render.plans.machine_plans import group_plan_text
from runctl.testing.clock import ManualClock
from tests.aws_fixtures import Refuse

RUN = RunId("run-7kq2m9xd4t")
NAME = f"runctl-{RUN}"
URL = "s3://mine/runs"
TYPES = ("m7i.large", "m6i.large")
MACHINE = InstanceRequest(
    TYPES[0], other_types=TYPES[1:], market=Market.SPOT, writes=(f"{URL}/{RUN}",), tags={"team": "vision"}
)
REQUEST = GroupRequest(MACHINE, TakeUp(URL, RUN, "0" * 64))
CHANGES = [
    "CreateRole",
    "PutRolePolicy",
    "PutRolePolicy",
    "CreateInstanceProfile",
    "AddRoleToInstanceProfile",
    "CreateLaunchTemplate",
    "CreateServiceLinkedRole",
    "CreateServiceLinkedRole",
    "CreateAutoScalingGroup",
    "SuspendProcesses",
    "SetDesiredCapacity",
]
"""What `create` calls, in this order: the last one rents."""


@pytest.fixture
def bucket(session: AwsSession) -> None:
    session.s3.create_bucket(Bucket="mine")


@contextmanager
def recorded(session: AwsSession, cut_after: int | None = None) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """The calls that change something, with their parameters; the command is cut short after so many."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def hear(params: dict[str, Any], model: Any, **_: Any) -> None:
        if not model.name.startswith(("Describe", "Get", "Head")):
            calls.append((model.name, params))

    def cut(model: Any, **_: Any) -> None:
        if calls and calls[-1][0] == model.name and len(calls) == cut_after:
            raise KeyboardInterrupt

    clients = (session.ec2, session.iam, session.autoscaling)
    for client in clients:
        client.meta.events.register("provide-client-params.*.*", hear, unique_id="hear")
        client.meta.events.register("after-call.*.*", cut, unique_id="cut")
    yield calls
    for client in clients:
        client.meta.events.unregister("provide-client-params.*.*", unique_id="hear")
        client.meta.events.unregister("after-call.*.*", unique_id="cut")


def nothing_left(session: AwsSession) -> bool:
    roles = [role["RoleName"] for role in session.iam.list_roles()["Roles"]]
    profiles = session.iam.list_instance_profiles()["InstanceProfiles"]
    return (
        not session.autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"]
        and not session.ec2.describe_launch_templates()["LaunchTemplates"]
        and NAME not in roles
        and all(profile["InstanceProfileName"] != NAME for profile in profiles)
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


def test_the_role_allows_what_the_machine_does_on_this_runs_resources(
    provider: AwsProvider, session: AwsSession, bucket: None
) -> None:
    volume = provider.volumes.create(
        provider.volumes.plan(VolumeRequest(size_gib=1, name="data", zone="us-east-1a"))
    )
    machine = replace(MACHINE, volumes=(VolumeMount(str(volume.id)),))
    plan = provider.groups.plan(GroupRequest(machine, REQUEST.take_up, reads=("s3://mine/other",)))
    provider.groups.create(plan)

    document: Any = session.iam.get_role_policy(RoleName=NAME, PolicyName=POLICY)["PolicyDocument"]
    account = session.identity.account
    assert document == json.loads(
        json.dumps(
            run_policy(
                run_id=RUN,
                partition="aws",
                region="us-east-1",
                account=account,
                volumes=[str(volume.id)],
                writes=machine.writes,
                reads=("s3://mine/other",),
            )
        )
    )
    text = json.dumps(document)
    for forbidden in ("CreateTags", "UpdateAutoScalingGroup", "RunInstances", "PassRole", "iam:"):
        assert forbidden not in text
    assert plan.subnets == (
        next(
            item["SubnetId"]
            for item in session.ec2.describe_subnets()["Subnets"]
            if item["AvailabilityZone"] == "us-east-1a"
        ),
    ), "the volume decides the zone"
    assert f"attach and detach {volume.id}, on the run's own machines" in plan.rights


def test_a_role_that_pulls_an_image_may_pull_from_its_repository_alone() -> None:
    where = {"run_id": RUN, "partition": "aws", "region": "us-east-1", "account": "123456789012"}
    without: Any = run_policy(**where, volumes=(), writes=())  # type: ignore[arg-type]
    pulls = "123456789012.dkr.ecr.us-east-1.amazonaws.com/runctl/digits:1"
    widened: Any = run_policy(**where, volumes=(), writes=(), pulls=pulls)  # type: ignore[arg-type]
    more = [each["Resource"] for each in widened["Statement"] if each not in without["Statement"]]
    assert more == ["*", "arn:aws:ecr:us-east-1:123456789012:repository/runctl/digits"], "a token, and pulls"


def user_data_of(session: AwsSession) -> str:
    versions = session.ec2.describe_launch_template_versions(LaunchTemplateName=NAME)
    data: Any = versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    return gzip.decompress(base64.b64decode(data["UserData"])).decode()


def test_the_user_data_fits_and_has_the_whole_program(
    provider: AwsProvider, session: AwsSession, bucket: None
) -> None:
    plan: GroupPlan = provider.groups.plan(REQUEST)
    provider.groups.create(plan)

    text = user_data_of(session)
    assert len(compressed(text)) < LIMIT_BYTES - 2048, "others have to add to it"
    packed = text.partition("take-up.py\" <<'END'\n")[2].partition("\nEND\n")[0]
    program = ast.parse(zlib.decompress(base64.b64decode(packed)).decode(), feature_version=(3, 9))
    used = {
        name.partition(".")[0]
        for node in ast.walk(program)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert used <= set(sys.stdlib_module_names)
    assert f'"url":"{URL}","run_id":"{RUN}"' in text


def test_a_value_is_data_and_never_run() -> None:
    odd = TakeUp("s3://mine/it's $(touch /tmp/never)", RUN, "0" * 64)
    text = first_boot.take_up_script(
        odd, group=NAME, login_user="ec2-user", region="us-east-1", store_region="us-east-1"
    )
    assert text.startswith('RUNCTL_TAKE_UP=\'{"url":"s3://mine/it\'"\'"\'s $(touch /tmp/never)"')


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


def test_several_machines_are_in_one_zone_and_in_a_network_that_ends_with_the_group(
    provider: AwsProvider, session: AwsSession, bucket: None
) -> None:
    plan = provider.groups.plan(replace(REQUEST, count=3))
    assert plan.network is not None
    assert len({offer.pool.zone for offer in plan.machine.offers}) == len(plan.subnets) == 1
    assert any("security group runctl-nodes-" in what for what in plan.machine.will_also_create)
    text = group_plan_text(plan, 20, Engine.RAY)
    assert f"3, in {plan.machine.zone}" in text
    assert re.search(r"engine +ray\n", text)
    price = expected_costs(plan.machine).per_hour
    assert price is not None
    assert f"all of it  {usd(3 * price)} an hour" in text
    with recorded(session) as calls:
        group = provider.groups.create(plan)

    before, after = CHANGES[:5], CHANGES[5:]
    network = ["CreateSecurityGroup", "AuthorizeSecurityGroupIngress"]
    placement = ["CreatePlacementGroup"] if plan.network.placement else []
    made = [name for name, _ in calls]
    assert made[: len(before)] == before
    assert made[-len(after) :] == after
    assert set(made[len(before) : -len(after)]) == {*network, *placement}
    asked = dict(calls)
    assert (asked["CreateAutoScalingGroup"]["MaxSize"], asked["SetDesiredCapacity"]["DesiredCapacity"]) == (
        3,
        3,
    )
    assert asked["CreateAutoScalingGroup"].get("PlacementGroup") == plan.network.placement
    assert group.wanted == 3
    (own,) = [
        each
        for each in session.ec2.describe_security_groups()["SecurityGroups"]
        if each["GroupName"] == plan.network.name
    ]
    assert {"Key": tag.RUN, "Value": RUN} in own["Tags"]
    data = asked["CreateLaunchTemplate"]["LaunchTemplateData"]
    groups = data.get("SecurityGroupIds") or data["NetworkInterfaces"][0]["Groups"]
    assert own["GroupId"] in groups

    gone = provider.groups.end(RUN)
    assert f"security group {plan.network.name}" in gone
    assert gone[-1] == f"IAM role {NAME}"
    assert nothing_left(session)
    left = session.ec2.describe_security_groups()["SecurityGroups"]
    assert own["GroupId"] not in [each["GroupId"] for each in left]


def test_a_group_without_a_machine_keeps_its_network_however_long_it_waits(
    provider: AwsProvider, session: AwsSession, bucket: None, clock: ManualClock
) -> None:
    plan = provider.groups.plan(replace(REQUEST, count=2))
    provider.groups.create(plan)
    assert plan.network is not None
    clock.advance(timedelta(hours=5))
    remove_old_networks(provider._context, "another-token")
    names = [each["GroupName"] for each in session.ec2.describe_security_groups()["SecurityGroups"]]
    assert plan.network.name in names


def test_the_zone_is_the_likeliest_and_else_the_first_that_is_offered(
    provider: AwsProvider, session: AwsSession, bucket: None
) -> None:
    machine = provider.groups.plan(REQUEST).machine
    zones = list(dict.fromkeys(offer.pool.zone for offer in machine.offers))
    assert len(zones) > 1
    alone = in_one_zone(machine, {})
    assert (alone.zone, {offer.pool.zone for offer in alone.offers}) == (zones[0], {zones[0]})
    likely = in_one_zone(machine, {zones[0]: 3, zones[1]: 9})
    assert (likely.zone, likely.zone_reason) == (zones[1], "the likeliest for all machines")
    assert in_one_zone(likely, {zones[0]: 9}).zone == zones[1]
