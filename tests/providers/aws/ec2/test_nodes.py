"""What is asked of EC2 for several machines, and what is made for them: the decisions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from runctl.core import tags as tag
from runctl.core.errors import CapacityError
from runctl.core.machine_models import Market
from runctl.machines.nodes import _scores as chances
from runctl.providers.abilities.nodes import NodesPlan, NodesRequest
from runctl.providers.abilities.volume_plans import VolumeRequest
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ec2 import nodes as nodes_module
from runctl.providers.aws.ec2.fleets import Batch, fleet_arguments, nothing_available, template_arguments
from runctl.providers.aws.ec2.images import InstanceType
from runctl.providers.aws.ec2.launch import run_instances_arguments
from runctl.providers.aws.ec2.nodes import in_rank, rank_tags
from runctl.providers.aws.ec2.private_network import entrances_of, permissions, placement_of
from runctl.providers.aws.ec2.quotas import Quota, beyond_quota, quota_of
from runctl.providers.capacity import Offer, Pool
from runctl.providers.instance_plans import InstanceRequest, VolumeMount
from runctl.providers.interface import require
from tests.cli.fake_provider import a_plan

FAR = InstanceType("t3.medium", "x86_64", None, spot=True, vcpus=2)
CLOSE = InstanceType("m5.large", "x86_64", None, spot=True, vcpus=2, cluster_placement=True)


def described(instance_id: str, rank: str | None) -> dict[str, Any]:
    tags = [] if rank is None else [{"Key": tag.RANK, "Value": rank}]
    return {"InstanceId": instance_id, "Tags": tags}


@pytest.mark.parametrize("market", list(Market)[:2])
def test_several_are_asked_for_in_one_call_that_launches_all_of_one_kind_or_none(
    provider: AwsProvider, market: Market
) -> None:
    plan = provider.renting.plan(InstanceRequest("m5.large", market=market))
    launch = run_instances_arguments(plan, "/dev/xvda", None)
    batch = Batch(3, 5, "runctl-nodes-x")

    call = fleet_arguments(plan, plan.offers, "lt-1", launch, "token", batch)
    alone = fleet_arguments(plan, plan.offers, "lt-1", launch, "token")

    options = call["SpotOptions" if market is Market.SPOT else "OnDemandOptions"]
    assert call["TargetCapacitySpecification"]["TotalTargetCapacity"] == 5
    assert (options["MinTargetCapacity"], options["SingleAvailabilityZone"]) == (3, True)
    assert options["SingleInstanceType"] is True
    assert "MinTargetCapacity" not in str(alone)
    template = template_arguments(plan, launch, {}, batch.placement)
    assert template["LaunchTemplateData"]["Placement"] == {"GroupName": "runctl-nodes-x"}


def test_machines_that_may_write_to_a_volume_are_launched_when_nobody_goes_by_its_data_any_more(
    provider: AwsProvider,
) -> None:
    tags = {tag.CONTENT: "one", tag.FILLED_FROM: "s3://data/all"}
    wanted = VolumeRequest(1, name="datasets", zone="us-east-1a", tags=tags)
    volume = provider.volumes.create(provider.volumes.plan(wanted))
    nodes = require(provider.nodes)
    request = InstanceRequest("m5.large", token="t" * 32, volumes=(VolumeMount("datasets", "/mnt/data"),))
    plan = nodes.plan(NodesRequest(request, 2, 2))

    def launched(*_: object) -> Any:
        assert not tags.keys() & provider.volumes.find(volume.id).tags.keys()
        raise CapacityError("there is no machine")

    with patch.object(nodes_module, "launch_from_pools", launched), pytest.raises(CapacityError):
        nodes.create(plan)


def test_a_machine_knows_what_it_only_reads(provider: AwsProvider) -> None:
    node = provider.renting.create(provider.renting.plan(InstanceRequest()))
    mounts = (VolumeMount("vol-1", "/mnt/results"), VolumeMount("vol-2", "/mnt/datasets", True))

    told = require(provider.nodes).assign(node, mounts)

    assert (told.tags[tag.MOUNTS], told.tags[tag.READ_ONLY]) == (
        "vol-1=/mnt/results vol-2=/mnt/datasets",
        "vol-2",
    )
    assert provider.instance(node.id).tags[tag.READ_ONLY] == "vol-2"


def test_an_error_says_how_many_could_not_be_had_and_that_none_was_kept() -> None:
    offers = tuple(Offer(Pool("m5.large", zone), None, "subnet-1") for zone in ("us-east-1a", "us-east-1b"))

    error = nothing_available(Market.SPOT, offers, (), 4)

    assert (
        "4 spot machines were not available in one zone, and none was kept; 2 pools were asked"
        in error.message
    )


def test_the_machines_own_group_lets_in_its_members_and_ssh_from_where_the_default_group_did() -> None:
    default = {
        "IpPermissions": [
            {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-default"}]},
            {"IpProtocol": "tcp", "FromPort": 20, "ToPort": 25, "IpRanges": [{"CidrIp": "192.0.2.0/24"}]},
            {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
            {"IpProtocol": "-1", "Ipv6Ranges": [{"CidrIpv6": "2001:db8::/32"}]},
            {"IpProtocol": "6", "FromPort": 22, "ToPort": 22, "PrefixListIds": [{"PrefixListId": "pl-1"}]},
        ]
    }

    entrances = entrances_of([default])
    rules = permissions("sg-own", entrances)

    assert entrances == ("192.0.2.0/24", "2001:db8::/32", "pl-1")
    assert rules[0] == {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-own"}]}
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
    assert rules[1:] == [
        {**ssh, "IpRanges": [{"CidrIp": "192.0.2.0/24"}]},
        {**ssh, "Ipv6Ranges": [{"CidrIpv6": "2001:db8::/32"}]},
        {**ssh, "PrefixListIds": [{"PrefixListId": "pl-1"}]},
    ]


@pytest.mark.parametrize(
    ("types", "most", "name"),
    [([CLOSE], 2, "runctl-nodes-t"), ([CLOSE, FAR], 2, None), ([FAR], 2, None), ([CLOSE], 1, None)],
)
def test_machines_are_put_close_to_each_other_where_every_type_can_be(
    types: list[InstanceType], most: int, name: str | None
) -> None:
    found, reason = placement_of(types, "t", most)

    assert found == name
    assert reason


def test_ranks_that_were_given_stay_and_the_others_follow() -> None:
    found = in_rank([described("i-c", None), described("i-b", None), described("i-z", "0")])

    assert [item["InstanceId"] for item in found] == ["i-z", "i-b", "i-c"]
    assert rank_tags({tag.NAME: "team"}, 1) == {tag.NAME: "team-1", tag.RANK: "1"}
    assert rank_tags({tag.NAME: "team", tag.ATTEMPT: "run-a/1"}, 0)[tag.ATTEMPT] == "run-a/1"


def test_the_quota_is_that_of_all_machines() -> None:
    quota = quota_of("m5.large", Market.ON_DEMAND)
    assert quota is not None
    limits: dict[Quota, int] = {quota: 8}

    assert beyond_quota([CLOSE], Market.ON_DEMAND, limits, {quota: 2}, 3) == {}
    assert (
        "4 have 8 vCPUs, and 6 of 8"
        in beyond_quota([CLOSE], Market.ON_DEMAND, limits, {quota: 2}, 4)["m5.large"]
    )


def test_the_chances_are_those_of_all_machines_in_one_zone(
    context: AwsContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone, *_ = context.session.ec2.describe_availability_zones()["AvailabilityZones"]
    asked: list[dict[str, Any]] = []

    def scores(**question: Any) -> Any:
        asked.append(question)
        row = {"Region": "us-east-1", "AvailabilityZoneId": zone["ZoneId"], "Score": 3}
        return {"SpotPlacementScores": [row]}

    monkeypatch.setattr(context.session.ec2, "get_spot_placement_scores", scores)
    pool = Pool("m5.large", zone["ZoneName"])
    machine = replace(
        a_plan(InstanceRequest("m5.large", market=Market.SPOT)),
        market=Market.SPOT,
        offers=(Offer(pool, None), Offer(Pool("m5.xlarge", zone["ZoneName"]), None)),
    )
    provider = AwsProvider(context)

    assert chances(provider, NodesPlan(machine, 2, 4, "network")) == {zone["ZoneName"]: 3}
    (question,) = asked
    assert (question["TargetCapacity"], question["SingleAvailabilityZone"]) == (4, True)
    assert question["InstanceTypes"] == ["m5.large", "m5.xlarge"]

    on_demand = replace(machine, market=Market.ON_DEMAND)
    assert chances(provider, NodesPlan(on_demand, 2, 4, "network")) == {}
    assert len(asked) == 1
