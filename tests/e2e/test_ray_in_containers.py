"""The real Ray in containers on two machines of the sandbox."""

from __future__ import annotations

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

RAY = "ray==2.60.0"
DOCKERFILE = f"""\
FROM python:3.11-slim
WORKDIR /workspace
COPY wheels /wheels
RUN pip install --no-cache-dir --find-links /wheels {RAY}
COPY train.py .
"""
SCRIPT = """\
import os, pathlib, time, ray

ray.init()

@ray.remote(num_cpus=1, scheduling_strategy="SPREAD")
def where(number):
    time.sleep(1)
    return number, ray.util.get_node_ip_address()

done = ray.get([where.remote(number) for number in range(8)])
print("sum", sum(number for number, _ in done), "on", len({address for _, address in done}), flush=True)
pathlib.Path(os.environ["RUNCTL_OUTPUT_DIR"], "sum").write_text(str(sum(number for number, _ in done)))
"""


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ray's own: containers may have no way to an index that has this version."""
    folder = tmp_path_factory.mktemp("wheels")
    python = str(environment_with([RAY]) / "bin/python")
    download = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), RAY]
    subprocess.run(download, check=True, timeout=900)
    return folder


def test_a_ray_script_in_containers_has_the_cluster_of_all_machines(
    in_container: CommandLine, ec2: Any, wheels: Path
) -> None:
    write_project(in_container.cwd, {"train.py": SCRIPT, "Dockerfile": DOCKERFILE})
    (in_container.cwd / "wheels").mkdir()
    for wheel in wheels.iterdir():
        (in_container.cwd / "wheels" / wheel.name).hardlink_to(wheel)
    machines = ("--on-demand", "--instance-type", "m7i.large", "--nodes", "2", "--engine", "ray", "--yes")

    done = in_container("aws", "launch", "train.py", *machines, "--wait", timeout=1500).ok()

    assert "[0] [runctl] Ray's cluster has 2 of 2 machines" in done.out
    assert "[0] sum 28 on 2" in done.out.splitlines()
    (brought,) = (in_container.cwd / "results").glob("*/output/sum")
    assert brought.read_text() == "28"
    assert left(ec2) == NOTHING
