"""What of an account is written for Terraform, and what is not, with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from runctl.providers.abilities.inventory import Resource, ResourceKind
from runctl.providers.abilities.terraform import Block
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.inventory.regional import GROUP_TAG, resource
from runctl.providers.aws.terraform.ability import _PASSING, _READ, AwsTerraform, reason_against
from runctl.providers.aws.terraform.groups import group
from runctl.providers.aws.terraform.names import TYPES, Names
from runctl.providers.aws.terraform.network import security_group
from tests.aws_fixtures import REGION, Refuse


def of(
    kind: ResourceKind, identifier: str = "id", tags: dict[str, str] | None = None, **more: Any
) -> Resource:
    return resource(kind, identifier, tags or {}, REGION, **more)


@pytest.mark.parametrize(
    ("left_out", "why"),
    [
        (of(ResourceKind.INSTANCE, tags={GROUP_TAG: "runctl-run-1"}), "group runctl-run-1 rents"),
        (of(ResourceKind.INSTANCE, helper_for="vol-1"), "while vol-1 is filled"),
        (of(ResourceKind.ROLE, helper_for="vol-1"), "while vol-1 is filled"),
        (of(ResourceKind.VOLUME, ends_with="i-1"), "a disk of i-1"),
        (of(ResourceKind.INSTANCE, state="shutting-down"), "ending"),
        (of(ResourceKind.GROUP, state="deleting"), "ending"),
        (of(ResourceKind.SPOT_REQUEST), "with its instance"),
        (of(ResourceKind.OBJECTS), "content"),
    ],
)
def test_what_goes_by_itself_is_left_out_with_the_reason(left_out: Resource, why: str) -> None:
    assert why in reason_against(left_out)


@pytest.mark.parametrize("kind", [ResourceKind.INSTANCE, ResourceKind.VOLUME, ResourceKind.BUCKET])
def test_what_stays_is_written(kind: ResourceKind) -> None:
    assert reason_against(of(kind, state="running")) == ""


@pytest.mark.parametrize("kind", ResourceKind)
def test_every_kind_is_written_or_has_a_reason(kind: ResourceKind) -> None:
    assert (kind in _READ) == (kind in TYPES) != (kind in _PASSING)


def test_what_is_gone_is_not_there_and_what_cannot_be_read_is_said(
    provider: AwsProvider, session: AwsSession, refuse: Refuse
) -> None:
    kept = session.ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1)["VolumeId"]
    gone = "vol-0123456789abcdef0"
    refuse(session.iam, "GetRole", "AccessDenied", "you may not")
    listed = [
        of(ResourceKind.VOLUME, kept),
        of(ResourceKind.VOLUME, gone),
        resource(ResourceKind.ROLE, "runctl-instance", {}, None),
        resource(ResourceKind.INSTANCE_PROFILE, "runctl-gone", {}, None),
    ]
    ability = provider.terraform
    assert isinstance(ability, AwsTerraform)
    module = ability.module(listed)
    assert [(each.type, each.import_id) for each in module.resources] == [("aws_ebs_volume", kept)]
    (unread,) = module.unread
    assert unread.what == "role runctl-instance"


def test_rules_are_one_for_each_source_and_description_in_any_order() -> None:
    permissions = [
        {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-1"}, {"GroupId": "sg-2"}]},
        {
            "IpProtocol": "tcp",
            "FromPort": 22,
            "ToPort": 22,
            "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "home"}, {"CidrIp": "192.0.2.0/24"}],
        },
    ]
    item = {"GroupId": "sg-1", "GroupName": "nodes", "Description": "d", "VpcId": "vpc-1"}
    names = Names([of(ResourceKind.SECURITY_GROUP, "sg-1", name="nodes")])
    written = [
        security_group({**item, "IpPermissions": order}, names, REGION).body["ingress"]
        for order in (permissions, permissions[::-1])
    ]
    assert written[0] == written[1]
    ssh = {"from_port": 22, "to_port": 22, "protocol": "tcp"}
    everything = {"from_port": 0, "to_port": 0, "protocol": "-1", "self": True, "security_groups": ["sg-2"]}
    assert written[0] == (
        Block(everything),
        Block({**ssh, "cidr_blocks": ["10.0.0.0/8"], "description": "home"}),
        Block({**ssh, "cidr_blocks": ["192.0.2.0/24"]}),
    )


def test_a_group_of_machines_that_are_close_to_each_other_has_its_placement_group() -> None:
    described = {
        "AutoScalingGroupName": "runctl-run-1",
        "MinSize": 0,
        "MaxSize": 2,
        "DesiredCapacity": 2,
        "VPCZoneIdentifier": "subnet-1",
    }
    names = Names([of(ResourceKind.GROUP, "runctl-run-1")])
    alone, close = (
        group({**described, **more}, names, REGION).body
        for more in ({}, {"PlacementGroup": "runctl-nodes-1"})
    )
    assert "placement_group" not in alone
    assert (close["placement_group"], close["max_size"]) == ("runctl-nodes-1", 2)
