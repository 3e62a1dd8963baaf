"""What .ci/run makes of lint's and the tests' endings."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
CLOSING = "=================== 3 passed, 1 failed in 61.20s (0:01:01) ==================="


def run_ci(folder: Path, lint: str, test: str) -> subprocess.CompletedProcess[str]:
    """The real .ci/run, over stand-ins of the two scripts that it runs."""
    for name, text in (("scripts/lint", lint), ("scripts/test", test)):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    (folder / ".ci").mkdir()
    shutil.copy(REPOSITORY / ".ci" / "run", folder / ".ci" / "run")
    return subprocess.run(
        [folder / ".ci" / "run"],
        cwd="/",
        env={**os.environ, "CI": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(("lint", "test", "code"), [(0, 0, 0), (1, 0, 1), (0, 1, 1), (2, 3, 1)])
def test_anything_that_fails_fails_all(tmp_path: Path, lint: int, test: int, code: int) -> None:
    assert run_ci(tmp_path, f"exit {lint}", f"exit {test}").returncode == code


def test_the_tests_run_even_when_lint_fails(tmp_path: Path) -> None:
    assert "tests ran" in run_ci(tmp_path, "exit 1", "echo tests ran").stdout


def test_pytests_closing_line_is_the_last(tmp_path: Path) -> None:
    done = run_ci(tmp_path, "true", f"echo '{CLOSING}'; echo 'TOTAL 93%'; exit 1")
    assert done.stdout.splitlines()[-1] == CLOSING


def test_both_know_that_it_is_ci_and_have_no_input(tmp_path: Path) -> None:
    asks = 'echo "CI=$CI"; if read -r answer; then echo "got $answer"; fi'
    assert run_ci(tmp_path, asks, asks).stdout.splitlines() == ["CI=true", "CI=true"]
