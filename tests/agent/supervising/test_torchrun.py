"""The real torchrun over agents on loopback addresses: DistributedDataParallel on digits, and machines that are lost.

PyTorch is installed from the package index into an environment of its own.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runctl.agent.encoding import to_json
from runctl.agent.end_reason import EndReason
from runctl.agent.node_spec import NodeSpec
from tests.agent.driver import Agent, lose, until
from tests.agent.supervising.test_several_machines import free_port
from tests.package_environments import environment_with

pytestmark = [pytest.mark.linux, pytest.mark.slow, pytest.mark.timeout(1800, func_only=True)]

EXAMPLE = Path(__file__).parents[3] / "examples/digits-ddp"
SCRIPT = (EXAMPLE / "train.py").read_text()
REQUIREMENTS = (EXAMPLE / "requirements.txt").read_text().split()
LOSS = re.compile(r"^step (\d+) loss ([\d.]+)$")
BEGUN = re.compile(r"^process (\d) of (\d) begins at step (\d+)$", re.MULTILINE)
ENDLESS = ("--steps", "1000000", "--every", "10")
SECRET = "5fd924625f6ab16a19cc9807c7c506ae"
Machines = Callable[[int], "list[Agent]"]
IMPORT_SECONDS = 240.0
"""PyTorch takes long to be imported by several processes of a busy computer."""


def changed(before: str, *lines: str) -> str:
    """The example with more lines before that one."""
    assert SCRIPT.count(before) == 1
    indent = before[: len(before) - len(before.lstrip())]
    return SCRIPT.replace(before, "".join(f"{indent}{line}\n" for line in lines) + before)


STAYS_AWAY = changed(
    "    dist.init_process_group(",
    'print("stays away" if os.environ["RANK"] == "1" else "goes to the rendezvous", flush=True)',
    'while os.environ["RANK"] == "1": signal.pause()',
)
TEARS = changed(
    "    partial.replace(path)",
    "if step == 20 and not os.environ['RUNCTL_RESUME_FROM']:",
    "    path.write_bytes(partial.read_bytes()[:1000])",
    "    print(path.name, 'is half there', flush=True)",
    "    signal.pause()",
)
FAILS = changed(
    "        optimizer.zero_grad()", "if (rank, step) == (1, 5): raise ValueError('rank 1 alone')"
)


@pytest.fixture(scope="session")
def torch_python() -> Path:
    """Of an environment that has what the example needs."""
    return environment_with(REQUIREMENTS) / "bin/python"


@pytest.fixture
def machines(built: Path, unpacked: Path, tmp_path: Path, torch_python: Path) -> Iterator[Machines]:
    made: list[Agent] = []
    path = f"{torch_python.parent}:{os.environ['PATH']}"

    def make(count: int) -> list[Agent]:
        for _ in range(count):
            state = tmp_path / str(len(made))
            state.mkdir()
            shutil.copytree(unpacked, state / "bin", symlinks=True, copy_function=os.link)
            env = {"PATH": path, "RUNCTL_MACHINE_ROOT": str(state)}
            made.append(Agent(state / "bin" / built.name, state, env=env, limit_seconds=IMPORT_SECONDS))
        return made[-count:]

    yield make
    for agent in made:
        agent.end_everything()


def start(
    agents: list[Agent],
    *args: str,
    script: str = SCRIPT,
    least: int = 0,
    silence: float = 5.0,
    **more: Any,
) -> None:
    addresses = tuple(f"127.0.0.{20 + rank}" for rank in range(len(agents)))
    ports = free_port(), free_port()
    for rank, agent in enumerate(agents):
        agent.sync({"train.py": script})
        node = NodeSpec(
            rank,
            addresses,
            "torchrun",
            SECRET,
            *ports,
            least=least,
            options=("--nproc-per-node", "1"),
            silence_seconds=silence,
        )
        agent.start("r", "train.py", *args, node=to_json(node), env={"OMP_NUM_THREADS": "1"}, **more)


def shared(agents: list[Agent], tmp_path: Path) -> dict[str, str]:
    """A store that all see: each of these machines has a root of its own."""
    (tmp_path / "store").mkdir(exist_ok=True)
    for agent in agents:
        (agent.state / "store").symlink_to(tmp_path / "store")
    return {"url": "/store"}


def losses(agent: Agent) -> dict[int, float]:
    found = [LOSS.match(line) for line in agent.output("r")]
    return {int(match.group(1)): float(match.group(2)) for match in found if match}


def loss_of_one(machines: Machines, steps: int) -> float:
    (agent,) = machines(1)
    start([agent], "--steps", str(steps), "--every", str(steps))
    assert agent.ended("r").reason is EndReason.COMPLETED
    return losses(agent)[steps]


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
    start(agents, *ENDLESS)
    agents[0].says("r", says)
    lose(agents[1], "r")
    end = agents[0].ended("r")
    assert end.caused_by == 1
    assert end.message.startswith("node 1 (127.0.0.21) has been silent")


def test_a_machine_that_is_lost_before_the_others_meet_it_is_named(machines: Machines) -> None:
    agents = machines(2)
    start(agents, "--steps", "5", silence=3.0)
    until(lambda: agents[1].live("r").get("supervisor"), "node 1 is heard")
    lose(agents[1], "r")
    end = agents[0].ended("r")
    assert end.caused_by == 1


def test_a_machine_that_is_lost_while_the_others_wait_for_it_in_the_rendezvous_is_named(
    machines: Machines,
) -> None:
    agents = machines(2)
    start(agents, "--steps", "5", script=STAYS_AWAY)
    agents[0].says("r", "goes to the rendezvous")
    agents[1].says("r", "stays away")
    lose(agents[1], "r")
    end = agents[0].ended("r")
    assert (end.reason, end.caused_by) == (EndReason.STOPPED, 1)
    assert "has been silent" in end.message


def test_where_a_machine_is_lost_the_others_go_on_to_the_loss_of_one(
    machines: Machines, tmp_path: Path
) -> None:
    steps = 1500
    agents = machines(3)
    store = shared(agents, tmp_path)
    start(agents, "--steps", str(steps), "--every", "100", least=2, store=store)
    agents[0].says("r", "step 220 loss")
    until(lambda: list((tmp_path / "store/r").glob("checkpoints/*")), "a checkpoint is in the store", 240)
    lose(agents[1], "r")
    left = [agents[0], agents[2]]
    assert [agent.ended("r").reason for agent in left] == [EndReason.COMPLETED] * 2
    begun = [BEGUN.findall(agent.log("r")) for agent in left]
    assert [each[-1][:2] for each in begun] == [("0", "2"), ("1", "2")]
    (step,) = {each[-1][2] for each in begun}
    assert int(step) >= 100
    assert losses(agents[0])[steps] == pytest.approx(loss_of_one(machines, steps), abs=1e-6)


def test_a_machine_that_is_lost_inside_a_checkpoint_costs_that_one_only(
    machines: Machines, tmp_path: Path
) -> None:
    agents = machines(2)
    store = shared(agents, tmp_path)
    start(agents, "--steps", "60", script=TEARS, store=store)
    agents[0].says("r", "step-20.pt is half there")
    until(lambda: list((tmp_path / "store/r").glob("checkpoints/*")), "a checkpoint is in the store", 240)
    lose(agents[0], "r")
    end = agents[1].ended("r")
    assert (end.caused_by, end.message[:18]) == (0, "node 0 (127.0.0.20")

    others = machines(2)
    shared(others, tmp_path)
    start(others, "--steps", "60", script=TEARS, store=store, attempt=2)
    assert [agent.ended("r").reason for agent in others] == [EndReason.COMPLETED] * 2
    assert [BEGUN.findall(agent.log("r")) for agent in others] == [[("0", "2", "10")], [("1", "2", "10")]]
    assert losses(others[0])[60] == pytest.approx(loss_of_one(machines, 60), abs=1e-6)


def test_a_script_that_fails_on_one_rank_ends_the_others_with_its_error(machines: Machines) -> None:
    agents = machines(2)
    start(agents, *ENDLESS, script=FAILS)
    ends = [agent.ended("r") for agent in agents]
    assert [(end.reason, end.caused_by) for end in ends] == [
        (EndReason.STOPPED, 1),
        (EndReason.FAILED, None),
    ]
    assert ends[1].exit_code == 1
    assert "ValueError: rank 1 alone" in agents[1].log("r")


# The time limit is another reason for the same; test_several_machines.py asks for it.
def test_where_one_machine_is_stopped_rank_0_saves(machines: Machines) -> None:
    agents = machines(2)
    start(agents, "--steps", "1000000", "--every", "1000000", grace_seconds=30.0)
    agents[0].says("r", "step 20 loss")
    agents[1].stop("r")
    assert [agent.ended("r").reason for agent in agents] == [EndReason.STOPPED] * 2
    assert len(list((agents[0].state / "runs/r/checkpoints").glob("step-*.pt"))) == 1


def test_the_machines_secret_is_in_no_process_that_others_see(machines: Machines) -> None:
    agents = machines(2)
    start(agents, *ENDLESS)
    agents[0].says("r", "step 1 loss")
    shown = [path.read_bytes() for path in _command_lines()]
    assert any(b"torch.distributed.run" in each and b"127.0.0.21" in each for each in shown)
    assert not [each for each in shown if SECRET[:8].encode() in each]


def _command_lines() -> list[Path]:
    """Of the processes that there are; one that ends meanwhile has an empty one."""
    return [folder / "cmdline" for folder in Path("/proc").glob("[0-9]*") if (folder / "exe").is_symlink()]
