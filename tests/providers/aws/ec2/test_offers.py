"""Which pools are asked, which are left out and why, and which types will do: pure decisions."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from runctl.core.errors import CapacityError, NotFound, QuotaExceeded, RunctlError, UsageError
from runctl.providers.aws.calls.errors import NotOffered
from runctl.providers.aws.ec2.images import InstanceType
from runctl.providers.aws.ec2.network import Subnet
from runctl.providers.aws.ec2.offers import TOO_DEAR, Limits, Selection, select
from runctl.providers.aws.ec2.type_choice import cheapest_types, fits
from runctl.providers.aws.ec2.zones import ZoneChoice
from runctl.providers.capacity import LeftOut, Needs, Pool
from runctl.providers.interface import Rate
from tests.rates import hourly

A, B, C = "us-east-1a", "us-east-1b", "us-east-1c"
SMALL, LARGE = "g4dn.xlarge", "g5.xlarge"
PRICES = {(SMALL, A): "0.20", (SMALL, B): "0.30", (LARGE, A): "0.50", (LARGE, B): "0.40"}
OPEN = ZoneChoice(None, "EC2 chooses")


def price(pool: Pool) -> Rate | None:
    amount = PRICES.get((pool.instance_type, pool.zone))
    return None if amount is None else hourly(amount, "a test")


def selected(**changes: Any) -> Selection:
    values: dict[str, Any] = {
        "region": "us-east-1",
        "offered": {SMALL: (A, B), LARGE: (A, B)},
        "zone": OPEN,
        "subnets": [Subnet(f"subnet-{zone[-1]}", zone, "vpc-1", public=True) for zone in (A, B)],
        "price": price,
        "limits": Limits(),
    }
    return select(**{**values, **changes})


def pools(selection: Selection) -> list[tuple[str, str]]:
    return [(offer.pool.instance_type, offer.pool.zone) for offer in selection.offers]


def test_every_type_is_asked_for_in_every_zone_that_sells_it_the_cheapest_first() -> None:
    selection = selected(offered={SMALL: (A, B), LARGE: (B,)})

    assert pools(selection) == [(SMALL, A), (SMALL, B), (LARGE, B)]
    assert [offer.subnet for offer in selection.offers] == ["subnet-a", "subnet-b", "subnet-b"]
    assert selection.left_out == ()


def test_what_is_to_be_avoided_is_asked_last() -> None:
    selection = selected(avoid=[Pool(SMALL, A)])

    assert pools(selection)[-1] == (SMALL, A)
    assert [offer.last for offer in selection.offers] == [False, False, False, True]


def test_a_price_limit_leaves_out_what_is_dearer_and_what_has_no_price() -> None:
    selection = selected(
        offered={SMALL: (A, B), LARGE: (A, B), "x.new": (A,)}, limits=Limits(Decimal("0.30"))
    )

    assert pools(selection) == [(SMALL, A), (SMALL, B)]
    dear = LeftOut(Pool(LARGE, A), "above the limit of $0.3000 an hour", price(Pool(LARGE, A)))
    assert dear in selection.left_out
    assert len(selection.left_out) == 3


def test_a_zone_that_is_decided_leaves_the_pools_of_others_out_with_the_reason() -> None:
    selection = selected(zone=ZoneChoice(B, "the volume's zone"))

    assert pools(selection) == [(SMALL, B), (LARGE, B)]
    assert set(selection.left_out) == {LeftOut(Pool(kind, A), "the volume's zone") for kind in (SMALL, LARGE)}


def test_a_zone_without_a_subnet_is_left_out() -> None:
    selection = selected(offered={SMALL: (A, C)})

    assert pools(selection) == [(SMALL, A)]
    assert selection.left_out == (LeftOut(Pool(SMALL, C), "the default VPC has no subnet there"),)


@pytest.mark.parametrize(
    ("changes", "error", "code", "says"),
    [
        ({"offered": {SMALL: ()}}, NotFound, "not-found", "us-east-1 does not offer g4dn.xlarge"),
        ({"zone": ZoneChoice(C, "asked for")}, NotOffered, "not-offered", "do not exist in us-east-1c"),
        ({"offered": {SMALL: (C,)}}, UsageError, "usage", "no subnet in us-east-1c"),
        (
            {"limits": Limits(Decimal("0.10"))},
            CapacityError,
            TOO_DEAR,
            "above the limit of \\$0.1000 an hour; the cheapest is g4dn.xlarge in us-east-1a for \\$0.2000",
        ),
        (
            {"limits": Limits(beyond_quota={SMALL: "0 of 0 vCPUs are free", LARGE: "0 of 0 vCPUs are free"})},
            QuotaExceeded,
            "quota",
            "0 of 0 vCPUs are free",
        ),
    ],
)
def test_without_any_pool_left_the_error_says_what_to_change(
    changes: dict[str, Any], error: type[RunctlError], code: str, says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        selected(**changes)

    assert caught.value.code == code
    assert caught.value.hint


def a_type(name: str = LARGE, **changes: Any) -> InstanceType:
    values: dict[str, Any] = {
        "name": name,
        "architecture": "x86_64",
        "accelerator": "nvidia",
        "spot": True,
        "vcpus": 4,
        "memory_mib": 16384,
        "gpu_name": "A10G",
        "gpu_count": 1,
        "gpu_memory_mib": 22888,
    }
    return InstanceType(**{**values, **changes})


PLAIN = {"accelerator": None, "gpu_name": None, "gpu_count": 0, "gpu_memory_mib": 0}


@pytest.mark.parametrize(
    ("needs", "changes", "will_do"),
    [
        (Needs(gpu="a10g", gpu_count=1), {}, True),
        (Needs(gpu="RTX-PRO Server 6000"), {"gpu_name": "RTX PRO Server 6000"}, True),
        (Needs(gpu="A10G", gpu_count=4), {}, False),
        (Needs(gpu="T4"), {}, False),
        (Needs(gpu_memory_gb=24), {}, True),
        (Needs(gpu_memory_gb=25), {}, False),
        (Needs(gpu_memory_gb=24), {"shares_gpu": True}, False),
        (Needs(gpu_count=1), {"name": "p3.2xlarge"}, False),
        (Needs(gpu_count=1), {"accelerator": "amd"}, False),
        (Needs(gpu="A10G", cpus=8), {}, False),
        (Needs(cpus=4, memory_gib=16), PLAIN, True),
        (Needs(cpus=4, memory_gib=17), PLAIN, False),
        (Needs(cpus=4), {}, False),
        (Needs(cpus=2), {**PLAIN, "burstable": True}, False),
        (Needs(cpus=2), {**PLAIN, "architecture": "arm64"}, False),
        (Needs(cpus=2, architecture="arm64"), {**PLAIN, "architecture": "arm64"}, True),
        (Needs(cpus=2, architecture="arm64"), PLAIN, False),
    ],
)
def test_a_type_will_do_when_it_has_at_least_what_is_needed(
    needs: Needs, changes: dict[str, Any], will_do: bool
) -> None:
    assert fits(a_type(**{"name": LARGE, **changes}), needs) is will_do


def test_of_the_types_that_will_do_none_is_twice_as_dear_as_the_cheapest() -> None:
    types = [a_type(name) for name in ("a", "b", "c", "d")]
    prices = {"a": Decimal("1.01"), "b": Decimal("0.50"), "c": Decimal("1.00")}

    assert [each.name for each in cheapest_types(types, prices)] == ["b", "c"]
    assert [each.name for each in cheapest_types(types, {})] == ["a"]
