"""Disks are checked against EBS's limits before any call, and priced by what they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.core.errors import UsageError
from runctl.providers.abilities.volume_plans import DiskShape
from runctl.providers.aws.ebs.type_table import TYPES
from runctl.providers.aws.ebs.types import USUAL_TYPE, baseline_mibps, checked_shape
from runctl.providers.aws.plugin import plugin
from runctl.providers.aws.prices.items import Item
from runctl.providers.aws.prices.shipped import shipped_rates


def test_gp3_comes_with_its_included_performance() -> None:
    assert checked_shape("gp3", 1, None, None) == DiskShape("gp3", 1, 3000, 125)


def test_more_throughput_brings_the_iops_that_it_needs() -> None:
    assert checked_shape("gp3", 100, None, 1000) == DiskShape("gp3", 100, 4000, 1000)


@pytest.mark.parametrize(
    ("type_name", "size", "iops", "throughput", "said"),
    [
        ("gp3", 0, None, None, "1 to 65,536 GiB"),
        ("gp3", 65537, None, None, "1 to 65,536 GiB"),
        ("gp3", 1000, 2999, None, "3,000 to 80,000 IOPS"),
        ("gp3", 1000, 80001, None, "3,000 to 80,000 IOPS"),
        ("gp3", 1000, None, 2001, "125 to 2,000 MiB/s"),
        ("gp3", 7, 3501, None, "500 for each GiB"),
        ("gp3", 100, 3000, 1000, "4000 IOPS"),
        ("gp2", 100, 3000, None, "cannot be chosen"),
        ("st1", 124, None, None, "125 to 16,384 GiB"),
        ("io2", 10, None, None, "needs a number of IOPS"),
        ("io2", 4, 4001, None, "1000 for each GiB"),
        ("io1", 10, 501, None, "50 for each GiB"),
        ("io2", 100, 5000, 500, "throughput of an io2"),
        ("gp4", 1, None, None, "not a volume type"),
    ],
)
def test_what_ebs_would_refuse_is_refused_here_with_the_limit(
    type_name: str, size: int, iops: int | None, throughput: int | None, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        checked_shape(type_name, size, iops, throughput)


@given(
    st.sampled_from(sorted(TYPES)),
    st.integers(-5, 70000),
    st.none() | st.integers(0, 300000),
    st.none() | st.integers(0, 3000),
)
def test_a_shape_that_passes_passes_again_and_has_a_price(
    type_name: str, size: int, iops: int | None, throughput: int | None
) -> None:
    try:
        shape = checked_shape(type_name, size, iops, throughput)
    except UsageError:
        return
    assert checked_shape(shape.type, shape.size_gib, shape.iops, shape.throughput) == shape
    rates = shipped_rates("us-east-1")
    price, storage = rates.volume(shape), rates.first(Item(f"ebs-{type_name}"))
    assert price is not None
    assert storage is not None
    assert price.usd >= storage.usd * size


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (("gp3", 100, 3000, 125), 125),
        (("gp3", 100, 3000, 1000), 1000),
        (("gp2", 100, 300, None), 125),
        (("gp2", 500, 1500, None), 250),
        (("io2", 100, 64_000, None), 4000),
        (("io1", 100, 2000, None), 500),
        (("st1", 2048, None, None), 80),
        (("sc1", 2048, None, None), 24),
        (("st1", 125, None, None), 5),
        (("sc1", 16_384, None, None), 192),
        (("standard", 100, None, None), 40),
    ],
)
def test_what_a_volume_moves(shape: tuple[str, int, int | None, int | None], expected: float) -> None:
    assert baseline_mibps(DiskShape(*shape)) == expected


def test_the_commands_offer_the_types_that_there_are() -> None:
    assert plugin.volumes is not None
    offered = plugin.volumes.types
    assert offered[0] == USUAL_TYPE
    # Magnetic volumes are of the generation before: EBS keeps them for those who have them.
    assert set(offered) == set(TYPES) - {"standard"}
    assert set(plugin.volumes.shareable) == {name for name, disk in TYPES.items() if disk.multi_attach}
