"""Durations as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from runctl.core.clock import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("1.5h", 5400),
        ("1h30m", 5400),
        (" 1D ", 86_400),
        ("0.5", 0.5),
        ("100d", 8_640_000),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_a_sum_of_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "0", "0s", "-5s", "soon", "5x", "h", "1.2.3h", ".", "²s", "1h 30m"])
def test_what_is_none_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write 90s, 15m, 2h or 1h30m"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["36501d", "99999999999999d", "9" * 400 + "d"])
def test_one_that_no_date_could_hold_is_too_long(text: str) -> None:
    with pytest.raises(ValueError, match="is too long; 36500d is the most"):
        parse_duration(text)


def test_a_number_without_a_unit_stands_alone() -> None:
    with pytest.raises(ValueError, match="write 1h30m, not 1h30"):
        parse_duration("1h30")
