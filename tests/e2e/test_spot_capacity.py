"""Spot capacity by the real command line: gone here, found there, gone everywhere, and what it costs without it."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from runctl.sandbox.fault_client import Faults
from tests.e2e.command_line import CommandLine

pytestmark = [pytest.mark.namespaces, pytest.mark.usefixtures("clean_account")]

CREATE = ("aws", "create", "t3.micro", "--instance-type", "t3.small", "--spot", "--no-wait")
JSON = ("--output", "json")


def left(ec2: Any) -> tuple[list[Any], list[Any]]:
    """Instances that are not over, and launch templates."""
    found = [item for group in ec2.describe_instances()["Reservations"] for item in group["Instances"]]
    over = ("shutting-down", "terminated")
    return (
        [item for item in found if item["State"]["Name"] not in over],
        ec2.describe_launch_templates()["LaunchTemplates"],
    )


def test_what_is_gone_in_one_place_is_found_in_another_and_what_is_gone_everywhere_is_said(
    runctl: CommandLine, ec2: Any, faults: Faults
) -> None:
    plan = runctl(*CREATE[:-1], "--dry-run", *JSON).ok().json
    zones = sorted({offer["pool"]["zone"] for offer in plan["offers"]})
    faults.no_capacity(instance_type="t3.micro", market="spot")
    for zone in zones[:-1]:
        faults.no_capacity(zone=zone)

    instance = runctl(*CREATE, *JSON).ok().json

    assert (instance["instance_type"], instance["zone"]) == ("t3.small", zones[-1])
    assert instance["market"] == "spot"
    faults.no_capacity(market="spot")
    refused = runctl(*CREATE, "--name", "second", *JSON)
    assert (refused.code, refused.error["code"]) == (6, "no-capacity")
    for zone in zones:
        assert refused.error["message"].count(zone) == 2
    assert "--spot-fallback" in refused.error["hint"]
    advice = runctl("aws", "spot-advice", "t3.micro", "t3.small", "m7i.large", *JSON).ok().json
    unknown = runctl("aws", "spot-advice", "nosuch", *JSON).error
    own = [row for row in advice if row["pool"]["instance_type"] == "t3.small"]
    assert sum(row["seen"]["launches"] for row in own) == 1
    assert all(row["seen"]["refusals"] >= 1 and row["score"] == 1 for row in own)
    assert advice[0]["pool"]["instance_type"] == "m7i.large", "what has refused lately comes last"
    assert unknown["code"] == "not-found"
    assert "--region" in unknown["hint"]
    running, templates = left(ec2)
    assert [item["InstanceId"] for item in running] == [instance["id"]]
    assert templates == []

    shown = runctl(*CREATE, "--name", "second", "--spot-fallback", "on-demand").ok()

    assert "rents on demand for $0.0208 an hour" in shown.err
    assert "on-demand" in shown.out


def test_what_is_needed_and_what_it_may_cost_decide_which_types_are_asked(runctl: CommandLine) -> None:
    plan = runctl("aws", "create", "--gpu", "a10g:1", "--spot", "--dry-run", *JSON).ok().json
    types = {offer["pool"]["instance_type"] for offer in plan["offers"]}
    assert "g5.xlarge" in types
    assert all(kind.startswith("g5.") for kind in types)
    prices = sorted(float(offer["price"]["usd"]) for offer in plan["offers"])
    assert prices[-1] <= 2 * prices[0] * 1.5

    limit = prices[1]
    cheap = runctl("aws", "create", "--gpu", "A10G:1", "--spot", "--max-price", limit, "--dry-run", *JSON)
    plan = cheap.ok().json
    assert [float(offer["price"]["usd"]) <= limit for offer in plan["offers"]] == [True] * len(plan["offers"])
    assert all("above the limit" in item["reason"] for item in plan["left_out"])
    nothing = runctl("aws", "create", "--gpu", "A10G", "--spot", "--max-price", "0.01", *JSON)
    assert (nothing.code, nothing.error["code"]) == (6, "too-dear")
    assert "the cheapest is g5.xlarge in us-east-1" in nothing.error["message"]


def test_a_volume_decides_the_zone_and_the_plan_says_what_that_leaves_out(runctl: CommandLine) -> None:
    runctl("aws", "ebs", "create", "--size", 1, "--name", "datasets", "--zone", "us-east-1b").ok()

    shown = runctl(*CREATE[:-1], "--ebs-volume", "datasets", "--dry-run").ok()

    assert "2 of 10 (8 left out: the volume's zone)" in shown.out


def test_a_quota_is_looked_at_before_and_bites_whoever_does_not_look(
    runctl: CommandLine, ec2: Any, faults: Faults
) -> None:
    faults.quota("g", 4, market="spot")
    both = ("aws", "create", "g5.2xlarge", "--instance-type", "g5.xlarge", "--spot", *JSON)

    plan = runctl(*both, "--dry-run").ok().json
    assert {offer["pool"]["instance_type"] for offer in plan["offers"]} == {"g5.xlarge"}
    assert "it has 8 vCPUs, and 4 of 4 are free" in plan["left_out"][0]["reason"]

    faults.quota("g", 0)
    refused = runctl(*both)
    assert (refused.code, refused.error["code"]) == (6, "quota")
    for market, code in (("spot", "MaxSpotInstanceCountExceeded"), ("on-demand", "VcpuLimitExceeded")):
        options: dict[str, Any] = (
            {"InstanceMarketOptions": {"MarketType": "spot"}} if market == "spot" else {}
        )
        with pytest.raises(ClientError, match=code):
            ec2.run_instances(
                ImageId=plan["image"], InstanceType="g5.xlarge", MinCount=1, MaxCount=1, **options
            )
