"""Amounts as people write and read them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from runctl.core.money import parse_usd


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("25usd", "25"),
        ("25 USD", "25"),
        ("$25", "25"),
        (" 25 ", "25"),
        ("$0.5usd", "0.5"),
        (".5", "0.5"),
        ("1.", "1"),
        ("0", "0"),
    ],
)
def test_an_amount_is_read_however_it_is_written(text: str, amount: str) -> None:
    assert parse_usd(text) == Decimal(amount)


@pytest.mark.parametrize(
    "text",
    ["", "usd", "25eur", "25€", "£25", "-1usd", "1,000usd", "1_000", "1e3", "nan", "inf", "²", "25usd 3"],
)
def test_what_is_no_amount_of_us_dollars_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an amount of US dollars; write 25usd"):
        parse_usd(text)
