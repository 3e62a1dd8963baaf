"""What something costs, and what a run costs with it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from runctl.core.money import HOURS_PER_MONTH


@dataclass(frozen=True)
class Price:
    """What something costs, and how we know."""

    usd: Decimal
    """Per hour for instances, per month for volumes."""
    source: str
    """In words for a person: "spot price history, 2026-05-01", "snapshot of 2025-…, may be out of date"."""
    current: bool
    """False for a snapshot shipped with runctl."""


def estimate(
    price_per_hour: Decimal, duration: timedelta, monthly: Iterable[Decimal] = (), *, machines: int = 1
) -> Decimal:
    """USD for that long: the machines by the hour and the disks' share of a month (730 hours)."""
    hours = Decimal(str(duration.total_seconds())) / 3600
    return price_per_hour * hours * machines + sum(monthly, Decimal(0)) * hours / HOURS_PER_MONTH
