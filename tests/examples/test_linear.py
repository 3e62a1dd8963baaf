"""The example that fits a line, with nothing but its own header."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.examples.conftest import EXAMPLES


def test_it_finds_the_line(digits_python: Path) -> None:
    done = subprocess.run(
        [digits_python, EXAMPLES / "linear" / "fit.py"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "y = 3.00 x + 2.00"


def test_its_header_names_what_it_needs() -> None:
    head = (EXAMPLES / "linear" / "fit.py").read_text().partition("# ///\n")[0]
    assert head.startswith("# /// script\n")
    assert '"numpy==' in head
