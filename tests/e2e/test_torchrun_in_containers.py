"""The real torchrun in containers on two machines of the sandbox."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command_line import CommandLine, write_project
from tests.e2e.test_renting_nodes import NOTHING, left
from tests.package_environments import environment_with

pytestmark = [
    pytest.mark.slow,
    pytest.mark.namespaces,
    pytest.mark.docker,
    pytest.mark.timeout(1800, func_only=True),
    pytest.mark.usefixtures("clean_account"),
]

EXAMPLE = Path(__file__).parents[2] / "examples/digits-ddp"
REQUIREMENTS = (EXAMPLE / "requirements.txt").read_text()
DOCKERFILE = """\
FROM python:3.11-slim
WORKDIR /workspace
COPY wheels /wheels
COPY requirements.txt .
RUN pip install --no-cache-dir --find-links /wheels -r requirements.txt
COPY train.py .
"""
LAUNCH = (
    *("aws", "launch", "train.py", "--on-demand", "--instance-type", "m7i.large", "--nodes", "2", "--yes"),
)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PyTorch's own: containers may have no way to an index that has it for processors alone."""
    folder = tmp_path_factory.mktemp("wheels")
    (torch,) = [line for line in REQUIREMENTS.splitlines() if line.startswith("torch")]
    python = str(environment_with(REQUIREMENTS.split()) / "bin/python")
    download = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), torch]
    subprocess.run(download, check=True, timeout=900)
    return folder


def loss(log: str, step: int) -> float:
    (found,) = set(re.findall(rf"step {step} loss (\d+\.\d+)", log))
    return float(found)


def test_torchrun_comes_to_the_same_loss_on_two_machines_as_on_one(
    in_container: CommandLine, ec2: Any, wheels: Path
) -> None:
    script = (EXAMPLE / "train.py").read_text()
    write_project(
        in_container.cwd, {"train.py": script, "requirements.txt": REQUIREMENTS, "Dockerfile": DOCKERFILE}
    )
    (in_container.cwd / "wheels").mkdir()
    for wheel in wheels.iterdir():
        (in_container.cwd / "wheels" / wheel.name).hardlink_to(wheel)
    launch = (*LAUNCH, "--engine", "torchrun", "--engine-args", "--nproc-per-node 1")

    done = in_container(*launch, "--wait", "--", "--steps", "12", timeout=1500).ok()

    python = environment_with(REQUIREMENTS.split()) / "bin/python"
    alone = [str(python), "-m", "torch.distributed.run", "--nproc-per-node", "1", "train.py", "--steps", "12"]
    one = subprocess.run(alone, cwd=in_container.cwd, capture_output=True, text=True, check=True, timeout=300)
    assert loss(done.out, 12) == pytest.approx(loss(one.stdout, 12), abs=1e-6)
    assert {"[0] process 0 of 2 begins at step 0", "[1] process 1 of 2 begins at step 0"} <= set(
        done.out.splitlines()
    )
    # What rank 0 has saved comes home.
    (saved,) = (in_container.cwd / "results").glob("*/checkpoints/step-10.pt")
    assert saved.stat().st_size > 1000
    assert left(ec2) == NOTHING
