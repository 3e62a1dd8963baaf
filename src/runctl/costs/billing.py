"""What a rented thing costs over time, exactly as a provider bills it. Pure.

An amount for a stretch of time is the difference of two accrued amounts, each of which is rounded once to a millionth
of a dollar. Whatever a life is cut into, by days, by runs or at any moment, the parts therefore add up to the whole to
the last digit, and nothing is ever negative.

Times are UTC, in which no day has other than 24 hours: daylight saving does not exist there, and a leap second is not
counted (POSIX time), nor does any provider bill it.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache

from runctl._dataclasses import dataclass
from runctl.costs.rates import Per

QUANTUM = Decimal("0.000001")
"""Accrued amounts are rounded to it: what JSON shows of an amount is all of it, so that what is shown adds up, too."""
SECOND = timedelta(seconds=1)
NOTHING = Decimal(0)


@dataclass(frozen=True)
class BillingRules:
    """How a provider bills what is rented by the hour."""

    minimum: timedelta = timedelta(0)
    """Each uninterrupted time counts as at least so long."""
    free_if_taken_back_within: timedelta = timedelta(0)
    """A spot machine that the provider takes back so soon costs nothing."""
    spot_price_holds_for: timedelta = timedelta(0)
    """The spot price at the start of each stretch of that length holds for all of it; 0: that of each moment."""
    bills_addresses: bool = False
    """A machine's public address is billed by itself; elsewhere it is part of the machine's price."""
    bills_stopped: bool = False
    """One that is stopped costs what it costs while it runs, or nobody knows that it does not."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A time during which one price held."""

    start: datetime
    end: datetime | None
    """``None``: it goes on."""
    usd: Decimal | None
    """What is paid for `per`; ``None``: no price is known, and nothing is counted."""
    per: Per = Per.HOUR
    """An hour, or a calendar month in UTC: a second of February costs more than one of March."""
    list_usd: Decimal | None = None
    """What the same costs on demand, where something else is paid."""
    continues: bool = False
    """It belongs to the same uninterrupted time as the interval before it."""


@dataclass(frozen=True)
class PriceStep:
    """A price that holds from a moment on."""

    at: datetime
    usd: Decimal


def accrued(
    intervals: Sequence[Interval],
    until: datetime,
    minimum: timedelta = timedelta(0),
    *,
    on_demand: bool = False,
) -> Decimal:
    """USD for all that was before ``until``, or would have been ``on_demand``. Never less for a later moment."""
    total = NOTHING
    for stretch in _stretches(intervals):
        if stretch[0].start >= until:
            break
        total += max(_stretch(stretch, until, on_demand), _at_least(stretch[0], minimum, on_demand))
    return total.quantize(QUANTUM, rounding=ROUND_HALF_EVEN)


def amount(
    intervals: Sequence[Interval], since: datetime, until: datetime, minimum: timedelta = timedelta(0)
) -> Decimal:
    """USD from one moment to a later one; 0 where the later one is earlier."""
    return max(accrued(intervals, until, minimum) - accrued(intervals, since, minimum), NOTHING)


def free(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """The same time, for nothing."""
    return tuple(replace(interval, usd=NOTHING) for interval in intervals)


def settled(
    intervals: Sequence[Interval], rules: BillingRules, *, spot: bool, taken_back: bool
) -> tuple[Interval, ...]:
    """What is billed of a machine that has ended, after ``taken_back`` by its provider or by somebody's wish."""
    if not (spot and taken_back and intervals):
        return tuple(intervals)
    first, end = intervals[0].start, intervals[-1].end
    if end is not None and end - first < rules.free_if_taken_back_within:
        return free(intervals)
    return tuple(intervals)


def stepped(interval: Interval, steps: Sequence[PriceStep], holds_for: timedelta) -> tuple[Interval, ...]:
    """The interval cut where its price moves; ``steps`` in their order, from before its start if they are known.

    Before the first step the interval's own price holds. With ``holds_for`` a price is that of the start of each
    stretch of that length, counted from the interval's start.
    """
    moments = [interval.start]
    last = interval.end or max([interval.start, *(step.at for step in steps)])
    if holds_for:
        while moments[-1] + holds_for <= last:
            moments.append(moments[-1] + holds_for)
    else:
        moments += [step.at for step in steps if interval.start < step.at <= last]
    cut: list[Interval] = []
    for moment in moments:
        usd = _price_at(steps, moment, interval.usd)
        if not cut:
            cut.append(replace(interval, usd=usd))
        elif usd != cut[-1].usd and moment != interval.end:
            cut[-1] = replace(cut[-1], end=moment)
            cut.append(replace(interval, start=moment, usd=usd, continues=True))
    return tuple(cut)


def whole_seconds(moment: datetime) -> datetime:
    """Providers bill whole seconds."""
    return moment.astimezone(UTC).replace(microsecond=0)


def month_start(moment: datetime) -> datetime:
    """When the moment's calendar month began."""
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def day_start(moment: datetime) -> datetime:
    """When the moment's day began."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def next_month(moment: datetime) -> datetime:
    """When the month after the moment's begins."""
    return month_start(month_start(moment) + timedelta(days=32))


def _price_at(steps: Sequence[PriceStep], moment: datetime, otherwise: Decimal | None) -> Decimal | None:
    known = [step.usd for step in steps if step.at <= moment]
    if known:
        return known[-1]
    # Nothing is known of before: the first price that is known is the nearest to it.
    return steps[0].usd if otherwise is None and steps else otherwise


def _stretches(intervals: Sequence[Interval]) -> Iterator[Sequence[Interval]]:
    start = 0
    for index in range(1, len(intervals) + 1):
        if index == len(intervals) or not intervals[index].continues:
            yield intervals[start:index]
            start = index


def _stretch(stretch: Sequence[Interval], until: datetime, on_demand: bool) -> Decimal:
    total = NOTHING
    for interval in stretch:
        usd = _price(interval, on_demand)
        if usd is not None:
            end = until if interval.end is None or interval.end > until else interval.end
            total += _cost(usd, interval.per, interval.start, end)
    return total


def _at_least(first: Interval, minimum: timedelta, on_demand: bool) -> Decimal:
    usd = _price(first, on_demand)
    if usd is None or not minimum:
        return NOTHING
    return _cost(usd, first.per, first.start, first.start + minimum)


def _price(interval: Interval, on_demand: bool) -> Decimal | None:
    return interval.list_usd if on_demand and interval.list_usd is not None else interval.usd


def _cost(usd: Decimal, per: Per, start: datetime, end: datetime) -> Decimal:
    if end <= start:
        return NOTHING
    if per is Per.HOUR:
        return usd * ((end - start) // SECOND) / 3600
    total = NOTHING
    while start < end:
        over, seconds = _month(start.year, start.month)
        until = min(end, over)
        total += usd * ((until - start) // SECOND) / seconds
        start = until
    return total


@cache
def _month(year: int, month: int) -> tuple[datetime, int]:
    """When it is over, and how long it is."""
    begun = datetime(year, month, 1, tzinfo=UTC)
    days = calendar.monthrange(year, month)[1]
    return begun + timedelta(days=days), days * 86_400
