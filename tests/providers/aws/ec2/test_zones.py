"""Volumes bind the zone, then the subnet, then what was asked for."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import product

import pytest

from runctl.core.errors import UsageError, ZoneMismatch
from runctl.providers.aws.ec2.zones import choose_zone, zone_for_volume
from runctl.providers.aws.prices.spot_history import SpotQuote

A, B = "us-east-1a", "us-east-1b"


def decide(
    volumes: tuple[tuple[str, str], ...] = (),
    asked: str | None = None,
    subnet: str | None = None,
    configured: str | None = None,
) -> str | None:
    choice = choose_zone(
        volumes=volumes, asked=asked, subnet_zone=subnet, configured=configured, region="us-east-1"
    )
    assert choice.reason
    return choice.zone


@pytest.mark.parametrize(
    ("volumes", "asked", "subnet", "configured", "zone"),
    [
        ((), None, None, None, None),
        ((), None, None, B, B),
        ((), A, None, B, A),
        ((), None, A, B, A),
        ((("vol-1", A),), None, None, None, A),
        ((("vol-1", A), ("vol-2", A)), None, None, B, A),
        ((("vol-1", A),), A, A, B, A),
    ],
)
def test_the_strongest_wish_decides(
    volumes: tuple[tuple[str, str], ...],
    asked: str | None,
    subnet: str | None,
    configured: str | None,
    zone: str | None,
) -> None:
    assert decide(volumes, asked, subnet, configured) == zone


def test_whatever_is_chosen_every_volume_is_in_it() -> None:
    for first, second, asked, subnet, configured in product((A, B), (A, B), *((A, B, None),) * 3):
        volumes = (("vol-1", first), ("vol-2", second))
        try:
            chosen = decide(volumes, asked, subnet, configured)
        except (ZoneMismatch, UsageError):
            assert first != second or {asked, subnet} & {A, B} - {first}
        else:
            assert chosen == first == second


def test_volumes_in_two_zones_name_both_of_them() -> None:
    with pytest.raises(ZoneMismatch, match=f"vol-2 is in {B}.*{A}"):
        decide((("vol-1", A), ("vol-2", B)))


def test_a_zone_of_another_region_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="eu-west-1a"):
        decide(asked="eu-west-1a")


def test_a_subnet_elsewhere_than_the_zone_asked_for_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="subnet"):
        decide(asked=A, subnet=B)


def quote(zone: str, usd: str) -> SpotQuote:
    return SpotQuote("m7i.large", zone, Decimal(usd), datetime(2026, 5, 1, tzinfo=UTC))


def test_a_volume_goes_where_its_machine_is_cheapest() -> None:
    choice = zone_for_volume([A, B], [quote(A, "0.05"), quote(B, "0.04")], "m7i.large")

    assert choice.zone == B
    assert "0.04" in choice.reason


def test_local_zones_do_not_count_for_a_volume() -> None:
    assert zone_for_volume([A, B], [quote("us-east-1-atl-1a", "0.01")], "m7i.large").zone == A


def test_without_prices_a_volume_goes_to_the_first_zone() -> None:
    assert zone_for_volume([B, A], [], "m7i.large").zone == A
