"""A group of several machines for one run."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

from runctl.core import tags as tag
from runctl.core.money import usd
from runctl.machines.expected_costs import expected_costs
from runctl.machines.nodes import Engine
from runctl.providers.aws.autoscaling.planning import in_one_zone
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.ec2.private_network import remove_old_networks
from runctl.render.plans.machine_plans import group_plan_text
from runctl.testing.clock import ManualClock
from tests.providers.aws.autoscaling.group_requests import CHANGES, NAME, REQUEST, RUN, nothing_left, recorded


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
