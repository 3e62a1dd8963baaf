"""Prices are quoted with their source, and a snapshot never as current."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from runctl.providers.aws.price_data import (
    newest_spot_quotes,
    on_demand_from_price_list,
    snapshot,
    snapshot_on_demand,
    snapshot_spot,
    spot_price,
)

TODAY = datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_the_snapshot_is_complete_and_sane() -> None:
    rows = snapshot()

    assert len(rows) > 500
    for row in rows.values():
        assert row.on_demand is None or 0 < row.on_demand < 200
        assert row.spot_median is None or row.spot_min is None or row.spot_min <= row.spot_median


def test_a_price_of_the_snapshot_is_never_called_current() -> None:
    for price in (snapshot_on_demand("g4dn.xlarge", "us-east-1"), snapshot_spot("g4dn.xlarge", "us-east-1")):
        assert price is not None
        assert not price.current
        assert "snapshot" in price.source
        assert "out of date" in price.source


def test_an_unknown_type_has_no_price() -> None:
    assert snapshot_on_demand("z9.huge", "us-east-1") is None
    assert snapshot_spot("g4dn.xlarge", "mars-north-1") is None


def entry(zone: str, usd: str, hours_ago: int = 0) -> dict[str, Any]:
    return {
        "InstanceType": "m7i.large",
        "AvailabilityZone": zone,
        "SpotPrice": usd,
        "Timestamp": TODAY - timedelta(hours=hours_ago),
    }


def test_the_newest_entry_of_each_zone_counts() -> None:
    quotes = newest_spot_quotes(
        [entry("a", "0.02", 9), entry("a", "0.03"), entry("b", "0.01"), entry("c", "")]
    )

    assert {quote.zone: quote.usd for quote in quotes} == {"a": Decimal("0.03"), "b": Decimal("0.01")}


def test_a_zones_price_is_its_own() -> None:
    price = spot_price(newest_spot_quotes([entry("a", "0.03"), entry("b", "0.01")]), "b", TODAY)

    assert price is not None
    assert price.usd == Decimal("0.01")
    assert price.current
    assert "2026-05-01" in price.source


def test_while_the_zone_is_open_the_dearest_is_promised_and_the_spread_said() -> None:
    price = spot_price(newest_spot_quotes([entry("a", "0.03"), entry("b", "0.01")]), None, TODAY)

    assert price is not None
    assert price.usd == Decimal("0.03")
    assert "$0.0100 to $0.0300" in price.source


def test_a_zone_without_history_has_no_price() -> None:
    assert spot_price(newest_spot_quotes([entry("a", "0.03")]), "b", TODAY) is None


def offer(usd: str, unit: str = "Hrs", currency: str = "USD") -> str:
    return json.dumps(
        {
            "terms": {
                "OnDemand": {"x": {"priceDimensions": {"y": {"unit": unit, "pricePerUnit": {currency: usd}}}}}
            }
        }
    )


def test_the_price_list_is_read() -> None:
    price = on_demand_from_price_list([offer("0.1008000000")], TODAY)

    assert price is not None
    assert price.usd == Decimal("0.1008")
    assert price.current


@pytest.mark.parametrize(
    "document", [offer("0.0000000000"), offer("1", "Quantity"), offer("1", currency="CNY"), "{}"]
)
def test_what_is_no_hourly_price_in_dollars_is_left_out(document: str) -> None:
    assert on_demand_from_price_list([document], TODAY) is None
