"""What volumes, snapshots, objects and traffic cost, against tables made by hand from AWS's pricing pages."""

from __future__ import annotations

from decimal import Decimal

import pytest

from runctl.costs.rates import Per
from runctl.providers.abilities.volume_plans import DiskShape
from runctl.providers.aws.prices.items import Item
from runctl.providers.aws.prices.region_rates import RegionRates
from runctl.providers.aws.prices.shipped import shipped_rates

RATES = shipped_rates("us-east-1")


@pytest.mark.parametrize(
    ("shape", "usd"),
    [
        (DiskShape("gp3", 100, 3000, 125), "8"),
        # 8 for the space, 1,000 IOPS at 0.005, 875 MiB/s at 0.04.
        (DiskShape("gp3", 100, 4000, 1000), "48"),
        (DiskShape("gp3", 65536, 80000, 2000), "5702.88"),
        (DiskShape("gp2", 100, 300, None), "10"),
        (DiskShape("io1", 100, 5000, None), "337.5"),
        # 12.50 for the space, 32,000 IOPS at 0.065, 8,000 at 0.0455.
        (DiskShape("io2", 100, 40000, None), "2456.5"),
        # All three tiers: 2,080 and 1,456 and 36,000 at 0.03185.
        (DiskShape("io2", 100, 100000, None), "4695.1"),
        (DiskShape("st1", 500, None, None), "22.5"),
        (DiskShape("sc1", 500, None, None), "7.5"),
        (DiskShape("standard", 10, None, None), "0.5"),
    ],
)
def test_a_volume_costs_what_the_pricing_page_says(shape: DiskShape, usd: str) -> None:
    price = RATES.volume(shape)

    assert price is not None
    assert (price.usd, price.per) == (Decimal(usd), Per.MONTH)


def test_a_type_that_nobody_knows_has_no_price() -> None:
    assert RATES.volume(DiskShape("gp9", 1, None, None)) is None


def test_a_price_of_which_a_part_is_missing_is_not_known() -> None:
    only_space = RegionRates("us-east-1", {Item.GP3: RATES.rates[Item.GP3]})

    assert only_space.volume(DiskShape("gp3", 1, 3000, 125)) is None


def test_a_snapshot_costs_what_it_stores() -> None:
    price = RATES.snapshot(40)

    assert price is not None
    assert (price.usd, price.per) == (Decimal("2.00"), Per.MONTH)


@pytest.mark.parametrize(
    ("item", "quantity", "usd"),
    [
        (Item.DATA_OUT, 100, "0"),
        (Item.DATA_OUT, 150, "4.50"),
        # 10,140 GiB at 0.09 and 40,960 at 0.085 and 100 at 0.07.
        (Item.DATA_OUT, 51300, "4401.20"),
        (Item.S3_STORAGE, 1000, "23.000"),
        # 51,200 GiB at 0.023 and 800 at 0.022.
        (Item.S3_STORAGE, 52000, "1195.2"),
        (Item.ECR_STORAGE, 50, "5"),
        (Item.PUBLIC_IPV4, 730, "3.65"),
    ],
)
def test_what_costs_less_in_large_quantities_is_summed_by_tier(item: Item, quantity: int, usd: str) -> None:
    assert RATES.rates[item].cost(Decimal(quantity)) == Decimal(usd)


def test_what_was_used_already_this_month_counts_for_the_tier() -> None:
    out = RATES.rates[Item.DATA_OUT]

    assert out.cost(Decimal(50), already=Decimal(80)) == Decimal("2.70")
    assert out.first.usd == Decimal("0.09")


def test_another_regions_price_says_that_it_is_not_that_regions_own() -> None:
    price = shipped_rates("eu-west-1").volume(DiskShape("gp3", 1, 3000, 125))

    assert price is not None
    assert not price.current
    assert "us-east-1's" in price.source
    assert "2026-09-24" in price.source
    assert "eu-west-1 may differ" in price.source
