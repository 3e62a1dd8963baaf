"""``cp``: what is copied from where; the copying itself is tested over every transport."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Invoke, error_of
from tests.e2e.command_line import CommandLine, write_project


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a", "b"), "a and b are both here"),
        (("gpu-box:/a", "gpu-box:/b"), "both on machines"),
        (("gpu-box:", "b"), "names no path"),
        (("run-0:checkpoints", "b"), "knows no run run-0"),
        (("latest:checkpoints", "b"), "has started no run"),
    ],
)
def test_one_side_is_here_and_the_other_is_named(invoke: Invoke, words: tuple[str, str], said: str) -> None:
    assert said in error_of(invoke("cp", *words, "--output", "json"))["message"]


def test_a_runs_folders_are_copied_by_the_runs_name(tmp_path: Path) -> None:
    code = "import os\nopen(os.environ['RUNCTL_OUTPUT_DIR'] + '/metrics.csv', 'w').write('a,b')\n"
    runctl = CommandLine(
        write_project(tmp_path / "project", {"train.py": code}), {"XDG_DATA_HOME": str(tmp_path)}
    )
    runctl("local", "train", "train.py", "--run-name", "base", "--wait").ok()

    done = runctl("cp", "base:output", "./results", "--output", "json").ok().json
    wrong = runctl("cp", "base:logs", ".", "--output", "json")
    outside = runctl("cp", "base:output/../../x", ".", "--output", "json")

    assert (done["files"], done["sent_bytes"]) == (1, 3)
    assert (runctl.cwd / "results/metrics.csv").read_text() == "a,b"
    assert "checkpoints and output, not 'logs'" in wrong.error["message"]
    assert outside.code == 2
