"""Money is ``decimal.Decimal`` in USD, never a float."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

HOURS_PER_MONTH = Decimal(730)
"""What AWS divides a monthly price by (EC2 pricing pages: 730 hours in a month)."""

_LEAST_SHOWN = Decimal("0.0001")


def usd(amount: Decimal) -> str:
    """For a person: ``$0.0123`` below a dollar, ``$12.34`` above, ``<$0.0001`` for what would round to nothing."""
    if 0 < amount < _LEAST_SHOWN:
        return f"<${_LEAST_SHOWN}"
    decimals = Decimal("0.01") if abs(amount) >= 1 or amount == 0 else Decimal("0.0001")
    return f"${amount.quantize(decimals, rounding=ROUND_HALF_EVEN)}"


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
