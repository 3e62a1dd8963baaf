"""Rates as tests state them: a price and its source, of one day."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from runctl.costs.rates import Per, Rate

DAY = datetime(2026, 5, 1, 12, tzinfo=UTC)


def hourly(usd: Decimal | str | int, source: str = "a test") -> Rate:
    """An hour of a machine, as of now."""
    return Rate(Decimal(usd), Per.HOUR, DAY, source)


def monthly(usd: Decimal | str | int, source: str = "a test", *, current: bool = False) -> Rate:
    """A month of a volume; of a list that is shipped, unless it is said to be current."""
    return Rate(Decimal(usd), Per.MONTH, DAY, source, current)
