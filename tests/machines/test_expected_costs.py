"""What a planned machine comes to, against sums made by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from runctl.core.machine_models import Market
from runctl.machines.expected_costs import Expected, estimate_warning, expected_costs, expected_nodes_costs
from runctl.machines.node_volumes import NodeVolume, Sharing
from runctl.machines.nodes import NodeGroupPlan
from runctl.providers.abilities.nodes import NodesPlan
from runctl.providers.instance_plans import CreatePlan, InstanceRequest, VolumeMount
from tests.cli.fake_provider import a_plan, a_volume
from tests.rates import hourly, monthly

REQUEST = InstanceRequest(volumes=(VolumeMount("vol-1", "/mnt/data"),), data_volume_size_gib=100)
PLAN: CreatePlan = a_plan(
    REQUEST,
    price=hourly("1.006"),
    volume_prices={"root": monthly("8.76"), "data": monthly("7.30"), "vol-1": monthly("14.60")},
    address_price=hourly("0.005"),
)


def test_an_hour_is_the_machine_its_disks_its_volumes_and_its_address() -> None:
    costs = expected_costs(PLAN)

    # 16.06 and 14.60 a month are 0.022 and 0.020 an hour.
    assert costs.per_hour == Decimal("1.053")
    assert (costs.disks_per_month, costs.volumes_per_month) == (Decimal("16.06"), Decimal("14.60"))
    assert costs.address_per_hour == Decimal("0.005")
    assert costs.expected is None


@pytest.mark.parametrize(
    ("hours", "ttl", "at_most"),
    [(8, None, False), (8, 12, False), (12, 12, True), (24, 12, True), (None, 12, True)],
)
def test_what_ends_itself_then_costs_that_at_most(hours: int | None, ttl: int | None, at_most: bool) -> None:
    plan = replace(PLAN, ttl=timedelta(hours=ttl) if ttl else None)

    expected = expected_costs(plan, timedelta(hours=hours) if hours else None).expected

    assert expected is not None
    assert expected.duration == timedelta(hours=min(filter(None, (hours, ttl))))
    assert expected.at_most is at_most


def test_what_is_stopped_costs_its_disks_and_a_spot_machine_cannot_be() -> None:
    assert expected_costs(PLAN).stopped_per_month == Decimal("30.66")
    assert expected_costs(replace(PLAN, market=Market.SPOT)).stopped_per_month is None


def test_an_estimate_is_a_total_and_a_time_to_live_is_a_limit() -> None:
    limited = replace(PLAN, ttl=timedelta(hours=12))

    assert expected_costs(limited, timedelta(hours=8)).expected == Expected(
        timedelta(hours=8), Decimal("8.424"), at_most=False
    )
    assert expected_costs(limited).expected == Expected(timedelta(hours=12), Decimal("12.636"), at_most=True)


def test_a_budget_speaks_for_itself() -> None:
    plan = replace(PLAN, ttl=timedelta(hours=12), budget=Decimal(5), budget_time=timedelta(hours=4))

    assert expected_costs(plan).expected is None


def test_nothing_is_expected_for_longer_than_the_machine_lives() -> None:
    day = timedelta(hours=24)
    to_live = replace(PLAN, ttl=timedelta(hours=12))
    paid = replace(to_live, budget=Decimal(5), budget_time=timedelta(hours=4))

    assert expected_costs(to_live, day).expected == Expected(
        timedelta(hours=12), Decimal("12.636"), at_most=True
    )
    assert expected_costs(paid, day).expected == Expected(timedelta(hours=4), Decimal("4.212"), at_most=True)


def test_whoever_expects_more_than_the_limits_leave_is_warned() -> None:
    day, half = timedelta(hours=24), timedelta(hours=12)
    to_live = replace(PLAN, ttl=half)
    paid = replace(to_live, budget=Decimal(5), budget_time=timedelta(hours=4))
    begins = "it is to take 1d0h (--estimate), and is ended after"

    assert estimate_warning(to_live, day) == f"{begins} 12h00m (--ttl)"
    assert estimate_warning(paid, day, timedelta(hours=6)) == f"{begins} 4h00m (--budget)"
    assert estimate_warning(PLAN, day, half) == f"{begins} 12h00m (--timeout)"
    assert [
        estimate_warning(to_live, half),
        estimate_warning(to_live, None),
        estimate_warning(PLAN, day),
    ] == [None] * 3


def test_without_a_price_nothing_is_added_up() -> None:
    costs = expected_costs(replace(PLAN, price=None), timedelta(hours=1))

    assert (costs.per_hour, costs.expected) == (None, None)


def test_several_machines_cost_each_its_own_and_what_is_brought_once() -> None:
    machine = replace(PLAN, ttl=timedelta(hours=10))
    data = replace(
        NodeVolume(a_volume("vol-1"), "/mnt/data", Sharing.COPIED, ""),
        copies=2,
        copy_price=monthly("14.60"),
    )
    plan = NodeGroupPlan(NodesPlan(machine, 3, 3, "network"), (data,))

    costs = expected_nodes_costs(plan)

    # Three times 1.033, and 0.020 for the volume and for each of its copies.
    assert costs.per_hour == Decimal("3.159")
    assert costs.copies_per_hour == Decimal("0.04")
    assert costs.expected == Expected(timedelta(hours=10), Decimal("31.59"), at_most=True)
    assert expected_nodes_costs(plan, timedelta(hours=2)).expected == Expected(
        timedelta(hours=2), Decimal("6.318"), at_most=False
    )
