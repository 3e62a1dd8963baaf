"""What a run's Auto Scaling group is to be, and the calls that make it. Pure but for what `plan_create` looks up.

Sources: "Auto Scaling groups with multiple instance types and purchase options", "Suspend-resume processes" and
"Health checks" in the EC2 Auto Scaling user guide; CreateAutoScalingGroup and CreateLaunchTemplate in the API
references.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runctl.core import tags as tag
from runctl.core.errors import Unsupported, UsageError
from runctl.core.ids import RunId
from runctl.core.machine_models import Market
from runctl.core.progress import Progress
from runctl.providers.abilities.groups import GroupPlan, GroupRequest
from runctl.providers.aws.autoscaling.rights import rights_text
from runctl.providers.aws.calls.parse import tag_list
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ec2.planning import plan_create
from runctl.providers.aws.ec2.private_network import plan_network
from runctl.providers.aws.ec2.spot_market import Ec2SpotMarket
from runctl.providers.first_boot import compressed
from runctl.providers.instance_plans import CreatePlan

MOST_TYPES = 40
"""Overrides of a mixed instances policy."""
SUSPENDED = ("AZRebalance",)
"""It would end a machine that works, to balance zones."""
END_ACTION = "runctl-ttl"


def name_of(run_id: RunId) -> str:
    """Of the group, its template and its role. Pure."""
    return f"runctl-{run_id}"


def plan_group(
    context: AwsContext, request: GroupRequest, progress: Progress, own_machine: str | None = None
) -> GroupPlan:
    """See `Groups.plan`. ``own_machine`` is one that the group has rented already."""
    run_id, wanted = request.take_up.run_id, request.machine
    machine = plan_create(context, wanted, progress, own_machine, request.count)
    own_network = None
    if request.count > 1:
        machine = in_one_zone(machine, _scores(context, machine, request.count))
        named = bool(wanted.security_groups)
        machine, own_network = plan_network(context, machine, request.count, named=named)
    ttl = machine.longest
    volumes = tuple(mount.volume for mount in machine.volumes)
    read_only = {mount.volume for mount in machine.volumes if mount.read_only}
    own_profile = wanted.instance_profile or context.settings.instance_profile
    role = None if own_profile else name_of(run_id)
    types = tuple(dict.fromkeys(offer.pool.instance_type for offer in machine.offers))
    if len(types) > MOST_TYPES:
        raise UsageError(
            f"{len(types)} instance types are more than the {MOST_TYPES} that an Auto Scaling group takes",
            hint="ask for more of the machine, or name types: --instance-type",
        )
    machine = replace(
        machine,
        instance_profile=own_profile or role,
        # A machine that ends itself is replaced, and the next one's time and money would count from the beginning.
        ttl=None,
        budget=None,
        budget_time=None,
        idle_timeout=None,
        unused_for=None,
        tags={**machine.tags, tag.RUN: run_id},
        will_also_create=machine.will_also_create if own_network is not None else (),
    )
    return GroupPlan(
        machine=machine,
        take_up=request.take_up,
        name=name_of(run_id),
        role=role,
        rights=rights_text(volumes, wanted.writes, request.reads, read_only) if role else (),
        subnets=tuple(dict.fromkeys(offer.subnet for offer in machine.offers if offer.subnet is not None)),
        types=types or (machine.instance_type,),
        bid=wanted.max_price if wanted.market is Market.SPOT else None,
        reads=request.reads,
        ttl=ttl,
        ends_at=context.clock.now() + ttl if ttl is not None else None,
        on_demand_from=request.on_demand_from,
        count=request.count,
        network=own_network,
    )


def _scores(context: AwsContext, machine: CreatePlan, count: int) -> Mapping[str, int]:
    """By zone, how likely it is that all are had there on the spot market; empty: nobody says."""
    if machine.market is not Market.SPOT or len({offer.pool.zone for offer in machine.offers}) < 2:
        return {}
    types = sorted({offer.pool.instance_type for offer in machine.offers})
    scores = Ec2SpotMarket(context).placement_scores(types, count)
    return {} if isinstance(scores, Unsupported) else scores


def in_one_zone(machine: CreatePlan, scores: Mapping[str, int]) -> CreatePlan:
    """The plan with the offers of one zone: the likeliest, and of those as likely the one that is offered first. Pure.

    A group spreads its machines over all zones that it has.
    """
    zones = list(dict.fromkeys(offer.pool.zone for offer in machine.offers))
    if len(zones) < 2:
        return replace(machine, zone=next(iter(zones), machine.zone))
    best = max(zones, key=lambda zone: (scores.get(zone, 0), -zones.index(zone)))
    reason = "the likeliest for all machines" if scores else "one for all machines"
    offers = tuple(offer for offer in machine.offers if offer.pool.zone == best)
    return replace(machine, zone=best, zone_reason=reason, offers=offers)


def run_tags(plan: GroupPlan) -> dict[str, str]:
    """What everything that is made for the group is tagged with; its machines have more. Pure."""
    left = {tag.MOUNTS, tag.READ_ONLY, tag.LOGIN_USER, tag.NAME}
    return {key: value for key, value in plan.machine.tags.items() if key not in left}


def template_arguments(plan: GroupPlan, launch: Mapping[str, Any]) -> dict[str, Any]:
    """What CreateLaunchTemplate is called with, for a launch that RunInstances would be called with. Pure.

    The market is the group's to say: with a mixed instances policy a template that says it is refused. What a group
    launches has its tags from the template, volumes too. No tag for spot requests: on-demand machines would not launch.
    """
    left = {
        "MinCount",
        "MaxCount",
        "ClientToken",
        "InstanceType",
        "InstanceMarketOptions",
        "SubnetId",
        "Placement",
    }
    data = {name: value for name, value in launch.items() if name not in left}
    data["UserData"] = base64.b64encode(compressed(data["UserData"])).decode()
    # The intent made the group; each of its machines is a thing of its own.
    data["TagSpecifications"] = [
        {**item, "Tags": [each for each in item["Tags"] if each["Key"] != tag.INTENT]}
        for item in launch["TagSpecifications"]
        if "spot" not in item["ResourceType"]
    ]
    return {
        "LaunchTemplateName": plan.name,
        "ClientToken": plan.machine.client_token,
        "LaunchTemplateData": data,
        "TagSpecifications": [{"ResourceType": "launch-template", "Tags": tag_list(run_tags(plan))}],
    }


def group_arguments(plan: GroupPlan, template_id: str, *, second: bool = False) -> dict[str, Any]:
    """What CreateAutoScalingGroup is called with, for the first or the second group. Pure.

    It begins with no machine: the call that sets its size is the one that rents. Percentage and strategy have defaults
    that buy on demand, and where it is cheapest today. The version is pinned: another one would be another machine.
    Capacity rebalancing is off: it would end the machine on a mere recommendation, without a notice.
    """
    spot = plan.machine.market is Market.SPOT and not second
    distribution: dict[str, Any] = {
        "OnDemandBaseCapacity": 0,
        "OnDemandPercentageAboveBaseCapacity": 0 if spot else 100,
        "OnDemandAllocationStrategy": "lowest-price",
        "SpotAllocationStrategy": "price-capacity-optimized",
    }
    if plan.bid is not None and spot:
        distribution["SpotMaxPrice"] = f"{plan.bid:f}"
    return {
        "AutoScalingGroupName": plan.second if second else plan.name,
        "MixedInstancesPolicy": {
            "LaunchTemplate": {
                "LaunchTemplateSpecification": {
                    "LaunchTemplateId": template_id,
                    "Version": "2" if second else "1",
                },
                "Overrides": [{"InstanceType": name} for name in plan.types],
            },
            "InstancesDistribution": distribution,
        },
        "MinSize": 0,
        "MaxSize": plan.count,
        "DesiredCapacity": 0,
        **({"PlacementGroup": plan.network.placement} if plan.network and plan.network.placement else {}),
        "VPCZoneIdentifier": ",".join(plan.subnets),
        "CapacityRebalance": False,
        "Tags": [
            # The template tags its machines: of one key, the group's value would win.
            {"Key": key, "Value": value, "PropagateAtLaunch": False}
            for key, value in run_tags(plan).items()
        ],
    }
