"""A row says all of its type: what can be chosen has a price item of its own, and what is offered has a price."""

from __future__ import annotations

import pytest

from runctl.providers.aws.ebs.type_table import TYPES, DiskType
from runctl.providers.aws.plugin import plugin
from runctl.providers.aws.prices.price_list import GROUP_OF, Group
from runctl.providers.aws.prices.shipped import shipped_rates
from runctl.providers.aws.terraform.machines import PROVISIONED

ROWS = pytest.mark.parametrize(("name", "disk"), TYPES.items(), ids=TYPES)


@ROWS
def test_what_can_be_chosen_has_a_price_item_and_nothing_else_has(name: str, disk: DiskType) -> None:
    assert (disk.iops is None, disk.throughput is None) == (
        disk.iops_price is None,
        disk.throughput_price is None,
    )
    assert disk.iops is not None or (not disk.iops_needed and not disk.iops_per_gib and not disk.iops_tiers)


@ROWS
def test_the_price_list_is_asked_and_prices_are_shipped_for_each_item(name: str, disk: DiskType) -> None:
    items = [item for item in (disk.storage, disk.iops_price, disk.throughput_price) if item is not None]

    assert {GROUP_OF[item] for item in items} == {Group.EBS}
    assert all(shipped_rates("us-east-1").first(item) is not None for item in items)


def test_no_two_types_are_billed_by_the_same_item() -> None:
    items = [
        item
        for disk in TYPES.values()
        for item in (disk.storage, disk.iops_price, disk.throughput_price)
        if item is not None
    ]

    assert len(items) == len(set(items))


def test_who_else_knows_types_has_them_from_the_table() -> None:
    assert plugin.volumes is not None
    assert plugin.volumes.types == ("gp3", "gp2", "io2", "io1", "st1", "sc1")
    assert plugin.volumes.shareable == ("io2", "io1")
    assert {"gp3", "io1", "io2"} == PROVISIONED
