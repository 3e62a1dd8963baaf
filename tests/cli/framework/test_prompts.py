"""Asking, on a real terminal."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest

from runctl.cli.framework.prompts import ask

CODE = (
    "from runctl.cli.context import Cli\n"
    "from runctl.cli.main import main\n"
    "def probe(self):\n    self.confirm('Sure?')\n    raise SystemExit(0)\n"
    "Cli.read_config = probe\n"
    "main()"
)


@pytest.mark.parametrize(
    ("typed", "answer"),
    [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False), ("what\ny\n", True)],
)
def test_only_yes_is_yes(typed: str, answer: bool) -> None:
    screen = io.StringIO()
    assert ask("Sure?", io.StringIO(typed), screen) is answer
    assert screen.getvalue().startswith("Sure? [y/N] ")


@pytest.mark.parametrize(("typed", "code"), [(b"y\n", 0), (b"n\n", 1)])
def test_the_question_is_asked_on_the_terminal_and_stdout_stays_clean(typed: bytes, code: int) -> None:
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, "config", "validate"],
            stdin=theirs,
            stderr=theirs,
            stdout=subprocess.PIPE,
        )
        seen = b""
        while b"[y/N]" not in seen:
            seen += os.read(ours, 1024)
        os.write(ours, typed)
        out, _ = process.communicate(timeout=30)
    finally:
        os.close(theirs)
        os.close(ours)
    assert process.returncode == code
    assert out == b""


def test_yes_is_never_asked() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, "config", "validate", "--yes"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
