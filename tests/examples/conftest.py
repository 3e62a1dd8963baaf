"""The examples run as their users run them: in an environment made from their own requirements."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.availability import find_program

EXAMPLES = Path(__file__).parents[2] / "examples"


def make_environment(folder: Path, *requirements: str) -> Path:
    """A virtual environment with these requirements (as pip takes them); returns its Python."""
    python = folder / "bin" / "python"
    if uv := find_program("uv"):
        commands = [
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--python", str(python), *requirements],
        ]
    else:
        commands = [
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", *requirements],
        ]
    for command in commands:
        subprocess.run(command, check=True, timeout=240)
    return python


@pytest.fixture(scope="session")
def digits_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python that train.py runs with: its requirements.txt and nothing else."""
    requirements = str(EXAMPLES / "digits" / "requirements.txt")
    return make_environment(tmp_path_factory.mktemp("digits") / "venv", "-r", requirements)


@pytest.fixture(scope="session")
def digits_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that prepare.py writes."""
    script = EXAMPLES / "digits" / "prepare.py"
    header = script.read_text().partition("# dependencies = [")[2].partition("]")[0]
    requirements = [word.strip().strip('"') for word in header.split(",")]
    folder = tmp_path_factory.mktemp("prepare")
    python = make_environment(folder / "venv", *requirements)
    subprocess.run([python, str(script), str(folder / "data")], check=True, timeout=60)
    return folder / "data"
