"""What is billed, against tables that were made by hand, and what holds for any life."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.costs.billing import (
    BillingRules,
    Interval,
    PriceStep,
    accrued,
    amount,
    settled,
    stepped,
)
from runctl.costs.rates import Per

SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
MINIMUM = timedelta(seconds=60)
EC2 = BillingRules(MINIMUM, HOUR, HOUR)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def hourly(start: str, end: str | None, usd: str, **more: object) -> Interval:
    return Interval(at(start), at(end) if end else None, Decimal(usd), Per.HOUR, **more)  # type: ignore[arg-type]


def monthly(start: str, end: str | None, usd: str, **more: object) -> Interval:
    return Interval(at(start), at(end) if end else None, Decimal(usd), Per.MONTH, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("life", "usd"),
    [
        # 0.526 x 2.5
        ([hourly("2026-05-01 12:00", "2026-05-01 14:30", "0.526")], "1.315"),
        # by the second: 0.526 x 3661 / 3600
        ([hourly("2026-05-01 12:00", "2026-05-01 13:01:01", "0.526")], "0.534913"),
        # a day with a leap second is a day: 24 x 0.5
        ([hourly("2016-12-31 12:00", "2017-01-01 12:00", "0.5")], "12"),
        # 7 s are billed as 60: 3.06 / 60
        ([hourly("2026-05-01 12:00", "2026-05-01 12:00:07", "3.06")], "0.051"),
        ([hourly("2026-05-01 12:00", "2026-05-01 12:00", "3.06")], "0.051"),
        # each start has its own minute: 2 x 3.06 / 60
        (
            [
                hourly("2026-05-01 12:00", "2026-05-01 12:00:07", "3.06"),
                hourly("2026-05-01 12:00:30", "2026-05-01 12:00:31", "3.06"),
            ],
            "0.102",
        ),
        # a spot price that moves is not a start: 0.3 x 20 s + 0.6 x 50 s
        (
            [
                hourly("2026-05-01 12:00", "2026-05-01 12:00:20", "0.36"),
                hourly("2026-05-01 12:00:20", "2026-05-01 12:01:10", "0.72", continues=True),
            ],
            "0.012",
        ),
        # stopped for two hours: 0.5 x (1 + 3)
        (
            [
                hourly("2026-05-01 08:00", "2026-05-01 09:00", "0.5"),
                hourly("2026-05-01 11:00", "2026-05-01 14:00", "0.5"),
            ],
            "2",
        ),
        # 100 GiB at 0.08 over all of a month of 31, of 30, of 28 and of 29 days
        ([monthly("2026-05-01", "2026-06-01", "8")], "8"),
        ([monthly("2026-06-01", "2026-07-01", "8")], "8"),
        ([monthly("2026-02-01", "2026-03-01", "8")], "8"),
        ([monthly("2028-02-01", "2028-03-01", "8")], "8"),
        # half of February and half of March: 8 x 14/28 + 8 x 15.5/31
        ([monthly("2026-02-15", "2026-03-16 12:00", "8")], "8"),
        # one day of each: 8/28 + 8/31
        ([monthly("2026-02-28", "2026-03-02", "8")], "0.543779"),
        # the same day of a leap year: 8/29 + 8/31
        ([monthly("2028-02-29", "2028-03-02", "8")], "0.533927"),
        # made larger on the 16th: 8 x 15/30 + 16 x 15/30
        (
            [
                monthly("2026-06-01", "2026-06-16", "8"),
                monthly("2026-06-16", "2026-07-01", "16", continues=True),
            ],
            "12",
        ),
        # the day of a leap second has 86,400 billed seconds: 0.1 x 24
        ([hourly("2016-12-31", "2017-01-01", "0.1")], "2.4"),
        # the nights in which clocks in Berlin were set back and forward: 24 h and 24 h in UTC
        ([hourly("2026-10-25", "2026-10-26", "0.1")], "2.4"),
        ([hourly("2026-03-29", "2026-03-30", "0.1")], "2.4"),
        # from one year to the next: 0.1 x 48
        ([hourly("2026-12-31", "2027-01-02", "0.1")], "4.8"),
        # no price is known: nothing is counted
        ([Interval(at("2026-05-01"), at("2026-05-02"), None)], "0"),
        ([], "0"),
    ],
)
def test_lives_cost_what_the_table_says(life: Sequence[Interval], usd: str) -> None:
    assert accrued(life, at("2030-01-01"), MINIMUM) == Decimal(usd)


def test_a_life_over_daylight_saving_is_the_same_in_any_time_zone() -> None:
    berlin = timedelta(hours=2)
    local = datetime.fromisoformat("2026-10-25T00:00:00+02:00")
    life = [Interval(local.astimezone(UTC), None, Decimal("0.1"))]
    # From 00:00 summer time to 24:00 winter time a day of 25 hours passes.
    assert accrued(life, datetime.fromisoformat("2026-10-26T00:00:00+01:00").astimezone(UTC)) == Decimal(
        "2.5"
    )
    assert local.utcoffset() == berlin


@pytest.mark.parametrize(
    ("end", "spot", "taken_back", "usd"),
    [
        ("12:59:59", True, True, "0"),
        ("13:00:00", True, True, "0.3"),  # an hour has passed
        ("12:30:00", True, False, "0.15"),  # the user has ended it
        ("12:30:00", False, True, "0.15"),  # not a spot machine
    ],
)
def test_the_first_hour_is_free_where_the_provider_takes_a_spot_machine_back(
    end: str, spot: bool, taken_back: bool, usd: str
) -> None:
    life = [hourly("2026-05-01 12:00", f"2026-05-01 {end}", "0.3")]
    billed = settled(life, EC2, spot=spot, taken_back=taken_back)
    assert accrued(billed, at("2030-01-01"), MINIMUM) == Decimal(usd)


def test_the_spot_price_at_the_start_of_an_instance_hour_holds_for_that_hour() -> None:
    steps = [
        PriceStep(at(f"2026-05-01 {when}"), Decimal(usd))
        for when, usd in [("09:00", "0.30"), ("12:40", "0.90"), ("13:10", "0.60"), ("14:05", "0.10")]
    ]
    life = stepped(hourly("2026-05-01 12:05", "2026-05-01 14:35", "1"), steps, HOUR)
    # 12:05 to 13:05 at 0.30, to 14:05 at 0.90 (0.60 began at 13:10), to 14:35 at 0.10
    assert [(each.start, each.usd) for each in life] == [
        (at("2026-05-01 12:05"), Decimal("0.30")),
        (at("2026-05-01 13:05"), Decimal("0.90")),
        (at("2026-05-01 14:05"), Decimal("0.10")),
    ]
    assert accrued(life, at("2030-01-01"), MINIMUM) == Decimal("1.25")


def test_a_spot_price_may_count_at_once() -> None:
    steps = [
        PriceStep(at("2026-05-01 09:00"), Decimal("0.3")),
        PriceStep(at("2026-05-01 12:30"), Decimal("0.6")),
    ]
    life = stepped(hourly("2026-05-01 12:00", "2026-05-01 13:00", "1"), steps, timedelta())
    assert accrued(life, at("2030-01-01")) == Decimal("0.45")


def test_an_interval_without_known_steps_keeps_its_own_price_or_has_none() -> None:
    known, unknown = (
        hourly("2026-05-01", "2026-05-02", "1"),
        Interval(at("2026-05-01"), at("2026-05-02"), None),
    )
    assert stepped(known, (), HOUR) == (known,)
    assert stepped(unknown, (), HOUR) == (unknown,)
    later = [PriceStep(at("2026-05-01 06:00"), Decimal(2))]
    assert stepped(unknown, later, HOUR)[0].usd == Decimal(2)


prices = st.decimals(min_value=0, max_value=100, places=6, allow_nan=False)
lengths = st.integers(0, 40 * 86_400).map(lambda seconds: timedelta(seconds=seconds))


@st.composite
def lives(draw: st.DrawFn) -> list[Interval]:
    """Intervals one after the other, with or without gaps, hourly or monthly; the last one may go on."""
    moment = at("2026-01-01") + draw(lengths)
    per = draw(st.sampled_from([Per.HOUR, Per.MONTH]))
    life: list[Interval] = []
    for _ in range(draw(st.integers(1, 4))):
        continues = bool(life) and draw(st.booleans())
        start = moment if continues else moment + draw(lengths)
        moment = start + draw(lengths)
        life.append(Interval(start, moment, draw(prices), per, draw(st.none() | prices), continues=continues))
    if draw(st.booleans()):
        last = life[-1]
        life[-1] = Interval(last.start, None, last.usd, last.per, last.list_usd, last.continues)
    return life


moments = st.integers(0, 400 * 86_400).map(lambda seconds: at("2026-01-01") + timedelta(seconds=seconds))


@given(lives(), st.lists(moments, min_size=2, max_size=6), st.sampled_from([timedelta(), MINIMUM]))
def test_amounts_are_never_negative_never_fall_and_add_up(
    life: list[Interval], cuts: list[datetime], minimum: timedelta
) -> None:
    cuts.sort()
    parts = [amount(life, start, end, minimum) for start, end in pairwise(cuts)]

    assert all(part >= 0 for part in parts)
    assert sum(parts) == amount(life, cuts[0], cuts[-1], minimum)
    totals = [accrued(life, cut, minimum) for cut in cuts]
    assert totals == sorted(totals)
    assert all(each >= 0 for each in totals)


@given(lives(), st.lists(st.tuples(moments, prices), max_size=5))
def test_steps_change_prices_and_no_time(
    life: list[Interval], changes: list[tuple[datetime, Decimal]]
) -> None:
    steps = [PriceStep(*change) for change in sorted(changes)]
    for interval in life:
        for holds_for in (timedelta(), HOUR * 7):
            cut = stepped(interval, steps, holds_for)
            assert cut[0].start == interval.start
            assert cut[-1].end == interval.end
            assert [each.end for each in cut[:-1]] == [each.start for each in cut[1:]]
            assert all(each.continues for each in cut[1:])


@given(lives(), moments)
def test_what_costs_the_same_on_demand_saves_nothing(life: list[Interval], until: datetime) -> None:
    plain = [Interval(each.start, each.end, each.usd, each.per, None, each.continues) for each in life]
    assert accrued(plain, until, MINIMUM, on_demand=True) == accrued(plain, until, MINIMUM)


def test_a_life_on_demand_costs_its_list_price_where_another_was_paid() -> None:
    life = [
        hourly("2026-05-01 12:00", "2026-05-01 13:00", "0.3", list_usd=Decimal(1)),
        hourly("2026-05-01 13:00", "2026-05-01 14:00", "0.4"),
    ]
    assert accrued(life, at("2030-01-01"), on_demand=True) == Decimal("1.4")
