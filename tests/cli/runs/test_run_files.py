"""``cp`` and ``runs prune``: what is copied from where, and what ended runs keep."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Invoke, error_of
from tests.e2e.command_line import CommandLine, until, write_project


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("a", "b"), "a and b are both here"),
        (("gpu-box:/a", "gpu-box:/b"), "both on machines"),
        (("gpu-box:", "b"), "names no path"),
        (("run-0:checkpoints", "b"), "knows no run run-0"),
        (("latest:checkpoints", "b"), "has started no run"),
    ],
)
def test_one_side_is_here_and_the_other_is_named(invoke: Invoke, argv: tuple[str, str], said: str) -> None:
    assert said in error_of(invoke("cp", *argv, "--output", "json"))["message"]


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


def test_what_old_runs_keep_is_shown_and_removed(tmp_path: Path) -> None:
    files = {"train.py": "print('log')\n"}
    runctl = CommandLine(write_project(tmp_path / "project", files), {"XDG_DATA_HOME": str(tmp_path)})
    run = runctl("local", "train", "train.py", "--wait", "--output", "json").ok().json

    young = runctl("runs", "prune", "--dry-run", "--output", "json").ok().json
    old = ("runs", "prune", "--older-than", "0.001s")
    shown = until(
        lambda: runctl(*old, "--dry-run", "--output", "json").ok().json, what="the run to be a second old"
    )
    asked = runctl(*old, "--output", "json")
    removed = runctl(*old, "--records", "--yes", "--output", "json").ok().json

    assert young == []
    # A run on this computer has its log where it ran: there is no copy.
    assert [(item["run_id"], item["kept"], item["where"]) for item in shown] == [(run["id"], "work", "local")]
    assert asked.error["code"] == "confirmation-needed"
    assert [entry["kept"] for entry in removed] == ["work", "record"]
    assert runctl("runs", "list", "--output", "json").ok().json == []
    assert not list((tmp_path / "runctl/local/runs" / run["id"]).glob("*"))
