"""CreateFleet of the type instant: the best pool first, every refusal named, and one answer for one token."""

from __future__ import annotations

from collections.abc import Callable, Generator
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError

from runctl.sandbox.fault_client import Faults
from tests.sandbox.account import Account, code_of

pytestmark = pytest.mark.namespaces

CreateFleet = Callable[..., dict[str, Any]]
TYPES = ("g5.xlarge", "g4dn.xlarge")
ZONES = ("us-east-1a", "us-east-1b")


@pytest.fixture
def template(account: Account) -> Generator[str]:
    created = account.ec2.create_launch_template(
        LaunchTemplateName="fleet-test",
        LaunchTemplateData={
            "ImageId": account.image,
            "SecurityGroupIds": [account.open_group],
            "TagSpecifications": [
                {"ResourceType": "instance", "Tags": [{"Key": "from", "Value": "template"}]},
            ],
        },
    )["LaunchTemplate"]
    yield created["LaunchTemplateId"]
    account.ec2.delete_launch_template(LaunchTemplateId=created["LaunchTemplateId"])


@pytest.fixture
def subnets(account: Account) -> dict[str, str]:
    found = account.ec2.describe_subnets()["Subnets"]
    return {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in found}


@pytest.fixture
def create_fleet(
    account: Account, template: str, subnets: dict[str, str], launched: list[str]
) -> CreateFleet:
    def call(
        market: str = "spot", types: tuple[str, ...] = TYPES, zones: tuple[str, ...] = ZONES, **more: Any
    ) -> dict[str, Any]:
        overrides = [{"InstanceType": kind, "SubnetId": subnets[zone]} for kind in types for zone in zones]
        parameters: dict[str, Any] = {
            "Type": "instant",
            "TargetCapacitySpecification": {
                "TotalTargetCapacity": 1,
                "DefaultTargetCapacityType": market,
            },
            "SpotOptions": {"AllocationStrategy": "price-capacity-optimized"},
            "LaunchTemplateConfigs": [
                {
                    "LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "1"},
                    "Overrides": overrides,
                }
            ],
            **more,
        }
        answer: dict[str, Any] = account.ec2.create_fleet(**parameters)
        launched.extend(instance_id for group in answer["Instances"] for instance_id in group["InstanceIds"])
        return answer

    return call


def cheapest(account: Account) -> tuple[str, str]:
    """The type and zone with the lowest spot price now."""
    history = account.ec2.describe_spot_price_history(
        InstanceTypes=list(TYPES), ProductDescriptions=["Linux/UNIX"]
    )["SpotPriceHistory"]
    newest: dict[tuple[str, str], Decimal] = {}
    for row in history:
        key = (row["InstanceType"], row["AvailabilityZone"])
        if row["AvailabilityZone"] in ZONES:
            newest.setdefault(key, Decimal(row["SpotPrice"]))
    return min(newest, key=lambda key: newest[key])


def pool_of(answer: dict[str, Any]) -> tuple[str, str]:
    (group,) = answer["Instances"]
    return group["InstanceType"], group["LaunchTemplateAndOverrides"]["Overrides"]["AvailabilityZone"]


def test_the_cheapest_pool_is_launched_and_it_is_a_spot_instance_with_a_body(
    account: Account, create_fleet: CreateFleet
) -> None:
    answer = create_fleet()

    assert answer["Errors"] == []
    assert pool_of(answer) == cheapest(account)
    (instance_id,) = answer["Instances"][0]["InstanceIds"]
    instance = account.wait_state(instance_id, "running")
    assert instance["InstanceLifecycle"] == "spot"
    assert instance["SpotInstanceRequestId"].startswith("sir-")
    assert {group["GroupId"] for group in instance["SecurityGroups"]} == {account.open_group}
    tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
    assert tags["from"] == "template"
    assert tags["aws:ec2:fleet-id"] == answer["FleetId"]


def test_pools_without_capacity_are_named_with_their_error_and_the_next_is_taken(
    account: Account, create_fleet: CreateFleet, faults: Faults
) -> None:
    kind, zone = cheapest(account)
    faults.no_capacity(zone=zone, instance_type=kind, market="spot")

    answer = create_fleet()

    assert pool_of(answer) != (kind, zone)
    (error,) = answer["Errors"]
    assert error["ErrorCode"] == "InsufficientInstanceCapacity"
    assert error["Lifecycle"] == "spot"
    override = error["LaunchTemplateAndOverrides"]["Overrides"]
    assert (override["InstanceType"], override["AvailabilityZone"]) == (kind, zone)


def test_without_capacity_anywhere_there_is_an_answer_an_error_for_each_pool_and_no_instance(
    create_fleet: CreateFleet, faults: Faults
) -> None:
    faults.no_capacity(market="spot")

    answer = create_fleet()

    assert answer["Instances"] == []
    assert len(answer["Errors"]) == len(TYPES) * len(ZONES)
    assert create_fleet(market="on-demand")["Errors"] == []


def test_a_limit_on_a_zone_counts_those_that_run(create_fleet: CreateFleet, faults: Faults) -> None:
    faults.capacity(1, zone=ZONES[0])

    zones = {pool_of(create_fleet(types=("t3.micro",)))[1] for _ in range(3)}
    answer = create_fleet(types=("t3.micro",), zones=ZONES[:1])

    assert zones <= set(ZONES)
    assert len(answer["Instances"]) + len(answer["Errors"]) == 1
    second = create_fleet(types=("t3.micro",), zones=ZONES[:1])
    assert second["Instances"] == []


def test_the_errors_of_wrong_pools_do_not_keep_a_good_one_from_launching(create_fleet: CreateFleet) -> None:
    answer = create_fleet(types=("zz.nope", "t3.micro"), zones=ZONES[:1])

    assert pool_of(answer)[0] == "t3.micro"
    assert [error["ErrorCode"] for error in answer["Errors"]] in ([], ["InvalidParameterValue"])
    assert create_fleet(types=("zz.nope",), zones=ZONES[:1])["Errors"][0]["ErrorCode"] == (
        "InvalidParameterValue"
    )


def test_a_bid_below_the_price_is_an_error_of_that_pool(
    account: Account, create_fleet: CreateFleet, subnets: dict[str, str], template: str
) -> None:
    answer = create_fleet(
        LaunchTemplateConfigs=[
            {
                "LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "1"},
                "Overrides": [
                    {"InstanceType": "g5.xlarge", "SubnetId": subnets[ZONES[0]], "MaxPrice": "0.0001"}
                ],
            }
        ]
    )

    assert [error["ErrorCode"] for error in answer["Errors"]] == ["SpotMaxPriceTooLow"]


def test_the_same_token_gets_the_same_fleet_and_another_request_with_it_is_refused(
    create_fleet: CreateFleet,
) -> None:
    first = create_fleet(ClientToken="one-token")
    second = create_fleet(ClientToken="one-token")

    assert second["FleetId"] == first["FleetId"]
    assert second["Instances"] == first["Instances"]
    with pytest.raises(ClientError) as caught:
        create_fleet(types=TYPES[:1], ClientToken="one-token")
    assert code_of(caught.value) == "IdempotentParameterMismatch"


def test_tags_of_the_request_are_on_the_instance_its_volumes_and_the_fleet(
    account: Account, create_fleet: CreateFleet
) -> None:
    tags = [{"Key": "whose", "Value": "ours"}]

    answer = create_fleet(
        TagSpecifications=[{"ResourceType": kind, "Tags": tags} for kind in ("fleet", "instance", "volume")]
    )

    (instance_id,) = answer["Instances"][0]["InstanceIds"]
    instance = account.describe(instance_id)
    assert tags[0] in instance["Tags"]
    volume_id = instance["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    assert tags[0] in account.volume(volume_id)["Tags"]
    (fleet,) = account.ec2.describe_fleets(FleetIds=[answer["FleetId"]])["Fleets"]
    assert tags[0] in fleet["Tags"]
    assert fleet["Instances"][0]["InstanceIds"] == [instance_id]


def test_a_deleted_fleet_takes_its_instances_along(account: Account, create_fleet: CreateFleet) -> None:
    answer = create_fleet()
    (instance_id,) = answer["Instances"][0]["InstanceIds"]

    account.ec2.delete_fleets(FleetIds=[answer["FleetId"]], TerminateInstances=False)

    account.wait_state(instance_id, "terminated")


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"Type": "maintain"}, "UnsupportedOperation"),
        ({"TargetCapacitySpecification": {"TotalTargetCapacity": 0}}, "InvalidTargetCapacitySpecification"),
        ({"SpotOptions": {"AllocationStrategy": "cheap"}}, "InvalidParameterValue"),
        ({"SpotOptions": {"SingleInstanceType": True}}, "UnsupportedOperation"),
        (
            {"TagSpecifications": [{"ResourceType": "spot-instances-request", "Tags": []}]},
            "InvalidParameterValue",
        ),
    ],
)
def test_a_wrong_request_is_refused_whole(
    create_fleet: CreateFleet, changed: dict[str, Any], code: str
) -> None:
    with pytest.raises(ClientError) as caught:
        create_fleet(**changed)

    assert code_of(caught.value) == code


def test_two_subnets_in_one_zone_are_refused_whole(
    account: Account, create_fleet: CreateFleet, subnets: dict[str, str], template: str
) -> None:
    override = {"InstanceType": "t3.micro", "SubnetId": subnets[ZONES[0]]}

    with pytest.raises(ClientError, match="duplicate instance pools") as caught:
        create_fleet(
            LaunchTemplateConfigs=[
                {
                    "LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "1"},
                    "Overrides": [override, override],
                }
            ]
        )

    assert code_of(caught.value) == "InvalidFleetConfig"


def test_a_template_that_says_it_is_spot_is_refused(account: Account, create_fleet: CreateFleet) -> None:
    created = account.ec2.create_launch_template(
        LaunchTemplateName="says-spot",
        LaunchTemplateData={
            "ImageId": account.image,
            "InstanceType": "t3.micro",
            "InstanceMarketOptions": {"MarketType": "spot"},
        },
    )["LaunchTemplate"]

    with pytest.raises(ClientError) as caught:
        create_fleet(
            LaunchTemplateConfigs=[
                {
                    "LaunchTemplateSpecification": {
                        "LaunchTemplateId": created["LaunchTemplateId"],
                        "Version": "1",
                    }
                }
            ]
        )

    assert code_of(caught.value) == "InvalidFleetConfig"
    account.ec2.delete_launch_template(LaunchTemplateId=created["LaunchTemplateId"])


def together(least: int, most: int, market: str = "spot") -> dict[str, Any]:
    options = {"SingleInstanceType": True, "SingleAvailabilityZone": True, "MinTargetCapacity": least}
    return {
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": most,
            "DefaultTargetCapacityType": market,
        },
        "SpotOptions" if market == "spot" else "OnDemandOptions": options,
    }


def test_instances_that_belong_together_come_from_one_pool_or_none_does(
    create_fleet: CreateFleet, account: Account, faults: Faults
) -> None:
    faults.capacity(1, zone=ZONES[0])
    faults.capacity(2, zone=ZONES[1])

    none = create_fleet(**together(3, 3))
    some = create_fleet(**together(2, 3))

    assert none["Instances"] == []
    assert {error["ErrorCode"] for error in none["Errors"]} == {"InsufficientInstanceCapacity"}
    assert len(none["Errors"]) == len(TYPES) * len(ZONES)
    (group,) = some["Instances"]
    assert len(group["InstanceIds"]) == 2
    assert group["LaunchTemplateAndOverrides"]["Overrides"]["AvailabilityZone"] == ZONES[1]
    with pytest.raises(ClientError) as refused:
        create_fleet(SpotOptions={"MinTargetCapacity": 2})
    assert code_of(refused.value) == "InvalidParameterCombination"


def test_a_placement_group_takes_what_can_be_close_together_and_stays_while_it_is_used(
    account: Account, launched: list[str], subnets: dict[str, str]
) -> None:
    account.ec2.create_placement_group(GroupName="close", Strategy="cluster")
    launch: dict[str, Any] = {
        "ImageId": account.image,
        "MinCount": 1,
        "MaxCount": 1,
        "Placement": {"GroupName": "close"},
    }

    with pytest.raises(ClientError) as too_small:
        account.ec2.run_instances(**launch, InstanceType="t3.medium", SubnetId=subnets[ZONES[0]])
    answer = account.ec2.run_instances(**launch, InstanceType="m5.large", SubnetId=subnets[ZONES[0]])
    launched.append(answer["Instances"][0]["InstanceId"])
    with pytest.raises(ClientError) as elsewhere:
        account.ec2.run_instances(**launch, InstanceType="m5.large", SubnetId=subnets[ZONES[1]])
    with pytest.raises(ClientError) as used:
        account.ec2.delete_placement_group(GroupName="close")
    with pytest.raises(ClientError) as twice:
        account.ec2.create_placement_group(GroupName="close", Strategy="cluster")

    assert code_of(too_small.value) == "InvalidParameterCombination"
    assert code_of(elsewhere.value) == "InvalidParameterValue"
    assert code_of(used.value) == "InvalidPlacementGroup.InUse"
    assert code_of(twice.value) == "InvalidPlacementGroup.Duplicate"
    account.ec2.terminate_instances(InstanceIds=launched)
    account.ec2.get_waiter("instance_terminated").wait(InstanceIds=launched, WaiterConfig={"Delay": 1})
    account.ec2.delete_placement_group(GroupName="close")
    assert account.ec2.describe_placement_groups()["PlacementGroups"] == []
