"""What each engine makes of a script."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runctl.agent.attempt.distributed import when_lost
from runctl.agent.attempt.node_group import WhenLost
from runctl.agent.engines import ENGINES, Host, ScriptStart, check_node, engine_of, ray_node
from runctl.agent.engines.interface import shared_variables
from runctl.agent.errors import AgentError
from runctl.agent.node_spec import NodeSpec

ADDRESSES = ("10.0.0.4", "10.0.0.5", "10.0.0.6")
SECRET = "5fd924625f6ab16a19cc9807c7c506ae"


def node(rank: int = 1, engine: str = "torchrun", least: int = 0, options: tuple[str, ...] = ()) -> NodeSpec:
    return NodeSpec(
        rank, ADDRESSES, engine, SECRET, group_port=29390, engine_port=29400, least=least, options=options
    )


def options_of(argv: list[str]) -> dict[str, str]:
    """torchrun's own: what stands before the script."""
    own = argv[: argv.index("train.py")]
    return dict(word[2:].split("=", 1) for word in own if word.startswith("--") and "=" in word)


SCRIPT = ("/env/bin/python", "-u", "train.py", "--nnodes=7", "--", "-m", "x y")


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_torchrun_has_our_ranks_and_says_addresses_instead_of_names(rank: int) -> None:
    argv = ENGINES["torchrun"].command(ScriptStart(node(rank), Host(gpus=8, cpus=96), SCRIPT, SCRIPT[0]))
    options = options_of(argv)
    assert argv[:4] == ["/env/bin/python", "-u", "-m", "torch.distributed.run"]
    assert options["rdzv-endpoint"] == "10.0.0.4:29400"
    assert (options["local-addr"], options["node-rank"]) == (ADDRESSES[rank], str(rank))
    assert (options["nnodes"], options["nproc-per-node"]) == ("3", "8")


def test_without_one_that_is_gone_the_machines_left_have_ranks_in_the_order_that_they_had() -> None:
    left = node(2, least=2).without([1])
    assert (left.rank, left.count, left.addresses, left.enough) == (1, 2, ADDRESSES[::2], 2)
    options = options_of(ENGINES["torchrun"].command(ScriptStart(left, Host(), SCRIPT, SCRIPT[0])))
    assert (options["nnodes"], options["node-rank"], options["rdzv-backend"]) == ("2", "1", "static")
    assert (options["rdzv-endpoint"], options["max-restarts"]) == ("10.0.0.4:29400", "0")


@pytest.mark.parametrize(
    ("engine", "has_store", "then"),
    [
        ("none", False, WhenLost.GO_ON),
        ("ray", True, WhenLost.GO_ON),
        ("torchrun", True, WhenLost.RESTART),
        ("torchrun", False, WhenLost.ALL_END),
    ],
)
def test_what_the_others_do_without_a_machine_is_the_engines_affair(
    engine: str, has_store: bool, then: WhenLost
) -> None:
    assert when_lost(node(engine=engine), has_store=has_store) is then


def test_the_scripts_own_arguments_stay_as_they_are() -> None:
    argv = ENGINES["torchrun"].command(ScriptStart(node(), Host(cpus=4), SCRIPT, SCRIPT[0]))
    assert tuple(argv[argv.index("train.py") :]) == SCRIPT[2:]
    assert "--no-python" not in argv


def test_a_program_that_is_not_a_python_script_is_run_as_it_is() -> None:
    argv = ENGINES["torchrun"].command(ScriptStart(node(), Host(), ("./train.sh", "a")))
    assert argv[-3:] == ["--no-python", "./train.sh", "a"]
    assert argv[0] == "python3"


def test_one_process_for_each_processor_where_there_is_no_gpu() -> None:
    start = ScriptStart(node(), Host(cpus=4), SCRIPT, SCRIPT[0])
    assert options_of(ENGINES["torchrun"].command(start))["nproc-per-node"] == "4"
    assert ENGINES["torchrun"].variables(start)["OMP_NUM_THREADS"] == "1"


def test_the_users_own_options_of_the_engine_come_last_and_so_count() -> None:
    start = ScriptStart(node(options=("--nproc-per-node", "1")), Host(cpus=4), SCRIPT, SCRIPT[0])
    argv = ENGINES["torchrun"].command(start)
    assert argv[argv.index("train.py") - 2 : argv.index("train.py")] == ["--nproc-per-node", "1"]


def test_without_an_engine_the_script_finds_the_others_in_its_environment() -> None:
    start = ScriptStart(node(2, "none"), Host(interface="ens5"), SCRIPT, SCRIPT[0])
    assert ENGINES["none"].command(start) == list(SCRIPT)
    found = {**shared_variables(start), **ENGINES["none"].variables(start)}
    assert found == {
        "RUNCTL_NODE_RANK": "2",
        "RUNCTL_NODES": "3",
        "RUNCTL_NODES_LEAST": "3",
        "RUNCTL_NODE_ADDRESS": "10.0.0.6",
        "RUNCTL_NODE_ADDRESSES": "10.0.0.4,10.0.0.5,10.0.0.6",
        "GLOO_SOCKET_IFNAME": "ens5",
        "NCCL_SOCKET_IFNAME": "ens5",
        "MASTER_ADDR": "10.0.0.4",
        "MASTER_PORT": "29400",
        "NODE_RANK": "2",
        "GROUP_RANK": "2",
        "RANK": "2",
        "WORLD_SIZE": "3",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
    }


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (node(engine="mpi"), "no engine 'mpi'"),
        (node(rank=3), "no rank 3"),
        (node(least=4), "4 of 3 machines"),
        (NodeSpec(0, ("10.0.0.4", "10.0.0.4"), "none", "s", 1, 2), "the same address"),
    ],
)
def test_a_node_that_cannot_be_started_is_refused(spec: NodeSpec, why: str) -> None:
    with pytest.raises(AgentError, match=why):
        check_node(spec)


def test_every_engine_says_what_to_do_where_its_package_is_missing() -> None:
    for name in ENGINES:
        engine = engine_of(node(engine=name))
        assert bool(engine.module) == bool(engine.missing)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("least", [0, 2])
def test_no_part_of_the_machines_secret_is_where_other_users_of_a_machine_see_it(
    engine: str, least: int
) -> None:
    start = ScriptStart(node(0, engine, least=least), Host(), SCRIPT, SCRIPT[0])
    shown = " ".join([*ENGINES[engine].command(start), *ENGINES[engine].variables(start).values()])
    assert not [at for at in range(len(SECRET) - 5) if SECRET[at : at + 6] in shown]


def test_the_machines_of_one_attempt_have_an_id_in_common_and_those_of_another_have_not() -> None:
    ids = {node(rank, least=2).group_id for rank in (0, 1, 2)}
    assert len(ids) == 1
    assert NodeSpec(0, ADDRESSES, "torchrun", "another", 1, 2).group_id not in ids


@pytest.mark.parametrize("rank", [0, 2])
def test_ray_runs_the_script_as_it_is_by_the_scripts_own_python(rank: int) -> None:
    start = ScriptStart(
        node(rank, "ray", least=2, options=("--num-cpus", "1")), Host(cpus=4), SCRIPT, SCRIPT[0]
    )
    python, unbuffered, flag, program, told, *script = ENGINES["ray"].command(start)
    assert (python, unbuffered, flag) == ("/env/bin/python", "-u", "-c")
    assert tuple(script) == SCRIPT
    compile(program, "ray_node.py", "exec")
    assert json.loads(told) == {
        "rank": rank,
        "count": 3,
        "enough": 2,
        "address": ADDRESSES[rank],
        "head": ADDRESSES[0],
        "port": 29400,
        "folder": json.loads(told)["folder"],
        "options": ["--num-cpus", "1"],
    }
    assert ENGINES["ray"].variables(start)["RAY_ADDRESS"] == "10.0.0.4:29400"
    assert ENGINES["ray"].command(ScriptStart(node(0, "ray"), Host(), ("./t.sh",)))[0] == "python3"


def test_the_parts_of_ray_wait_for_each_other_for_as_long_as_machines_do_unless_somebody_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"rank": 0, "count": 2, "enough": 2, "address": "10.0.0.4", "head": "10.0.0.4", "port": 1}
    here = ray_node.Node({**told, "options": [], "folder": str(tmp_path / "ray")})
    seen: dict[str, str] = {}

    def popen(_: list[str], **options: Any) -> None:
        seen.update(options["env"])

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "7")
    here.start("--head")
    waits = {name: seen[name] for name in ray_node.PATIENCE}
    assert waits == {
        "RAY_gcs_server_port_wait_time_s": "300",
        "RAY_agent_register_timeout_ms": "300000",
        "RAY_raylet_start_wait_time_s": "7",
    }
    assert seen["PATH"] == os.environ["PATH"]
