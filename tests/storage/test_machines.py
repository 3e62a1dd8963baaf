"""Which machine fills a volume, how long it takes, and whether reading is worth it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.providers.abilities.filling import MachineSpeed, VolumeOrigin
from runctl.runs.filling.plan import LONGEST_TTL, SHORTEST_TTL, default_ttl
from runctl.storage.initialising import Way, decide
from runctl.storage.machines import BOOT_SECONDS, MIB, PATIENCE, Estimate, choose, estimate
from runctl.storage.pace import Pace
from tests.rates import hourly

GIB = 1 << 30
SMALL = MachineSpeed("small", 80, 30, hourly("0.04", "list"))
LARGE = MachineSpeed("large", 600, 800, hourly("0.40", "list"))
UNPRICED = MachineSpeed("unpriced", 10_000, 10_000, None)


def test_the_slowest_part_bounds_the_rate_and_reading_needs_no_network() -> None:
    filling = estimate(125, SMALL, 30 * 60 * MIB, rented=True)
    reading = estimate(125, SMALL, 80 * 60 * MIB, rented=False, network=False)

    assert (filling.mibps, filling.bound, filling.seconds) == (
        30.0,
        "the network of small",
        60.0 + BOOT_SECONDS,
    )
    assert filling.usd == Decimal("0.04") * (60 + BOOT_SECONDS) / 3600
    assert (reading.mibps, reading.seconds, reading.usd) == (80.0, 60.0, Decimal(0))


def test_little_data_takes_the_small_machine_and_much_the_large_one() -> None:
    assert choose([SMALL, LARGE], 500, 10 * MIB).offer is SMALL
    assert choose([SMALL, LARGE], 500, 1000 * GIB).offer is LARGE
    assert choose([SMALL], 500, 1000 * GIB).offer is SMALL
    assert choose([UNPRICED], 500, GIB).estimate.usd is None


speeds = st.builds(
    MachineSpeed,
    st.text(min_size=1, max_size=3),
    st.floats(1, 5000),
    st.floats(1, 5000),
    st.integers(1, 500).map(lambda cents: hourly(Decimal(cents) / 100, "list")),
)


@given(st.lists(speeds, min_size=1, max_size=8), st.floats(1, 5000), st.integers(0, 1 << 45))
def test_the_choice_is_never_much_slower_nor_dearer_than_another_as_fast(
    offers: list[MachineSpeed], volume: float, size: int
) -> None:
    best = choose(offers, volume, size).estimate
    others = [estimate(volume, offer, size, rented=True) for offer in offers]

    assert best.seconds <= min(other.seconds for other in others) * PATIENCE
    for other in others:
        assert other.seconds > best.seconds or (other.usd or 0) >= (best.usd or 0)


READING = Estimate(100, "x", 1000, Decimal("0.02"))


@pytest.mark.parametrize(
    ("origin", "way"),
    [
        (VolumeOrigin("snap-1", None, complete=True, progress=100, remaining_seconds=None), Way.DONE),
        (VolumeOrigin("snap-1", None, complete=False, progress=10, remaining_seconds=None), Way.READ),
        (VolumeOrigin("snap-1", 300, complete=False, progress=10, remaining_seconds=2000), Way.WAIT),
        (VolumeOrigin("snap-1", 300, complete=False, progress=10, remaining_seconds=2001), Way.READ),
        (VolumeOrigin("snap-1", 100, complete=False, progress=50, remaining_seconds=None), Way.WAIT),
    ],
)
def test_a_paid_rate_is_waited_for_unless_reading_is_much_faster(origin: VolumeOrigin, way: Way) -> None:
    assert decide(origin, 100 * GIB, READING).way is way


def test_what_was_weighed_is_said_with_time_and_price() -> None:
    price = hourly("0.36", "list")
    origin = VolumeOrigin("snap-1", None, False, 0, None, rate_price=price, rate_seconds=342)

    decision = decide(origin, 100 * GIB, READING)

    assert decision.considered == (
        "reading every block: at least 16m, $0.0200",
        "a new volume from the snapshot with the highest initialisation rate: about 5m, $0.3600",
    )


def test_a_helper_ends_itself_within_bounds() -> None:
    assert default_ttl(1) == SHORTEST_TTL
    assert default_ttl(3600).total_seconds() == 3 * 3600 + 1800
    assert default_ttl(1e9) == LONGEST_TTL


def test_the_pace_is_that_of_the_last_seconds() -> None:
    pace = Pace()
    assert (pace.bytes_per_second, pace.seconds_left) == (None, None)
    for seconds, moved in ((1, 1000), (11, 2000), (21, 3000), (31, 13_000)):
        pace.take(
            {
                "bytes": moved,
                "of_bytes": 23_000,
                "moved": moved,
                "seconds": seconds,
                "files": 1,
                "of_files": 2,
            }
        )

    assert pace.bytes_per_second == (13_000 - 2000) / 20
    assert pace.seconds_left == 10_000 / 550
    assert (pace.files, pace.of_files) == (1, 2)
