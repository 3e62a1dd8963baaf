"""What the spot price history says of now, and of then."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from runctl.providers.aws.prices.spot_history import newest_spot_quotes, price_at, price_points, spot_price
from tests.rates import DAY


def entry(zone: str, usd: str, hours_ago: int = 0) -> dict[str, Any]:
    return {
        "InstanceType": "m7i.large",
        "AvailabilityZone": zone,
        "SpotPrice": usd,
        "Timestamp": DAY - timedelta(hours=hours_ago),
    }


TWO_ZONES = price_points([entry("a", "0.03"), entry("b", "0.01")])


def test_the_newest_entry_of_each_zone_counts() -> None:
    points = price_points([entry("a", "0.02", 9), entry("a", "0.03"), entry("b", "0.01"), entry("c", "")])

    quotes = newest_spot_quotes(points)

    assert {quote.zone: quote.usd for quote in quotes} == {"a": Decimal("0.03"), "b": Decimal("0.01")}


def test_a_zones_price_is_its_own() -> None:
    price = spot_price(newest_spot_quotes(TWO_ZONES), "b", DAY)

    assert price is not None
    assert (price.usd, price.as_of, price.current) == (Decimal("0.01"), DAY, True)
    assert "2026-05-01" in price.source


def test_while_the_zone_is_open_the_dearest_is_promised_and_the_spread_said() -> None:
    price = spot_price(newest_spot_quotes(TWO_ZONES), None, DAY)

    assert price is not None
    assert price.usd == Decimal("0.03")
    assert "$0.0100 to $0.0300" in price.source


def test_a_zone_without_history_has_no_price() -> None:
    assert spot_price(newest_spot_quotes(price_points([entry("a", "0.03")])), "b", DAY) is None


@pytest.mark.parametrize(
    ("hours_ago", "usd"), [(30, None), (24, "0.02"), (13, "0.02"), (12, "0.05"), (0, "0.03")]
)
def test_what_held_then_is_the_last_price_that_had_begun(hours_ago: int, usd: str | None) -> None:
    points = price_points([entry("a", "0.03"), entry("a", "0.05", 12), entry("a", "0.02", 24)])

    price = price_at(points, DAY - timedelta(hours=hours_ago))

    assert (None if price is None else price.usd) == (None if usd is None else Decimal(usd))
