"""What ran in the sandbox is billed as AWS would, from the second that it began to the second that it ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from unittest.mock import patch

import pytest

from runctl.sandbox.prices.meter import Meter

START = datetime(2026, 6, 30, 22, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass
class Thing:
    """What the meter reads of moto's objects."""

    id: str
    instance_type: str = "g4dn.xlarge"
    availability_zone: str = "us-east-1a"
    lifecycle: str | None = None
    shape: Any = None
    tags: dict[str, str] = field(default_factory=lambda: {"runctl:managed": "true"})

    def get_tags(self) -> list[dict[str, str]]:
        return [{"key": key, "value": value} for key, value in self.tags.items()]


@dataclass
class Shape:
    volume_type: str
    size: int
    iops: int | None = None
    throughput: int | None = None


class Time:
    """Moved by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def time() -> Iterator[Time]:
    time = Time()
    with patch("runctl.sandbox.prices.meter.now", time):
        yield time


def billed(meter: Meter) -> dict[str, dict[str, Decimal]]:
    days = meter.days(START - timedelta(days=40), START + timedelta(days=60), bool)
    places = Decimal("0.000001")
    return {
        day: {
            usage: (Decimal(usd.numerator) / usd.denominator).quantize(places) for usage, usd in found.items()
        }
        for day, found in days.items()
    }


def test_a_machine_is_billed_by_the_second_with_its_address_on_each_of_its_days(time: Time) -> None:
    meter, machine = Meter(), Thing("i-1")
    meter.instance(machine, "us-east-1")
    time.now = START + 3 * HOUR
    meter.end(machine)
    time.now = START + 30 * HOUR
    assert billed(meter) == {
        "2026-06-30": {
            "BoxUsage:g4dn.xlarge": Decimal("1.052"),
            "USE1-PublicIPv4:InUseAddress": Decimal("0.01"),
        },
        "2026-07-01": {
            "BoxUsage:g4dn.xlarge": Decimal("0.526"),
            "USE1-PublicIPv4:InUseAddress": Decimal("0.005"),
        },
    }


def test_a_short_life_is_billed_as_a_minute_and_each_start_anew(time: Time) -> None:
    meter, machine = Meter(), Thing("i-1")
    for _ in range(2):
        meter.instance(machine, "us-east-1")
        time.now += timedelta(seconds=5)
        meter.end(machine)
    assert billed(meter)["2026-06-30"]["BoxUsage:g4dn.xlarge"] == Decimal("0.017533")  # 2 x 0.526 / 60


def test_a_spot_machine_that_is_taken_back_in_its_first_hour_is_free_but_for_its_address(time: Time) -> None:
    meter, machine = Meter(), Thing("i-1", lifecycle="spot")
    meter.instance(machine, "us-east-1")
    time.now += HOUR / 2
    meter.end(machine, taken_back=True)
    assert list(billed(meter)["2026-06-30"]) == ["USE1-PublicIPv4:InUseAddress"]


def test_a_spot_machine_is_billed_at_the_price_that_its_hours_began_with(time: Time) -> None:
    meter, machine = Meter(), Thing("i-1", lifecycle="spot")
    prices = {START: Decimal("0.30"), START + HOUR: Decimal("0.90")}
    with patch(
        "runctl.sandbox.prices.spot_prices.spot_price", lambda kind, region, zone, moment: prices[moment]
    ):
        meter.instance(machine, "us-east-1")
        time.now += HOUR * 3 / 2
        meter.end(machine)
        assert billed(meter)["2026-06-30"]["SpotUsage:g4dn.xlarge"] == Decimal("0.75")


def test_a_volume_is_billed_by_the_length_of_the_month_and_for_what_is_above_its_type(time: Time) -> None:
    meter, volume = Meter(), Thing("vol-1", shape=Shape("gp3", 100, 4000, 125))
    meter.volume(volume, "us-east-1")
    time.now = START + 26 * HOUR
    meter.end(volume)
    found = billed(meter)
    assert found["2026-06-30"]["EBS:VolumeUsage.gp3"] == Decimal("0.022222")  # 8 x 2 / 720
    assert found["2026-07-01"]["EBS:VolumeUsage.gp3"] == Decimal("0.258065")  # 8 / 31
    assert found["2026-07-01"]["EBS:VolumeP-IOPS.gp3"] == Decimal("0.16129")  # 1,000 x 0.005 / 31


def test_a_volume_that_is_resized_has_no_second_minute(time: Time) -> None:
    meter, volume = Meter(), Thing("vol-1", shape=Shape("gp3", 100))
    meter.volume(volume, "us-east-1")
    time.now += HOUR
    volume.shape = Shape("gp3", 200)
    meter.volume(volume, "us-east-1")
    time.now += timedelta(seconds=1)
    meter.end(volume)
    # 8 x 3,600 s and 16 x 1 s of a month of 30 days
    assert billed(meter)["2026-06-30"]["EBS:VolumeUsage.gp3"] == Decimal("0.011117")


def test_only_what_has_the_tag_is_counted_also_when_it_is_gone(time: Time) -> None:
    meter, ours, other = Meter(), Thing("snap-1"), Thing("snap-2", tags={})
    for snapshot in (ours, other):
        meter.snapshot(snapshot, "us-east-1", Fraction(10))
    time.now += HOUR
    meter.end(ours)
    ours.tags.clear()
    # 10 GiB at 0.05, an hour of 720
    assert billed(meter) == {"2026-06-30": {"EBS:SnapshotUsage": Decimal("0.000694")}}
