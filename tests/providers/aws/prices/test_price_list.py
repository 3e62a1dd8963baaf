"""What the price list is asked for, and what its documents are taken to say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from runctl.costs.rates import Tier
from runctl.providers.aws.prices.items import Item
from runctl.providers.aws.prices.price_list import GROUP_OF, Group, machine_prices, questions, rates_in

Tiers = Sequence[tuple[str, str]]


def document(
    service: str, usage: str, unit: str, tiers: Tiers, currency: str = "USD", **attributes: str
) -> str:
    """As ``GetProducts`` has it."""
    dimensions = {
        str(number): {"unit": unit, "beginRange": start, "pricePerUnit": {currency: usd}}
        for number, (start, usd) in enumerate(tiers)
    }
    return json.dumps(
        {
            "product": {"attributes": {"usagetype": usage, **attributes}},
            "serviceCode": service,
            "terms": {"OnDemand": {"x": {"priceDimensions": dimensions}}},
        }
    )


def flat(*tiers: tuple[int, str]) -> tuple[Tier, ...]:
    return tuple(Tier(Decimal(start), Decimal(usd)) for start, usd in tiers)


@pytest.mark.parametrize(
    ("service", "usage", "unit", "tiers", "item", "expected"),
    [
        ("AmazonEC2", "EBS:VolumeUsage.gp3", "GB-Mo", [("0", "0.0800000000")], Item.GP3, [(0, "0.08")]),
        ("AmazonEC2", "EUC1-EBS:VolumeUsage.piops", "GB-Mo", [("0", "0.149")], Item.IO1, [(0, "0.149")]),
        ("AmazonEC2", "APN1-EBS:VolumeUsage", "GB-Mo", [("0", "0.08")], Item.STANDARD, [(0, "0.08")]),
        (
            "AmazonEC2",
            "EU-EBS:VolumeP-IOPS.gp3",
            "IOPS-Mo",
            [("0", "0.0055")],
            Item.GP3_IOPS,
            [(0, "0"), (3000, "0.0055")],
        ),
        # The list has the throughput by the GiB/s.
        (
            "AmazonEC2",
            "EBS:VolumeP-Throughput.gp3",
            "GiBps-mo",
            [("0", "40.9600000000")],
            Item.GP3_THROUGHPUT,
            [(0, "0"), (125, "0.04")],
        ),
        (
            "AmazonVPC",
            "USE1-PublicIPv4:InUseAddress",
            "Hrs",
            [("0", "0.005")],
            Item.PUBLIC_IPV4,
            [(0, "0.005")],
        ),
        # By the request; we plan by the thousand.
        ("AmazonS3", "Requests-Tier1", "Requests", [("0", "0.0000050000")], Item.S3_WRITES, [(0, "0.005")]),
        (
            "AmazonS3",
            "USW2-TimedStorage-ByteHrs",
            "GB-Mo",
            [("512000", "0.021"), ("0", "0.023"), ("51200", "0.022")],
            Item.S3_STORAGE,
            [(0, "0.023"), (51200, "0.022"), (512000, "0.021")],
        ),
        ("AmazonECR", "USW2-TimedStorage-ByteHrs", "GB-Mo", [("0", "0.10")], Item.ECR_STORAGE, [(0, "0.10")]),
        (
            "AWSDataTransfer",
            "USE2-DataTransfer-Out-Bytes",
            "GB",
            [("0", "0.09"), ("10240", "0.085")],
            Item.DATA_OUT,
            [(0, "0"), (100, "0.09"), (10240, "0.085")],
        ),
    ],
)
def test_a_product_is_read_by_its_usage_type_in_any_region(
    service: str, usage: str, unit: str, tiers: Tiers, item: Item, expected: list[tuple[int, str]]
) -> None:
    assert rates_in([document(service, usage, unit, tiers)]) == {item: flat(*expected)}


def test_io2s_three_products_are_one_rate_with_three_tiers() -> None:
    usages = {".tier2": "0.0455", "": "0.065", ".tier3": "0.03185"}
    found = rates_in(
        document("AmazonEC2", f"EBS:VolumeP-IOPS.io2{suffix}", "IOPS-Mo", [("0", usd)])
        for suffix, usd in usages.items()
    )

    assert found == {Item.IO2_IOPS: flat((0, "0.065"), (32000, "0.0455"), (64000, "0.03185"))}


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        document("AmazonEC2", "EBS:SnapshotArchiveStorage", "GB-Mo", [("0", "0.0125")]),
        document("AmazonVPC", "PublicIPv4:ContiguousBlock", "Hrs", [("0", "0.008")]),
        document("AmazonEC2", "EBS:SnapshotUsage.outposts", "GB-Mo", [("0", "0.05")]),
        document("AmazonEC2", "EBS:VolumeUsage.gp3", "GB-Mo", [("0", "1")], currency="CNY"),
        document("AmazonEC2", "EBS:VolumeUsage.gp3", "GB-Mo", [("0", "NaN")]),
    ],
)
def test_what_is_something_else_or_has_no_price_in_dollars_is_left_out(text: str) -> None:
    assert rates_in([text]) == {}


def machine(usd: str, unit: str = "Hrs", currency: str = "USD", **attributes: str) -> str:
    attributes = {"regionCode": "us-east-1", "locationType": "AWS Region", **attributes}
    return document("AmazonEC2", "BoxUsage:m7i.large", unit, [("0", usd)], currency, **attributes)


def test_a_machine_has_a_price_in_each_region_that_sells_it() -> None:
    documents = [machine("0.1008000000"), machine("0.1120000000", regionCode="eu-west-1")]

    assert machine_prices(documents) == {"us-east-1": Decimal("0.1008"), "eu-west-1": Decimal("0.112")}


@pytest.mark.parametrize(
    "text",
    [
        machine("0.0000000000"),
        machine("1", "Quantity"),
        machine("1", currency="CNY"),
        machine("0.2", locationType="AWS Local Zone"),
        "{}",
    ],
)
def test_what_is_no_hourly_price_of_a_region_in_dollars_is_left_out(text: str) -> None:
    assert machine_prices([text]) == {}


def test_every_item_is_asked_for_with_one_group_and_every_question_names_the_region() -> None:
    assert set(GROUP_OF) == set(Item)
    asked: list[Any] = [each for group in Group for each in questions(group, "eu-west-1")]
    assert all("eu-west-1" in each.attributes.values() for each in asked)
    assert len({(each.service, *sorted(each.attributes.items())) for each in asked}) == len(asked)
