"""The page of costs as a real browser paints it: Qt's Chromium, which comes from PyPI, without JavaScript."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.render.test_cost_page import page

PAID, LIST = "#0072b2", "#d55e00"
BROWSER = Path(__file__).with_name("browser.py")


@pytest.mark.slow
@pytest.mark.linux
def test_the_page_of_costs_is_painted_with_its_pictures_and_asks_for_nothing_else(tmp_path: Path) -> None:
    uv = shutil.which("uv")
    assert uv is not None
    report = tmp_path / "report.html"
    report.write_text(page())

    done = subprocess.run(
        [
            *(uv, "run", "--no-project", "--quiet", "--with", "PyQt6", "--with", "PyQt6-WebEngine"),
            *("python", BROWSER, report, PAID, LIST),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    if "ImportError" in done.stderr:
        pytest.skip(f"a library of the browser's is missing: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["requests"] == [report.as_uri()]
    # Bars are areas, the price on demand is a line.
    assert seen["dots"][PAID] > 1000
    assert seen["dots"][LIST] > 20
