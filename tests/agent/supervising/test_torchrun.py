"""The real torchrun over agents on loopback addresses: DistributedDataParallel on digits, and machines that are lost.

PyTorch is installed from the package index into an environment of its own, which is kept in the cache;
``RUNCTL_TEST_TORCH`` names the Python of one that has it, with scikit-learn.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runctl.agent.encoding import to_json
from runctl.agent.machine import durable
from runctl.agent.node_spec import NodeSpec
from runctl.agent.spec import EndReason
from runctl.core.files import cache_folder
from tests.agent.driver import Agent, until
from tests.agent.supervising.test_several_machines import free_port

pytestmark = [pytest.mark.linux, pytest.mark.slow]

EXAMPLE = Path(__file__).parents[3] / "examples/digits-ddp"
SCRIPT = (EXAMPLE / "train.py").read_text()
REQUIREMENTS = (EXAMPLE / "requirements.txt").read_text().split()
LOSS = re.compile(r"^step (\d+) loss ([\d.]+)$")
Machines = Callable[[int], "list[Agent]"]


@pytest.fixture(scope="session")
def torch_python() -> str:
    """Of an environment that has what the example needs."""
    named = os.environ.get("RUNCTL_TEST_TORCH")
    if named:
        return named
    folder = cache_folder() / "frameworks" / "-".join(REQUIREMENTS)
    found = folder / "bin/python"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Each process of the test run asks for it.
    with durable.locked(folder.parent / "lock"):
        if not (folder / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            install = [str(found), "-m", "pip", "install", "--quiet", *REQUIREMENTS]
            subprocess.run(install, check=True, timeout=1500)
            (folder / "complete").touch()
    return str(found)


@pytest.fixture
def machines(built: Path, unpacked: Path, tmp_path: Path, torch_python: str) -> Iterator[Machines]:
    made: list[Agent] = []
    path = f"{Path(torch_python).parent}:{os.environ['PATH']}"

    def make(count: int) -> list[Agent]:
        for _ in range(count):
            state = tmp_path / str(len(made))
            state.mkdir()
            shutil.copytree(unpacked, state / "bin", symlinks=True, copy_function=os.link)
            made.append(
                Agent(
                    state / "bin" / built.name, state, env={"PATH": path, "RUNCTL_MACHINE_ROOT": str(state)}
                )
            )
        return made[-count:]

    yield make
    for agent in made:
        agent.end_everything()


def start(agents: list[Agent], *args: str, silence: float = 5.0) -> None:
    addresses = tuple(f"127.0.0.{20 + rank}" for rank in range(len(agents)))
    ports = free_port(), free_port()
    for rank, agent in enumerate(agents):
        agent.sync({"train.py": SCRIPT})
        node = NodeSpec(
            rank,
            addresses,
            "torchrun",
            "f" * 32,
            *ports,
            options=("--nproc-per-node", "1"),
            silence_seconds=silence,
        )
        agent.start("r", "train.py", *args, node=to_json(node), env={"OMP_NUM_THREADS": "1"})


def losses(agent: Agent) -> dict[int, float]:
    found = [LOSS.match(line) for line in agent.output("r")]
    return {int(match.group(1)): float(match.group(2)) for match in found if match}


def test_the_loss_on_two_and_three_machines_is_that_of_one(machines: Machines) -> None:
    found = []
    for count in (1, 2, 3):
        agents = machines(count)
        start(agents, "--steps", "12")
        assert [agent.ended("r").reason for agent in agents] == [EndReason.COMPLETED] * count
        # Rank 0 is ours: what it saves is what is published.
        assert (agents[0].state / "runs/r/checkpoints/step-10.pt").exists()
        found.append(losses(agents[0]))
    assert list(found[0]) == list(range(1, 13))
    assert found[0][12] < found[0][1] / 2
    for others in found[1:]:
        assert others == pytest.approx(found[0], abs=1e-6)


@pytest.mark.parametrize("says", ["begins at step", "step 40 loss"])
def test_a_machine_that_is_lost_in_training_is_named(machines: Machines, says: str) -> None:
    agents = machines(2)
    start(agents, "--steps", "100000", "--every", "10")
    agents[0].says("r", says)
    _lose(agents[1])
    end = agents[0].ended("r")
    assert end.caused_by == 1
    assert end.message.startswith("node 1 (127.0.0.21) has been silent")


def test_a_machine_that_is_lost_before_the_others_meet_it_is_named(machines: Machines) -> None:
    agents = machines(2)
    start(agents, "--steps", "5", silence=3.0)
    until(lambda: agents[1].live("r").get("supervisor"), "node 1 is heard")
    _lose(agents[1])
    end = agents[0].ended("r")
    assert end.caused_by == 1


def _lose(agent: Agent) -> None:
    """Everything of it is killed at once, as when its machine is gone."""
    pids = [agent.supervisor("r"), *_below(agent.supervisor("r"))]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def _below(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    children = [int(text) for text in path.read_text().split()]
    return [each for child in children for each in (child, *_below(child))]
