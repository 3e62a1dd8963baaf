"""What may be spent in a day, a week or a month, by all, for a project, by a user, and how much of it is. Pure.

What counts is what the ledger has: all that exists in the account and region now, whichever computer rented it, because
its tags tell; and of what has ended, what this computer has seen. What another computer rented and ended more than an
hour ago is on the bill alone (``runctl cost reconcile``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from runctl._dataclasses import dataclass
from runctl.core.config import BudgetConfig, BudgetLimits
from runctl.core.money import usd
from runctl.costs.billing import NOTHING, day_start, month_start
from runctl.costs.entries import EntryState
from runctl.costs.spending import Spending


class Period(StrEnum):
    """The time that a limit is for; it begins anew at its end, in UTC."""

    DAY = "day"
    WEEK = "week"
    """From Monday on."""
    MONTH = "month"

    def start(self, now: datetime) -> datetime:
        """When the period that is going on began."""
        if self is Period.MONTH:
            return month_start(now)
        today = day_start(now)
        return today if self is Period.DAY else today - timedelta(days=today.weekday())


@dataclass(frozen=True)
class Limit:
    """One limit."""

    period: Period
    usd: Decimal
    project: str | None = None
    """Of this project only."""
    user: str | None = None
    """Of this user only."""

    @property
    def of(self) -> str:
        """Whose it is, in words: ``this month``, ``this week for project digits``."""
        when = "today" if self.period is Period.DAY else f"this {self.period.value}"
        whose = f"project {self.project}" if self.project else f"user {self.user}" if self.user else ""
        return f"{when} for {whose}" if whose else when

    def counts(self, project: str | None, owner: str | None) -> bool:
        """Whether what somebody rents for a project counts."""
        if self.project is not None:
            return self.project == project
        if self.user is not None:
            return owner is not None and self.user in {owner, owner.rpartition("/")[2]}
        return True


@dataclass(frozen=True)
class BudgetUse:
    """How much of a limit is used."""

    limit: Limit
    spent: Decimal
    """USD since the period began."""
    committed: Decimal
    """What machines that were just rented are expected to cost, and have not cost yet."""

    @property
    def share(self) -> Decimal:
        """Of the limit that is spent."""
        return self.spent / self.limit.usd if self.limit.usd else Decimal(1)


@dataclass(frozen=True)
class BudgetVerdict:
    """What the limits say about renting something."""

    exceeded: tuple[str, ...] = ()
    """A sentence for each limit that it would go beyond."""
    warnings: tuple[str, ...] = ()
    """A sentence for each limit of which much is used."""
    uses: tuple[BudgetUse, ...] = field(default=(), repr=False)


def limits_of(budget: BudgetConfig) -> tuple[Limit, ...]:
    """Each limit that the configuration sets."""

    def each(
        limits: BudgetConfig | BudgetLimits, project: str | None = None, user: str | None = None
    ) -> list[Limit]:
        amounts = {Period.DAY: limits.day, Period.WEEK: limits.week, Period.MONTH: limits.month}
        return [
            Limit(period, amount, project, user) for period, amount in amounts.items() if amount is not None
        ]

    found = each(budget)
    for name, limits in budget.project.items():
        found += each(limits, project=name)
    for name, limits in budget.user.items():
        found += each(limits, user=name)
    return tuple(found)


def use(
    limits: Sequence[Limit], spendings: Mapping[Period, Spending], now: datetime
) -> tuple[BudgetUse, ...]:
    """How much of each limit is used, by what was spent in each of `periods`."""
    found = []
    for limit in limits:
        spending = spendings[limit.period]
        committed = NOTHING
        for entry in spending.entries:
            goes_on = entry.state is EntryState.INTENDED or entry.current is not None
            if entry.expected is not None and goes_on and limit.counts(entry.project, entry.owner):
                committed += max(entry.expected - entry.cost(now), NOTHING)
        found.append(BudgetUse(limit, spending.usd(now, limit.counts), committed))
    return tuple(found)


def periods(limits: Iterable[Limit]) -> tuple[Period, ...]:
    """Those that the limits are for."""
    return tuple(dict.fromkeys(limit.period for limit in limits))


def judge(
    uses: Sequence[BudgetUse],
    expected: Decimal | None,
    project: str | None,
    owner: str | None,
    warn_at: Decimal,
) -> BudgetVerdict:
    """Whether something that is expected to cost so much may be rented for a project by somebody.

    A limit is exceeded where what is spent, what was just rented and this go beyond it together. Of what no price is
    known, only what is spent already counts.
    """
    exceeded, warnings = [], []
    for each in uses:
        limit = each.limit
        if not limit.counts(project, owner):
            continue
        more = expected or NOTHING
        after = each.spent + each.committed + more
        told = f"{usd(each.spent)} of {usd(limit.usd)} are spent {limit.of}"
        if after > limit.usd or each.spent >= limit.usd:
            pending = (
                f", {usd(each.committed)} are expected of what was just rented" if each.committed else ""
            )
            exceeded.append(f"{told}{pending}, and this is expected to cost {usd(more)}")
        elif after >= limit.usd * warn_at:
            warnings.append(told)
    return BudgetVerdict(tuple(exceeded), tuple(warnings), tuple(uses))
