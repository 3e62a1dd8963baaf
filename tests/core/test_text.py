"""Text that others have written, on our terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.core.clock import LONGEST, parse_duration
from runctl.core.text import exact_span, printable
from runctl.render.progress import progress_for
from runctl.render.tables import details, table

HOSTILE = "a\x1b[2Jb\rc\x9bd\u202e"
SHOWN = "a\\x1b[2Jb\\x0dc\\x9bd\\u202e"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("ünï 🚀", "ünï 🚀"), ("a\tb\nc", "a\tb\nc"), ("\0\x7f", "\\x00\\x7f"), (HOSTILE, SHOWN)],
)
def test_what_would_drive_the_terminal_is_shown_instead(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.25, "0.25s"),
        (59.9996, "1m"),
        (90.0, "1m30s"),
        (3600.0, "1h00m"),
        (3605.0, "1h00m5s"),
        (86_400.0, "1d0h"),
        (129_601.0, "1d12h1s"),
        (1_000_001.0, "11d13h46m41s"),
    ],
)
def test_an_exact_time_span_leaves_no_unit_out(seconds: float, text: str) -> None:
    assert exact_span(seconds) == text


@given(st.integers(1, int(LONGEST.total_seconds()) * 1000))
def test_an_exact_time_span_can_be_given_as_one(milliseconds: int) -> None:
    said = exact_span(milliseconds / 1000)

    assert round(parse_duration(said).total_seconds() * 1000) == milliseconds


def test_a_name_on_one_line_stays_on_it() -> None:
    assert printable("a\nb", lines=False) == "a\\x0ab"
    assert table(["NAME"], [["x\ny"]]).splitlines()[1] == "x\\x0ay"


def test_tables_details_and_progress_show_names_and_answers_so() -> None:
    stream = io.StringIO()
    progress = progress_for(stream)
    progress.warn(HOSTILE)
    progress.note(HOSTILE)
    for text in (table(["NAME"], [[HOSTILE]]), details({"name": HOSTILE}), stream.getvalue()):
        assert SHOWN in text
        assert "\x1b" not in text
