"""Signals make a note, and a checkpoint is there as a whole. No framework is needed for that."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runctl.callbacks.contract import ProgressFile, Requests, checkpoint_folder, resume_path, save_whole

FRAMEWORKS = {"torch", "lightning", "pytorch_lightning", "transformers"}


@pytest.fixture
def handlers() -> Iterator[None]:
    """Those of before are there again afterwards."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_no_framework_is_imported_before_its_callback_is_used() -> None:
    program = (
        "import sys, runctl, runctl.callbacks; runctl.callbacks.resume_path();"
        f" print(sorted({FRAMEWORKS!r} & set(sys.modules)), 'runctl.callbacks' in sys.modules)"
    )
    alone = "import sys, runctl; print('runctl.callbacks' in sys.modules)"

    said = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        for code in (program, alone)
    ]

    assert said == ["[] True", "False"]


@pytest.mark.usefixtures("handlers")
def test_a_signal_asks_once_and_sigterm_until_the_end() -> None:
    requests = Requests(signal.SIGUSR2)
    assert not requests.take()

    os.kill(os.getpid(), signal.SIGUSR2)
    assert (requests.take(), requests.take(), requests.must_end) == (True, False, False)

    os.kill(os.getpid(), signal.SIGTERM)
    assert (requests.take(), requests.take(), requests.must_end) == (True, True, True)


def test_a_save_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "step-1.pt"
    save_whole(target, lambda path: path.write_text("first"))

    def fails(path: Path) -> None:
        path.write_text("half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        save_whole(target, fails)

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"step-1.pt": "first"}


def test_the_machine_says_where_checkpoints_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNCTL_CHECKPOINT_DIR", str(tmp_path / "kept"))
    monkeypatch.setenv("RUNCTL_RESUME_FROM", "")
    assert (checkpoint_folder(), resume_path()) == (tmp_path / "kept", None)

    monkeypatch.delenv("RUNCTL_CHECKPOINT_DIR")
    monkeypatch.setenv("RUNCTL_RESUME_FROM", "/x/step-1.pt")
    monkeypatch.chdir(tmp_path)
    assert (checkpoint_folder(), resume_path()) == (Path("checkpoints"), "/x/step-1.pt")
    assert (tmp_path / "checkpoints").is_dir()


def test_the_progress_is_written_now_and_then_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".progress.json"
    monkeypatch.delenv("RUNCTL_PROGRESS_FILE", raising=False)
    ProgressFile().write(1, 10)
    monkeypatch.setenv("RUNCTL_PROGRESS_FILE", str(file))
    progress = ProgressFile()
    said = []
    for step, total in ((1, 10), (2, 10), (10, 10)):
        progress.write(step, total)
        said.append(json.loads(file.read_text()))
    assert said == [{"step": 1, "total": 10}, {"step": 1, "total": 10}, {"step": 10, "total": 10}]

    ProgressFile().write(3, float("inf"))
    assert json.loads(file.read_text()) == {"step": 3, "total": None}
    monkeypatch.setenv("RUNCTL_PROGRESS_FILE", str(tmp_path / "nowhere" / "file"))
    ProgressFile().write(1, 10)
    assert [path.name for path in tmp_path.iterdir()] == [".progress.json"]
