"""The example that learns digits: it learns, and an interruption costs it nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.examples.conftest import EXAMPLES

TRAIN = EXAMPLES / "digits" / "train.py"


@dataclass(frozen=True)
class Training:
    """train.py with its data, and folders of its own."""

    python: Path
    folder: Path
    environment: dict[str, str]

    def command(self, *args: str) -> list[str]:
        return [str(self.python), "-u", str(TRAIN), *args]

    def run(self, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*args),
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "checkpoints").iterdir())


@pytest.fixture
def new_training(
    digits_python: Path, digits_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Training]:
    def make() -> Training:
        folder = tmp_path_factory.mktemp("training")
        environment = {
            **os.environ,
            # Threads that wait for each other's turn take the cores from the tests that run meanwhile.
            "OPENBLAS_NUM_THREADS": "1",
            "RUNCTL_DATA_DIR": str(digits_data),
            "RUNCTL_CHECKPOINT_DIR": str(folder / "checkpoints"),
            "RUNCTL_OUTPUT_DIR": str(folder / "output"),
        }
        return Training(digits_python, folder, environment)

    return make


@pytest.fixture
def training(new_training: Callable[[], Training]) -> Training:
    return new_training()


def test_five_epochs_are_enough_to_read_digits(training: Training) -> None:
    done = training.run("--epochs", "5")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((training.folder / "output" / "metrics.json").read_text())
    assert metrics["test_accuracy"] > 0.95
    assert f"test accuracy {metrics['test_accuracy']:.2%}" in done.stdout


def test_the_loss_falls_from_epoch_to_epoch(training: Training) -> None:
    losses = [float(loss) for loss in re.findall(r"loss (\S+)", training.run("--epochs", "4").stdout)]
    assert len(losses) == 4
    assert losses == sorted(losses, reverse=True)


def test_only_the_newest_checkpoints_are_kept(training: Training) -> None:
    assert training.run("--epochs", "4", "--keep", "2").returncode == 0
    assert training.checkpoints() == ["step-00000270.npz", "step-00000360.npz"]


def test_a_second_start_goes_on_from_the_newest_checkpoint(training: Training) -> None:
    training.run("--epochs", "2")
    done = training.run("--epochs", "3")
    assert re.findall(r"epoch (\d)/3", done.stdout) == ["3"]


def test_an_interrupted_training_ends_with_the_same_weights(new_training: Callable[[], Training]) -> None:
    whole, interrupted = new_training(), new_training()
    whole.run("--epochs", "60")

    with subprocess.Popen(
        interrupted.command("--epochs", "60"),
        cwd=interrupted.folder,
        env=interrupted.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch 2/"):
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stdout.read()
    assert process.returncode == 143
    assert "SIGTERM: saved" in rest

    assert interrupted.run("--epochs", "60").returncode == 0
    last = whole.checkpoints()[-1]
    assert interrupted.checkpoints()[-1] == last
    item, other = (each.folder / "checkpoints" / last for each in (whole, interrupted))
    assert item.read_bytes() == other.read_bytes()


def test_a_named_checkpoint_is_the_one_that_is_taken_up(training: Training) -> None:
    training.run("--epochs", "3")
    first = training.folder / "checkpoints" / "step-00000090.npz"
    done = training.run("--epochs", "2", RUNCTL_RESUME_FROM=str(first))
    assert re.findall(r"epoch (\d)/2", done.stdout) == ["2"]


def test_a_damaged_checkpoint_is_passed_over(training: Training) -> None:
    training.run("--epochs", "2")
    newest = training.folder / "checkpoints" / "step-00000180.npz"
    newest.write_bytes(newest.read_bytes()[:1000])
    done = training.run("--epochs", "2")
    assert done.returncode == 0, done.stderr
    assert "step-00000180.npz cannot be read" in done.stdout
    assert re.findall(r"epoch (\d)/2", done.stdout) == ["2"]


def test_a_damaged_checkpoint_that_was_asked_for_is_an_error(training: Training) -> None:
    broken = training.folder / "broken.npz"
    broken.write_bytes(b"no checkpoint")
    done = training.run("--resume", str(broken))
    assert done.returncode == 1
    assert "broken.npz is not a checkpoint" in done.stderr


def test_a_checkpoint_of_another_training_is_refused(training: Training) -> None:
    training.run("--epochs", "1")
    done = training.run("--epochs", "2", "--hidden", "64")
    assert done.returncode == 1
    assert "belongs to another training" in done.stderr


def test_missing_data_is_named(training: Training) -> None:
    done = training.run("--data", "nowhere")
    assert done.returncode == 1
    assert "nowhere/digits.npz" in done.stderr
    assert "prepare.py" in done.stderr


def test_no_digit_is_in_both_halves_of_the_data(digits_python: Path, digits_data: Path) -> None:
    count = (
        "import sys, numpy as n; d = n.load(sys.argv[1]);"
        "a = {i.tobytes() for i in d['train_images']}; b = {i.tobytes() for i in d['test_images']};"
        "print(len(d['train_images']), len(d['test_images']), len(a & b))"
    )
    done = subprocess.run(
        [digits_python, "-c", count, digits_data / "digits.npz"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1437", "360", "0"]
