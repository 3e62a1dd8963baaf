"""Prices are quoted with their source, and a snapshot never as current."""

from __future__ import annotations

from runctl.providers.aws.prices.shipped import snapshot, snapshot_on_demand, snapshot_spot


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
        assert "shipped with runctl, 2025-08-12" in price.source
        assert "out of date" in price.source


def test_an_unknown_type_has_no_price() -> None:
    assert snapshot_on_demand("z9.huge", "us-east-1") is None
    assert snapshot_spot("g4dn.xlarge", "mars-north-1") is None
