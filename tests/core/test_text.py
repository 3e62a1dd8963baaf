"""Text that others have written, on our terminal."""

from __future__ import annotations

import io

import pytest

from runctl.core.text import printable
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
