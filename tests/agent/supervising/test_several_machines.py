"""Agents of several machines that carry one run: here on loopback addresses, each with a state folder of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from runctl.agent.encoding import to_json
from runctl.agent.end_reason import EndReason
from runctl.agent.node_spec import NodeSpec
from tests.agent.driver import Agent, Machines, until

pytestmark = pytest.mark.linux

WAITS = "import os, time\nprint('rank', os.environ['RUNCTL_NODE_RANK'])\nwhile True: time.sleep(0.1)\n"


def free_port() -> int:
    with socket.socket() as asking:
        asking.bind(("127.0.0.1", 0))
        return int(asking.getsockname()[1])


def start(agents: list[Agent], script: str, *, node: dict[str, Any] | None = None, **more: Any) -> None:
    """The script is started on all of them as one run."""
    addresses = tuple(f"127.0.0.{10 + rank}" for rank in range(len(agents)))
    ports = free_port(), free_port()
    for rank, agent in enumerate(agents):
        agent.sync({"train.py": script})
        spec = NodeSpec(rank, addresses, "none", "secret", *ports, **(node or {}))
        agent.start("r", "train.py", node=to_json(spec), **more)


def test_all_start_together_and_rank_0_ends_last(machines: Machines) -> None:
    agents = machines(3)
    start(
        agents,
        "import os, time\n"
        "rank = int(os.environ['RANK'])\n"
        "time.sleep(rank)\n"
        "print(os.environ['RUNCTL_NODE_ADDRESSES'], os.environ['MASTER_ADDR'], rank)\n",
    )
    ends = [agent.ended("r") for agent in agents]
    assert [end.reason for end in ends] == [EndReason.COMPLETED] * 3
    assert [end.caused_by for end in ends] == [None] * 3
    assert ends[0].ended_at >= ends[2].ended_at - 1.0
    assert agents[2].output("r") == ["127.0.0.10,127.0.0.11,127.0.0.12 127.0.0.10 2"]


def test_a_script_that_fails_on_one_rank_ends_the_others(machines: Machines) -> None:
    agents = machines(3)
    start(agents, "import os, sys\nif os.environ['RANK'] == '1': sys.exit(3)\n" + WAITS)
    ends = [agent.ended("r") for agent in agents]
    assert [end.reason for end in ends] == [EndReason.STOPPED, EndReason.FAILED, EndReason.STOPPED]
    assert [end.caused_by for end in ends] == [1, None, 1]
    assert ends[1].exit_code == 3
    assert ends[0].message == "node 1: the script failed with exit code 3"


def test_every_machine_puts_its_log_and_its_end_into_the_store_and_rank_0_the_checkpoints(
    machines: Machines, tmp_path: Path
) -> None:
    agents = machines(2)
    script = (
        "import os, pathlib, sys, time\n"
        "rank = os.environ['RANK']\n"
        "print('this is', rank)\n"
        "pathlib.Path(os.environ['RUNCTL_CHECKPOINT_DIR'], 'of-' + rank + '.json').write_text('{}')\n"
        "if rank == '1': sys.exit(3)\n"
        "while True: time.sleep(0.1)\n"
    )
    (tmp_path / "store").mkdir()
    start(agents, script, store={"url": str(tmp_path / "store")})
    for agent in agents:
        agent.ended("r")
    prefix = tmp_path / "store" / "r"
    of_rank_1 = prefix / "attempts" / "0001" / "nodes" / "0001"
    folders = (of_rank_1.parents[1], of_rank_1)
    for rank, folder in enumerate(folders):
        log = "".join(piece.read_text() for piece in sorted((folder / "log").iterdir()))
        assert f"this is {rank}" in log
    ends = [json.loads((folder / "end.json").read_bytes()) for folder in folders]
    told = [(end["reason"], end.get("caused_by"), end.get("cause")) for end in ends]
    assert told == [("STOPPED", 1, "FAILED"), ("FAILED", None, None)]
    manifests = [json.loads(path.read_bytes())["name"] for path in (prefix / "checkpoints").glob("*.json")]
    assert set(manifests) <= {"of-0.json"}


@pytest.mark.parametrize("rank", [0, 1])
def test_stopping_one_stops_all(machines: Machines, rank: int) -> None:
    agents = machines(2)
    start(agents, WAITS)
    for agent in agents:
        agent.says("r", "rank")
    agents[rank].stop("r")
    ends = [agent.ended("r") for agent in agents]
    assert [end.reason for end in ends] == [EndReason.STOPPED] * 2
    assert ends[1 - rank].caused_by == rank


def test_the_time_limit_is_one_for_all(machines: Machines) -> None:
    agents = machines(2)
    start(agents, WAITS, timeout_seconds=2.0)
    assert [agent.ended("r").reason for agent in agents] == [EndReason.TIME_LIMIT] * 2


@pytest.mark.parametrize("rank", [0, 1])
def test_a_machine_that_falls_silent_is_named_by_the_others_and_ends_when_it_comes_back(
    machines: Machines, rank: int
) -> None:
    agents = machines(3)
    start(agents, WAITS, node={"silence_seconds": 3.0})
    for agent in agents:
        agent.says("r", "rank")
    supervisor = agents[rank].supervisor("r")
    others = [agent for number, agent in enumerate(agents) if number != rank]
    os.kill(supervisor, signal.SIGSTOP)
    try:
        for agent in others:
            until(lambda agent=agent: "has been silent" in agent.log("r"), "the silence is noticed")  # type: ignore[misc]
            if rank == 0:
                agent.ended("r")
    finally:
        os.kill(supervisor, signal.SIGCONT)
    ends = [agent.ended("r") for agent in others]
    assert {(end.caused_by, end.run_reason) for end in ends} == {(rank, EndReason.LOST)}
    assert all(f"node {rank} (127.0.0.{10 + rank}) has been silent" in end.message for end in ends)
    come_back = agents[rank].ended("r")
    assert come_back.run_reason is EndReason.LOST
    assert come_back.caused_by in ({1, 2} if rank == 0 else {None})


def test_a_script_that_fails_because_a_machine_is_gone_says_so(machines: Machines) -> None:
    agents = machines(2)
    start(
        agents,
        "import os, sys, time\nprint('rank', flush=True)\n"
        "while not os.path.exists(os.environ['RUNCTL_OUTPUT_DIR'] + '/reset'): time.sleep(0.1)\nsys.exit(1)\n",
        node={"silence_seconds": 4.0},
    )
    for agent in agents:
        agent.says("r", "rank")
    supervisor = agents[1].supervisor("r")
    os.kill(supervisor, signal.SIGSTOP)
    try:
        (agents[0].state / "runs/r/output/reset").touch()
        end = agents[0].ended("r")
    finally:
        os.kill(supervisor, signal.SIGCONT)
    assert (end.reason, end.exit_code, end.caused_by) == (EndReason.FAILED, 1, 1)
    assert end.message.startswith("node 1 (127.0.0.11) has been silent")


def test_a_machine_that_never_starts_is_named_and_nothing_begins(machines: Machines) -> None:
    agents = machines(2)
    addresses = ("127.0.0.10", "127.0.0.11")
    spec = NodeSpec(0, addresses, "none", "secret", free_port(), free_port(), join_seconds=2.0)
    agents[0].sync({"train.py": WAITS})
    agents[0].start("r", "train.py", node=to_json(spec))
    end = agents[0].ended("r")
    assert end.caused_by == 1
    assert "node 1 (127.0.0.11) did not report" in end.message
    assert agents[0].output("r") == []


def test_who_does_not_know_the_secret_is_not_listened_to(machines: Machines) -> None:
    agents = machines(2)
    start(agents, WAITS)
    for agent in agents:
        agent.says("r", "rank")
    port = agents[0].call("status", {"run_id": "r"}).ok and _group_port(agents[0])
    with socket.create_connection(("127.0.0.10", port)) as stranger:
        stranger.sendall(b'{"key": "guess", "rank": 1, "state": "ended", "cause": null}\n')
        assert stranger.recv(100) == b""
    agents[1].stop("r")
    assert agents[0].ended("r").caused_by == 1


def _group_port(agent: Agent) -> int:
    import json

    spec = json.loads((agent.folder("r") / "spec.json").read_text())
    return int(spec["node"]["group_port"])


def test_a_notice_on_one_machine_has_all_save(machines: Machines) -> None:
    agents = machines(2)
    start(
        agents,
        "import os, signal, sys, time\n"
        "def save(*_):\n"
        "    open(os.environ['RUNCTL_CHECKPOINT_DIR'] + '/last.txt', 'w').write('saved')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save)\nprint('rank')\nwhile True: time.sleep(0.05)\n",
    )
    for agent in agents:
        agent.says("r", "rank")
    agents[1].call("interrupt", {"run_id": "r", "notice_seconds": 60.0})
    ends = [agent.ended("r") for agent in agents]
    assert [end.reason for end in ends] == [EndReason.INTERRUPTED] * 2
    assert [end.caused_by for end in ends] == [1, None]
    assert ends[0].hand_off is None
    assert all((agent.state / "runs/r/checkpoints/last.txt").read_text() == "saved" for agent in agents)


def test_with_enough_left_the_others_go_on(machines: Machines) -> None:
    agents = machines(3)
    start(
        agents,
        "import os, time\nprint('rank')\n"
        "while not os.path.exists(os.environ['RUNCTL_OUTPUT_DIR'] + '/done'): time.sleep(0.1)\n",
        node={"least": 2},
    )
    for agent in agents:
        agent.says("r", "rank")
    agents[2].call("interrupt", {"run_id": "r", "notice_seconds": 60.0})
    assert agents[2].ended("r").reason is EndReason.INTERRUPTED
    until(lambda: "node 2 is gone; the run goes on without it" in agents[1].log("r"), "the loss is noticed")
    for agent in agents[:2]:
        (agent.state / "runs/r/output/done").touch()
    assert [agent.ended("r").reason for agent in agents[:2]] == [EndReason.COMPLETED] * 2


def test_an_engine_whose_package_is_missing_says_what_to_add(machines: Machines) -> None:
    (agent,) = machines(1)
    spec = NodeSpec(0, ("127.0.0.10",), "torchrun", "secret", free_port(), free_port())
    agent.sync({"train.py": WAITS})
    agent.start("r", "train.py", node=to_json(spec))
    end = agent.ended("r")
    assert end.reason is EndReason.SETUP_FAILED
    assert "torchrun needs the package torch" in end.message
    assert "add torch to the project's dependencies" in end.message
