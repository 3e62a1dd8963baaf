"""The page of what was spent: everything in it, nothing loaded, and pictures that show what the table says."""

from __future__ import annotations

import re
from decimal import Decimal
from xml.etree import ElementTree as ET

import pytest

from runctl.costs.entries import By, Entry
from runctl.costs.report import report
from runctl.render.cost_page import cost_page
from runctl.render.svg import Bar, scale, vertical_bars
from tests.costs.entries import an_entry, at, interval

ENTRIES = [
    an_entry(
        "i-1", interval("2026-06-01 10:00", "2026-06-01 14:00", "0.25", list_usd=Decimal(1)), project="a"
    ),
    an_entry("i-2", interval("2026-06-03 22:00", "2026-06-04 02:00", "1"), project="<b> & 'c'"),
]


def page(*, entries: list[Entry] = ENTRIES, by: By = By.PROJECT, until: str = "2026-06-05") -> str:
    reports = [report(entries, each, at("2026-06-01"), at(until)) for each in (by, By.DAY, By.MONTH)]
    return cost_page(*reports)


def svgs(text: str) -> list[ET.Element]:
    return [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]


def titles(picture: ET.Element) -> list[str]:
    return [found.text or "" for found in picture.iter("title")]


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    text = page()
    assert "<script" not in text
    assert not re.search(r"(?:src|href)=|https?://|url\(|@import", text)
    assert "<b>" not in text


def test_the_pictures_show_each_day_each_group_and_what_was_saved() -> None:
    over_time, groups, savings = svgs(page())
    assert titles(over_time) == [
        "2026-06-01: $1.00, $3.00 saved",
        "2026-06-02: $0.00",
        "2026-06-03: $2.00",
        "2026-06-04: $2.00",
    ]
    assert titles(groups) == ["<b> & 'c': $4.00", "a: $1.00, $3.00 saved"]
    assert titles(savings)[-1] == "2026-06-04: paid $5.00, on demand $8.00"


def test_a_long_time_is_drawn_by_the_month() -> None:
    assert titles(svgs(page(until="2026-11-01"))[0])[:2] == ["2026-06: $5.00, $3.00 saved", "2026-07: $0.00"]


def test_what_was_saved_is_not_drawn_where_nothing_was() -> None:
    text = page(entries=ENTRIES[1:])
    assert len(svgs(text)) == 2
    assert "Nothing was bought for less than its on-demand price." in text


def test_of_many_groups_the_smallest_are_drawn_as_one() -> None:
    many = [
        an_entry(
            f"i-{number}", interval("2026-06-01 10:00", "2026-06-01 11:00", "1"), project=f"p-{number:02}"
        )
        for number in range(20)
    ]
    (_, groups) = svgs(page(entries=many))
    assert titles(groups)[-1] == "6 more: $6.00"
    assert len(titles(groups)) == 15


@pytest.mark.parametrize(
    ("largest", "top", "marks"),
    [
        ("0", "1", 2),
        ("7", "8", 5),
        ("8", "8", 5),
        ("8.01", "10", 3),
        ("249.63", "300", 4),
        ("0.0031", "0.004", 5),
    ],
)
def test_an_axis_has_room_for_the_largest_value(largest: str, top: str, marks: int) -> None:
    end, ticks = scale(Decimal(largest))
    assert (end, len(ticks)) == (Decimal(top), marks)
    assert ticks[-1] == end >= Decimal(largest)


def test_a_bar_stays_within_its_picture() -> None:
    picture = ET.fromstring(vertical_bars([Bar("a", Decimal("249.63")), Bar("b", Decimal(0))], "text"))
    for bar in picture.iter("rect"):
        assert float(bar.get("y", "")) >= 0
        assert float(bar.get("height", "")) >= 0
