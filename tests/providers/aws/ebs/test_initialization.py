"""How long volumes take to be filled from snapshots, what that costs, and which volume suits what."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.core.errors import UsageError
from runctl.providers.abilities.volume_plans import PURPOSES, DiskShape
from runctl.providers.aws.ebs.initialization import initialization
from runctl.providers.aws.ebs.purposes import suggest
from runctl.providers.aws.ebs.types import checked_multi_attach, checked_shape, shape_from_text, shape_text
from runctl.providers.aws.prices.shipped import shipped_rates

RATES = shipped_rates("us-east-1")


def test_the_rate_promises_a_time_for_a_price() -> None:
    # 250 GiB at 200 MiB/s: 1,280 s, and $0.000012 for each GiB and MiB/s.
    filling = initialization(200, Decimal(250), 500, shipped_rates("us-east-1"))
    assert filling.takes == timedelta(seconds=1280)
    assert filling.price is not None
    assert (filling.price.usd, filling.estimated) == (Decimal("0.6"), False)


def test_what_ec2_does_not_say_is_at_most_the_volume() -> None:
    filling = initialization(300, None, 100, shipped_rates("eu-west-1"))
    assert (filling.data_gib, filling.estimated) == (Decimal(100), True)
    assert filling.price is not None
    assert "eu-west-1 may differ" in filling.price.source


def test_without_a_rate_nothing_is_promised_or_paid() -> None:
    filling = initialization(None, Decimal(10), 100, shipped_rates("us-east-1"))
    assert (filling.takes, filling.price) == (None, None)


@pytest.mark.parametrize("rate", [0, 99, 301, 10**6])
def test_a_rate_that_ec2_does_not_have_is_refused(rate: int) -> None:
    with pytest.raises(UsageError, match="100 to 300"):
        initialization(rate, None, 1, shipped_rates("us-east-1"))


@given(st.sampled_from(PURPOSES), st.integers(1, 65536))
def test_every_purpose_has_a_volume_within_the_limits_and_says_why(purpose: str, size: int) -> None:
    found = suggest(purpose, size, RATES)
    shape = checked_shape(found.type, size, found.iops, found.throughput)
    assert shape.type == found.type
    assert found.reason


@pytest.mark.parametrize(("size", "kind"), [(124, "gp3"), (125, "sc1"), (16384, "sc1"), (16385, "gp3")])
def test_an_archive_is_on_the_cheapest_disk_that_is_large_enough(size: int, kind: str) -> None:
    assert suggest("archive", size, RATES).type == kind


def test_a_small_archive_that_would_be_cheaper_larger_says_so() -> None:
    assert "--size 125" in suggest("archive", 50, RATES).reason
    assert "--size 125" not in suggest("archive", 10, RATES).reason


@given(st.sampled_from(["gp3", "gp2", "io1", "io2", "st1", "sc1"]), st.integers(125, 16384))
def test_a_shape_survives_being_a_tag(kind: str, size: int) -> None:
    shape = checked_shape(kind, size, 3000 if kind.startswith("io") else None, None)
    assert shape_from_text(shape_text(shape), size) == shape


def test_a_baseline_that_nobody_chose_is_not_remembered() -> None:
    assert shape_text(DiskShape("gp2", 100, 300, None)) == "gp2 - -"


@pytest.mark.parametrize("text", ["", "gp3", "gp9 - -", "gp3 x y z", "gp3 1 2"])
def test_what_is_no_shape_is_none(text: str) -> None:
    assert shape_from_text(text, 100) is None


def test_only_provisioned_iops_can_be_shared() -> None:
    checked_multi_attach("io2")
    with pytest.raises(UsageError, match="gp3"):
        checked_multi_attach("gp3")
