"""What something costs, how that is known, and what time or quantity comes to. Pure; money is Decimal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from runctl._dataclasses import dataclass
from runctl.core.money import HOURS_PER_MONTH


class Per(StrEnum):
    """What a rate is for."""

    HOUR = "hour"
    MONTH = "month"
    GIB_MONTH = "gib-month"
    GIB = "gib"
    REQUESTS = "1000-requests"
    ONCE = "once"


@dataclass(frozen=True)
class Rate:
    """A price, and how it is known."""

    usd: Decimal
    per: Per
    as_of: datetime
    """When the provider said so. Of a list that is shipped with runctl: the day that it is of, or the earliest that it
    can be of."""
    source: str
    """In words for a person: "EC2 spot price history, 2026-05-01"."""
    current: bool = True
    """False where it may be out of date, or is another region's: a list that is shipped with runctl."""

    def times(self, quantity: Decimal | int, per: Per) -> Rate:
        """So many of it, as a rate of its own: 100 GiB at a price for a GiB-month cost so much a month."""
        return replace(self, usd=self.usd * quantity, per=per)

    def plus(self, other: Rate) -> Rate:
        """Both together: of the older day, and current only where both are."""
        older = min(self, other, key=lambda rate: rate.as_of)
        return replace(older, usd=self.usd + other.usd, current=self.current and other.current)


@dataclass(frozen=True)
class Tier:
    """A price that holds from a quantity on."""

    start: Decimal
    usd: Decimal


@dataclass(frozen=True)
class TieredRate:
    """A price that falls with the quantity within a calendar month, across everything that the account has."""

    tiers: tuple[Tier, ...]
    """By ``start``; the first begins at 0."""
    per: Per
    as_of: datetime
    source: str
    current: bool = True

    @property
    def first(self) -> Rate:
        """The price of the first paid unit: what is planned with, as the account's other use is not known."""
        usd = next((tier.usd for tier in self.tiers if tier.usd > 0), Decimal(0))
        return Rate(usd, self.per, self.as_of, self.source, self.current)

    def cost(self, quantity: Decimal, already: Decimal = Decimal(0)) -> Decimal:
        """USD for ``quantity`` more, where ``already`` was used this month."""
        total = Decimal(0)
        for index, tier in enumerate(self.tiers):
            end = self.tiers[index + 1].start if index + 1 < len(self.tiers) else None
            start = max(tier.start, already)
            until = already + quantity if end is None else min(end, already + quantity)
            total += tier.usd * max(until - start, Decimal(0))
        return total


def hours(duration: timedelta) -> Decimal:
    """The duration in hours, exactly."""
    micros = (duration.days * 86_400 + duration.seconds) * 1_000_000 + duration.microseconds
    return Decimal(micros) / 3_600_000_000


def estimate(
    price_per_hour: Decimal, duration: timedelta, monthly: Iterable[Decimal] = (), *, machines: int = 1
) -> Decimal:
    """USD for that long: the machines by the hour and the disks' share of a month (730 hours)."""
    time = hours(duration)
    return price_per_hour * time * machines + sum(monthly, Decimal(0)) * time / HOURS_PER_MONTH
