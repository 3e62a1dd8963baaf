"""Limits count what belongs to them, from their period's first second on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import pytest

from runctl.core.config import BudgetConfig, BudgetLimits
from runctl.costs.budget import BudgetUse, Limit, Period, judge, limits_of, periods
from runctl.costs.budget import use as use_of
from runctl.costs.entries import ClosedShare, Entry, EntryState
from runctl.costs.spending import Spending
from tests.costs.entries import an_entry, at, interval

WEDNESDAY = at("2026-07-01 12:00")
ALL = Limit(Period.MONTH, Decimal(100))


@pytest.mark.parametrize(
    ("period", "start"),
    [
        (Period.DAY, "2026-07-01 00:00"),
        (Period.WEEK, "2026-06-29 00:00"),
        (Period.MONTH, "2026-07-01 00:00"),
    ],
)
def test_a_period_begins_anew_in_utc(period: Period, start: str) -> None:
    assert period.start(WEDNESDAY) == at(start)


def test_each_limit_of_the_configuration_counts() -> None:
    budget = BudgetConfig(
        day=Decimal(25),
        month=Decimal(300),
        project={"digits": BudgetLimits(month=Decimal(100))},
        user={"ada": BudgetLimits(week=Decimal(40))},
    )
    assert limits_of(budget) == (
        Limit(Period.DAY, Decimal(25)),
        Limit(Period.MONTH, Decimal(300)),
        Limit(Period.MONTH, Decimal(100), project="digits"),
        Limit(Period.WEEK, Decimal(40), user="ada"),
    )
    assert periods(limits_of(budget)) == (Period.DAY, Period.MONTH, Period.WEEK)


def use(limits: Sequence[Limit], entries: Sequence[Entry], now: datetime) -> tuple[BudgetUse, ...]:
    """Of limits by these entries."""
    return use_of(limits, {period: Spending(period.start(now), entries) for period in Period}, now)


def spent(hours: str, **changes: object) -> Entry:
    """At 1 USD an hour until noon on Wednesday."""
    start = WEDNESDAY - (at("2026-01-02") - at("2026-01-01")) * int(hours) / 24
    return an_entry("i-1", interval(start.isoformat()[:19], "2026-07-01 12:00", "1"), **changes)


def test_only_what_falls_into_the_period_is_spent() -> None:
    day, week = (
        use([Limit(period, Decimal(100))], [spent("60")], WEDNESDAY)[0]
        for period in (Period.DAY, Period.WEEK)
    )
    assert (day.spent, week.spent) == (Decimal(12), Decimal(60))


@pytest.mark.parametrize(
    ("limit", "counted"),
    [
        (Limit(Period.WEEK, Decimal(1)), "3"),
        (Limit(Period.WEEK, Decimal(1), project="digits"), "2"),
        (Limit(Period.WEEK, Decimal(1), user="ada"), "1"),
        (Limit(Period.WEEK, Decimal(1), user="arn:aws:iam::123456789012:user/ada"), "1"),
        (Limit(Period.WEEK, Decimal(1), project="other"), "0"),
    ],
)
def test_a_limit_counts_what_is_its_own(limit: Limit, counted: str) -> None:
    entries = [
        spent("1", project="digits", owner="arn:aws:iam::123456789012:user/ada"),
        spent("1", project="digits", owner="arn:aws:iam::123456789012:user/bob"),
        spent("1", project=None, owner=None),
    ]
    assert use([limit], entries, WEDNESDAY)[0].spent == Decimal(counted)


def test_what_is_over_counts_by_its_sums() -> None:
    shares = [ClosedShare("digits", "ada", Decimal(3)), ClosedShare(None, "bob", Decimal(4))]
    limits = [
        ALL,
        Limit(Period.MONTH, Decimal(9), project="digits"),
        Limit(Period.MONTH, Decimal(9), user="bob"),
    ]
    spendings = {Period.MONTH: Spending(at("2026-07-01"), [spent("2", project="digits")], shares)}
    assert [each.spent for each in use_of(limits, spendings, WEDNESDAY)] == [9, 5, 4]


def test_what_was_just_rented_counts_as_it_is_expected_until_it_has_cost_as_much() -> None:
    about_to = an_entry(None, state=EntryState.INTENDED, expected=Decimal(3))
    begun = an_entry("i-2", interval("2026-07-01 11:00", None, "1"), expected=Decimal(3))
    long_since = an_entry("i-3", interval("2026-07-01 08:00", None, "1"), expected=Decimal(3))
    over = spent("1", expected=Decimal(3))
    stopped = spent("0", expected=Decimal(3), state=EntryState.OPEN)
    (found,) = use([ALL], [about_to, begun, long_since, over, stopped], WEDNESDAY)
    assert (found.spent, found.committed) == (Decimal(6), Decimal(5))


@pytest.mark.parametrize(
    ("hours", "expected", "warns", "refuses"),
    [
        ("1", "1", False, False),
        ("79", "1", True, False),
        ("99", "1", True, False),
        ("99", "1.01", False, True),
        ("100", "0", False, True),
        ("100", None, False, True),
        ("99", None, True, False),
    ],
)
def test_much_use_is_told_and_what_goes_beyond_is_refused(
    hours: str, expected: str | None, warns: bool, refuses: bool
) -> None:
    price = None if expected is None else Decimal(expected)
    now = at("2026-07-31 12:00")
    start = at("2026-07-20")
    life = interval("2026-07-20", (start + (now - now.replace(hour=11)) * int(hours)).isoformat()[:19], "1")
    uses = use([ALL], [an_entry("i-1", life)], now)
    verdict = judge(uses, price, "digits", "ada", Decimal("0.8"))
    assert (bool(verdict.warnings), bool(verdict.exceeded)) == (warns, refuses)


def test_the_message_says_what_is_spent_of_what() -> None:
    uses = use([Limit(Period.DAY, Decimal(5), project="digits")], [spent("5", project="digits")], WEDNESDAY)
    (sentence,) = judge(uses, Decimal("0.5"), "digits", None, Decimal("0.8")).exceeded
    assert (
        sentence == "$5.00 of $5.00 are spent today for project digits, and this is expected to cost $0.5000"
    )
    assert judge(uses, Decimal("0.5"), "another", None, Decimal("0.8")).exceeded == ()
