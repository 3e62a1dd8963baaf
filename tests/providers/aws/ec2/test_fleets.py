"""One machine from the best of several pools, and what it means when none has one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runctl.core import tags as tag
from runctl.core.errors import (
    CapacityError,
    PermissionDenied,
    ProviderError,
    QuotaExceeded,
    RunctlError,
    Unsupported,
)
from runctl.core.journal import Standing
from runctl.core.machine_models import Market
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.ec2.fleets import (
    TEMPLATE_PREFIX,
    is_fleet,
    nothing_available,
    outcome_of,
    refusal_of,
    zones_to_try,
)
from runctl.providers.capacity import Needs, Offer, Pool, Refusal, RefusalReason
from runctl.providers.instance_plans import CreatePlan, InstanceRequest
from runctl.testing.clock import ManualClock
from tests.aws_fixtures import Refuse
from tests.rates import hourly

A, B = "us-east-1a", "us-east-1b"
TYPES = ("m7i.large", "m6i.large")
REQUEST = InstanceRequest(
    TYPES[0], other_types=TYPES[1:], market=Market.SPOT, data_volume_size_gib=5, tags={"team": "vision"}
)
NO_CAPACITY = (
    "InsufficientInstanceCapacity",
    "There is no Spot capacity available that matches your request.",
)
SPOT_QUOTA = ("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
VCPUS = ("VcpuLimitExceeded", "You have requested more vCPU capacity than your current limit of 0 allows")
NOT_SOLD = (
    "Unsupported",
    "Your requested instance type is not supported in your requested Availability Zone",
)
WRONG = ("InvalidParameterValue", "Invalid value 'zz.nope' for InstanceType.")
DENIED = ("UnauthorizedOperation", "You are not authorized to perform this operation.")


def offers(*pools: tuple[str, str]) -> tuple[Offer, ...]:
    return tuple(
        Offer(Pool(kind, zone), hourly("0.3", "a test"), f"subnet-{zone[-1]}") for kind, zone in pools
    )


def templates(session: AwsSession) -> list[str]:
    return [item["LaunchTemplateName"] for item in session.ec2.describe_launch_templates()["LaunchTemplates"]]


def recorded(session: AwsSession, operation: str) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    session.ec2.meta.events.register(
        f"provide-client-params.ec2.{operation}", lambda params, **_: calls.append(params)
    )
    return calls


def test_all_types_in_all_zones_are_asked_by_one_fleet_whose_template_goes(
    provider: AwsProvider, session: AwsSession
) -> None:
    plan = provider.renting.plan(REQUEST)
    fleets, made = recorded(session, "CreateFleet"), recorded(session, "CreateLaunchTemplate")

    instance = provider.renting.create(plan)

    assert plan.zone is None
    assert plan.subnet is None
    assert len({offer.pool for offer in plan.offers}) == len(plan.offers) > len(TYPES)
    (call,) = fleets
    assert call["Type"] == "instant"
    assert call["ClientToken"] == plan.client_token
    assert call["TargetCapacitySpecification"] == {
        "TotalTargetCapacity": 1,
        "DefaultTargetCapacityType": "spot",
    }
    assert call["SpotOptions"]["AllocationStrategy"] == "price-capacity-optimized"
    (config,) = call["LaunchTemplateConfigs"]
    assert [(item["InstanceType"], item["SubnetId"]) for item in config["Overrides"]] == [
        (offer.pool.instance_type, offer.subnet) for offer in plan.offers
    ]
    assert "MaxPrice" not in str(call)
    assert {item["ResourceType"] for item in call["TagSpecifications"]} == {
        "fleet",
        "instance",
        "volume",
        "network-interface",
    }
    data = made[0]["LaunchTemplateData"]
    assert "InstanceMarketOptions" not in data
    assert data["MetadataOptions"]["HttpTokens"] == "required"
    assert data["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert instance.market is Market.SPOT
    assert instance.tags["team"] == "vision"
    assert instance.tags[tag.INTENT] == plan.client_token
    assert templates(session) == []
    assert [change.kind for change in session.journal.changes()] == ["instance"]


def test_the_same_plan_again_gives_the_same_instance(provider: AwsProvider, session: AwsSession) -> None:
    plan = provider.renting.plan(REQUEST)
    fleets = recorded(session, "CreateFleet")

    first, second = provider.renting.create(plan), provider.renting.create(plan)

    assert first.id == second.id
    assert len(fleets) == 1


def test_what_killed_commands_left_is_replaced_and_in_an_hour_removed(
    provider: AwsProvider, session: AwsSession, clock: ManualClock
) -> None:
    plan = provider.renting.plan(REQUEST)
    owned = [{"Key": tag.OWNED, "Value": tag.OWNED_VALUE}]
    for name, tags in ((plan.client_token, owned), ("of-another-command", owned), ("untagged", [])):
        specification: Any = [{"ResourceType": "launch-template", "Tags": tags}] if tags else []
        session.ec2.create_launch_template(
            LaunchTemplateName=TEMPLATE_PREFIX + name,
            LaunchTemplateData={"ImageId": plan.image},
            TagSpecifications=specification,
        )

    provider.renting.create(plan)

    assert sorted(templates(session)) == [
        f"{TEMPLATE_PREFIX}of-another-command",
        f"{TEMPLATE_PREFIX}untagged",
    ]

    clock.sleep(3 * 24 * 3600 * 365)
    provider.renting.create(provider.renting.plan(REQUEST))

    assert templates(session) == [f"{TEMPLATE_PREFIX}untagged"]


def test_a_fleet_that_is_refused_whole_leaves_nothing(
    provider: AwsProvider, session: AwsSession, refuse: Refuse
) -> None:
    plan = provider.renting.plan(REQUEST)
    refuse(session.ec2, "CreateFleet", *DENIED)

    with pytest.raises(PermissionDenied, match="CreateFleet"):
        provider.renting.create(plan)

    assert templates(session) == []
    assert session.journal.changes() == ()


def test_a_fleet_without_an_instance_is_told_as_refused_and_each_pool_to_the_listener(
    provider: AwsProvider, session: AwsSession
) -> None:
    plan = provider.renting.plan(replace(REQUEST, avoid=(Pool(TYPES[0], A),)))
    fleets = recorded(session, "CreateFleet")

    def without_instances(**_: Any) -> Any:
        errors = [
            {
                "LaunchTemplateAndOverrides": {"Overrides": override},
                "ErrorCode": NO_CAPACITY[0],
                "ErrorMessage": NO_CAPACITY[1],
            }
            for override in fleets[-1]["LaunchTemplateConfigs"][0]["Overrides"]
        ]
        answer = type("Answer", (), {"status_code": 200, "headers": {}, "content": b"<>"})()
        return answer, {"FleetId": "fleet-1", "Instances": [], "Errors": errors}

    session.ec2.meta.events.register("before-call.ec2.CreateFleet", without_instances)
    heard: list[Refusal] = []
    told: list[Standing] = []
    session.journal.listen(lambda change: told.append(change.standing) if change.kind == "instance" else None)

    with pytest.raises(CapacityError, match="no spot machine was available from") as caught:
        provider.renting.create(plan, refused=heard.append)

    assert [len(call["LaunchTemplateConfigs"][0]["Overrides"]) for call in fleets] == [
        len(plan.offers) - 1,
        1,
    ]
    assert fleets[0]["ClientToken"] != fleets[1]["ClientToken"]
    assert {refusal.pool for refusal in heard} == {offer.pool for offer in plan.offers}
    assert all(refusal.reason is RefusalReason.NO_CAPACITY for refusal in heard)
    assert told[-1] is Standing.REFUSED
    for offer in plan.offers:
        assert offer.pool.zone in caught.value.message
    assert templates(session) == []


@pytest.mark.parametrize(
    ("market", "pools", "fleet"),
    [
        (Market.SPOT, [("a", A), ("a", B)], True),
        (Market.SPOT, [("a", A)], False),
        (Market.ON_DEMAND, [("a", A), ("a", B)], False),
        (Market.ON_DEMAND, [("a", A), ("b", A)], True),
    ],
)
def test_a_fleet_is_for_several_pools(market: Market, pools: list[tuple[str, str]], fleet: bool) -> None:
    assert is_fleet(market, offers(*pools)) is fleet


def test_errors_beside_an_instance_do_not_hide_it() -> None:
    found = outcome_of(
        {
            "Instances": [{"InstanceIds": ["i-1"]}],
            "Errors": [
                {
                    "LaunchTemplateAndOverrides": {
                        "Overrides": {"InstanceType": "a", "SubnetId": "subnet-a"}
                    },
                    "ErrorCode": NO_CAPACITY[0],
                    "ErrorMessage": NO_CAPACITY[1],
                }
            ],
        },
        offers(("a", A), ("a", B)),
        Market.SPOT,
    )

    assert found.instance_ids == ("i-1",)
    assert [refusal.pool for refusal in found.refusals] == [Pool("a", A)]


@pytest.mark.parametrize(
    ("answers", "error", "says"),
    [
        ([NO_CAPACITY, NO_CAPACITY], CapacityError, f"a in {A} and {B}"),
        ([NO_CAPACITY, SPOT_QUOTA], CapacityError, "the quota is reached"),
        ([NO_CAPACITY, WRONG], CapacityError, "zz.nope"),
        ([SPOT_QUOTA, SPOT_QUOTA], QuotaExceeded, "Max spot instance count exceeded"),
        ([VCPUS, NOT_SOLD], QuotaExceeded, "cannot be placed there"),
        ([NOT_SOLD, NOT_SOLD], Unsupported, "not supported in your requested Availability Zone"),
        ([WRONG, WRONG], ProviderError, "zz.nope"),
        ([DENIED, DENIED], PermissionDenied, "not authorized"),
        ([], CapacityError, f"EC2 gave no reason for a in {A} and {B}"),
    ],
)
def test_the_error_is_the_one_that_something_can_be_done_about(
    answers: list[tuple[str, str]], error: type[RunctlError], says: str
) -> None:
    asked = offers(("a", A), ("a", B))
    refusals = [
        refusal_of(offer.pool, Market.SPOT, *answer)
        for offer, answer in zip(asked, answers or [], strict=False)
    ]

    found = nothing_available(Market.SPOT, asked, refusals)

    assert isinstance(found, error)
    assert isinstance(found, QuotaExceeded) is (error is QuotaExceeded)
    assert says in found.message
    assert found.hint or error is ProviderError


def test_zones_that_an_error_names_are_tried_first() -> None:
    zones = [f"us-east-1{letter}" for letter in "abcd"]
    message = f"no m7i.large capacity in ({A}). You can get it by choosing us-east-1c, {B}."

    left = zones_to_try(message, offers(*(("a", zone) for zone in zones)), {A})

    assert [offer.pool.zone for offer in left] == ["us-east-1c", B, "us-east-1d"]


def test_where_ec2_chooses_the_zone_the_others_are_tried_with_tokens_of_their_own(
    provider: AwsProvider, session: AwsSession, refuse: Refuse
) -> None:
    plan: CreatePlan = provider.renting.plan(InstanceRequest())
    calls = recorded(session, "RunInstances")
    message = f"We currently do not have sufficient capacity in ({A}). Try us-east-1c."
    refuse(session.ec2, "RunInstances", NO_CAPACITY[0], message, times=1)
    heard: list[Refusal] = []

    instance = provider.renting.create(plan, refused=heard.append)

    assert instance.zone == "us-east-1c"
    assert [refusal.pool for refusal in heard] == [Pool(plan.instance_type, A)]
    assert len({call["ClientToken"] for call in calls}) == len(calls) == 2


def test_what_a_region_sells_is_asked_for_once_however_often_a_machine_is_planned(
    provider: AwsProvider, session: AwsSession
) -> None:
    asked = recorded(session, "DescribeInstanceTypes")
    request = InstanceRequest(needs=Needs(cpus=2, memory_gib=8))

    plans = [provider.renting.plan(request) for _ in range(2)]

    assert plans[0].instance_type == plans[1].instance_type
    pages = [call for call in asked if call.get("Filters") and "NextToken" not in call]
    assert len(pages) == 1
