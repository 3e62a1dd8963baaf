"""A run on several machines whose script begins again on those that are left, as torchrun's has to.

The agents are real, on loopback addresses, with a folder that all see as the run's store. In torchrun's place is a
program that knows its ranks and runs the script; tests/agent/supervising/test_torchrun.py has the real one.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runctl.agent.encoding import to_json
from runctl.agent.end_reason import EndReason
from runctl.agent.node_spec import NodeSpec
from tests.agent.driver import Agent, Machines, lose, until
from tests.agent.supervising.test_several_machines import free_port

pytestmark = pytest.mark.linux


TORCHRUN = """\
import os, runpy, sys
own = [word for word in sys.argv[1:] if word.startswith("--")]
known = dict(word[2:].split("=", 1) for word in own)
os.environ.update(RANK=known["node-rank"], WORLD_SIZE=known["nnodes"], MASTER=known["rdzv-endpoint"])
sys.argv = sys.argv[1 + len(own):]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
TRAIN = """\
import os, pathlib, signal, sys, time
rank, size = int(os.environ["RANK"]), os.environ["WORLD_SIZE"]
folder, output = (pathlib.Path(os.environ[name]) for name in ("RUNCTL_CHECKPOINT_DIR", "RUNCTL_OUTPUT_DIR"))
resume = os.environ["RUNCTL_RESUME_FROM"]
step = int(pathlib.Path(resume).read_text()) if resume else 0
print(f"rank {rank} of {size} begins at {step}", flush=True)

def save(*_):
    if rank == 0:
        partial = folder / ".partial"
        partial.write_text(str(step))
        partial.rename(folder / f"step-{step}.txt")
        print("saved", step, flush=True)
    else:
        # What another rank has in its folder is its own.
        (folder / "own-999.txt").write_text("999")

def end(*_):
    if "torn" in sys.argv:
        for path in folder.glob("*"):
            path.unlink()
    else:
        save()
    sys.exit(143)

signal.signal(signal.SIGTERM, signal.SIG_IGN if "hangs" in sys.argv else end)
while not (output / "done").exists():
    time.sleep(0.05)
    step += 1
    if step == 5:
        save()
    if (output / f"reset-{size}").exists():
        sys.exit(1)
"""


@pytest.fixture(autouse=True)
def torchrun(tmp_path: Path) -> None:
    """A package that stands for torch, beside the machines."""
    package = tmp_path / "packages/torch/distributed"
    package.mkdir(parents=True)
    for name in ("../__init__.py", "__init__.py", "run.py"):
        (package / name).write_text(TORCHRUN if name == "run.py" else "")


def start(agents: list[Agent], tmp_path: Path, *args: str, least: int, store: bool = True) -> None:
    addresses = tuple(f"127.0.0.{30 + rank}" for rank in range(len(agents)))
    ports = free_port(), free_port()
    (tmp_path / "store").mkdir()
    for rank, agent in enumerate(agents):
        agent.sync({"train.py": TRAIN})
        node = NodeSpec(rank, addresses, "torchrun", "s" * 32, *ports, least=least, silence_seconds=3.0)
        agent.start(
            "r",
            "train.py",
            *args,
            node=to_json(node),
            env={"PYTHONPATH": str(tmp_path / "packages")},
            store={"url": str(tmp_path / "store")} if store else None,
        )
    agents[0].says("r", "saved 5")
    for agent in agents[1:]:
        agent.says("r", "begins")


def finish(agents: list[Agent]) -> None:
    for agent in agents:
        (agent.state / "runs/r/output/done").touch()
    assert [agent.ended("r").reason for agent in agents] == [EndReason.COMPLETED] * len(agents)


def begun(agent: Agent) -> list[tuple[int, ...]]:
    """Rank, number of machines and step of each time that the script has begun."""
    found = re.findall(r"^rank (\d) of (\d) begins at (\d+)$", agent.log("r"), re.MULTILINE)
    return [tuple(map(int, each)) for each in found]


@pytest.mark.parametrize(
    "then",
    [pytest.param("hangs", marks=pytest.mark.slow), pytest.param("torn", marks=pytest.mark.slow), "fails"],
)
def test_after_a_loss_without_notice_the_others_begin_again_from_one_checkpoint(
    machines: Machines, tmp_path: Path, then: str
) -> None:
    agents = machines(3)
    start(agents, tmp_path, *([] if then == "fails" else [then]), least=2)
    until(lambda: list((tmp_path / "store/r").glob("checkpoints/*")), "a checkpoint is in the store")
    lose(agents[1], "r")
    if then != "hangs":
        # As a script does whose connection to the lost one is reset.
        (agents[2].state / "runs/r/output/reset-3").touch()
    left = [agents[0], agents[2]]
    for agent in left:
        agent.says("r", "of 2 begins at")
    finish(left)
    steps = {begun(agent)[-1][2] for agent in left}
    assert [begun(agent)[-1][:2] for agent in left] == [(0, 2), (1, 2)]
    assert [len(begun(agent)) for agent in left] == [2, 2]
    assert len(steps) == 1
    assert min(steps) >= 5 if then == "fails" else steps == {5}
    assert "node 1 is gone: the script begins again without it" in agents[0].log("r")


def test_at_a_notice_all_save_and_the_others_begin_again_from_that(
    machines: Machines, tmp_path: Path
) -> None:
    agents = machines(2)
    start(agents, tmp_path, least=1)
    agents[1].call("interrupt", {"run_id": "r", "notice_seconds": 60.0})
    assert agents[1].ended("r").reason is EndReason.INTERRUPTED
    agents[0].says("r", "rank 0 of 1 begins at")
    finish(agents[:1])
    last = max(
        int(path.stem.partition("-")[2]) for path in (agents[0].state / "runs/r/checkpoints").glob("*")
    )
    assert begun(agents[0]) == [(0, 2, 0), (0, 1, last)]
    assert last > 5


# How these are decided, tests/agent/attempt/test_node_group.py asks.
@pytest.mark.slow
def test_a_failure_ends_what_has_begun_again(machines: Machines, tmp_path: Path) -> None:
    agents = machines(3)
    start(agents, tmp_path, least=1)
    lose(agents[2], "r")
    for agent in agents[:2]:
        agent.says("r", "of 2 begins at")
    (agents[1].state / "runs/r/output/reset-2").touch()
    ends = [agent.ended("r") for agent in agents[:2]]
    assert [(end.reason, end.caused_by) for end in ends] == [
        (EndReason.STOPPED, 1),
        (EndReason.FAILED, None),
    ]


@pytest.mark.slow
def test_without_a_store_the_others_end_with_the_one_that_is_gone(machines: Machines, tmp_path: Path) -> None:
    agents = machines(2)
    start(agents, tmp_path, least=1, store=False)
    lose(agents[1], "r")
    end = agents[0].ended("r")
    assert (end.reason, end.caused_by) == (EndReason.STOPPED, 1)
    assert "has been silent" in end.message
