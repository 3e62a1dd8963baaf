"""Spot prices as a table and as a picture."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from runctl.core.errors import UsageError
from runctl.machines.pool_record import PoolSummary
from runctl.machines.spot_market import PoolAdvice, PoolPrices
from runctl.providers.abilities.prices import PricePoint
from runctl.providers.capacity import Pool
from runctl.render.spot import advice_table, draw_prices, prices_table

NOW = datetime(2026, 5, 1, tzinfo=UTC)
POOL = Pool("g5.xlarge", "us-east-1b")


def prices(on_demand: Decimal | None = Decimal("1.00")) -> PoolPrices:
    history = tuple(
        PricePoint(POOL, Decimal(f"0.{number}"), NOW - number * timedelta(days=1)) for number in (5, 4)
    )
    return PoolPrices(
        POOL, Decimal("0.4"), Decimal("0.4"), Decimal("0.42"), Decimal("0.5"), 1, on_demand, history
    )


def test_a_pool_is_a_line_with_what_it_saves() -> None:
    assert "60 %" in prices_table([prices()])
    assert prices_table([prices(None)]).split()[-2:] == ["-", "-"]


def test_advice_says_how_long_ago_a_pool_refused() -> None:
    seen = PoolSummary(3, 2, 1, NOW - timedelta(minutes=5), NOW - timedelta(hours=3), timedelta(hours=12))

    text = advice_table([PoolAdvice(POOL, Decimal("0.4"), None, None, seen)], NOW)

    assert "2, 5m ago" in text
    assert "1, 3h00m ago" in text
    assert "12h00m" in text


def test_the_same_prices_give_the_same_picture_with_zones_and_on_demand(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    files = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for file in files:
        draw_prices([prices()], file, NOW)

    text = files[0].read_text()
    assert "us-east-1b" in text
    assert "g5.xlarge on demand" in text
    assert text == files[1].read_text()
    with pytest.raises(UsageError, match="does not end with"):
        draw_prices([prices()], tmp_path / "a.txt", NOW)
