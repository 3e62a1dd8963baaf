"""Money is ``decimal.Decimal`` in USD, never a float."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Decimal

HOURS_PER_MONTH = Decimal(730)
"""What AWS divides a monthly price by (EC2 pricing pages: 730 hours in a month)."""

_LEAST_SHOWN = Decimal("0.0001")
_DOLLARS = re.compile(r"\$?(?P<amount>[0-9]{1,12}(\.[0-9]*)?|\.[0-9]+) *(usd)?")


def parse_usd(text: str) -> Decimal:
    """An amount of US dollars as people write it: ``25usd``, ``25 USD``, ``$25``, ``25``.

    Raises `ValueError` for anything else: another currency, less than nothing, ``1,000``.
    """
    found = _DOLLARS.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is not an amount of US dollars; write 25usd")
    return Decimal(found["amount"])


def usd(amount: Decimal) -> str:
    """For a person: ``$0.0123`` below a dollar, ``$12.34`` above, ``<$0.0001`` for what would round to nothing."""
    if 0 < amount < _LEAST_SHOWN:
        return f"<${_LEAST_SHOWN}"
    decimals = Decimal("0.01") if abs(amount) >= 1 or amount == 0 else Decimal("0.0001")
    return f"${amount.quantize(decimals, rounding=ROUND_HALF_EVEN)}"


def usd_if_known(amount: Decimal | None) -> str | None:
    """As `usd`; ``None``: nobody knows."""
    return None if amount is None else usd(amount)


def hourly(amount: Decimal) -> str:
    """A price of an hour, for a person: ``$1.21 an hour``."""
    return f"{usd(amount)} an hour"


def monthly(amount: Decimal) -> str:
    """A price of a month, for a person: ``$8.00 a month``."""
    return f"{usd(amount)} a month"


def plain(amount: Decimal) -> str:
    """For JSON: a decimal string without exponent, of two to six places: ``8.00``, ``0.1578``."""
    text = format(amount.quantize(Decimal("0.000001"), rounding=ROUND_HALF_EVEN), "f")
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"
