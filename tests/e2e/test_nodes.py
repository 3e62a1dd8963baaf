"""One run on several machines, from the command line: started, followed, stopped, ended by one of them, recovered."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import boto3
import pytest

from runctl.sandbox.fault_client import Faults
from tests.agent.supervising.test_restarting import TORCHRUN
from tests.e2e.command_line import CommandLine, Outcome, until
from tests.e2e.test_deadlines import PATTERN, TRAIN
from tests.e2e.test_renting_nodes import NOTHING, left

pytestmark = [pytest.mark.namespaces, pytest.mark.usefixtures("clean_account")]

ON_TWO = ("--nodes", "2", "--engine", "none", "--instance-type", "m5.large", "--yes")

SCRIPT = """\
import os, signal, sys, time
rank, folder = os.environ["RUNCTL_NODE_RANK"], os.environ["RUNCTL_CHECKPOINT_DIR"]
found = os.environ["RUNCTL_RESUME_FROM"]
step = int(open(found).read()) if found else 0
print("rank", rank, "begins at", step, "with", os.environ["RUNCTL_NODE_ADDRESSES"], flush=True)

def save(*_):
    path = folder + "/step-" + str(step) + ".txt"
    with open(path + ".partial", "w") as file:
        file.write(str(step))
    os.rename(path + ".partial", path)

def end(*_):
    save()
    sys.exit(0)

signal.signal(signal.SIGTERM, end)
steps, failing = int(sys.argv[1]), sys.argv[2:]
while step < steps:
    time.sleep(0.1)
    step += 1
    if rank in failing:
        sys.exit(3)
    if step == 5:
        save()
with open(os.environ["RUNCTL_OUTPUT_DIR"] + "/rank", "w") as file:
    file.write(rank)
print("done", step, flush=True)
"""


RESTARTS = """\
import os, pathlib, socket, time
rank, size, folder = os.environ["RANK"], os.environ["WORLD_SIZE"], pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"])
resume = os.environ["RUNCTL_RESUME_FROM"]
begin = int(pathlib.Path(resume).read_text()) if resume else 0
print(f"rank {rank} of {size} begins at {begin}", flush=True)
if size == "3":
    named = [socket.gethostbyname(f"runctl-node-{node}") for node in range(3)]
    print("names lead to all:", named == os.environ["RUNCTL_NODE_ADDRESSES"].split(","), flush=True)
for step in range(begin + 1, 100000 if size == "3" else begin + 20):
    time.sleep(0.1)
    if rank == "0" and step % 5 == 0:
        partial = folder / ".partial"
        partial.write_text(str(step))
        partial.rename(folder / f"step-{step}.txt")
"""


@pytest.fixture
def script(runctl: CommandLine) -> CommandLine:
    (runctl.cwd / "nodes.py").write_text(SCRIPT)
    return runctl


def nodes_of(runctl: CommandLine) -> list[dict[str, Any]]:
    shown = runctl("runs", "show", "latest", "--output", "json").ok().json
    nodes: list[dict[str, Any]] = shown["nodes"]
    return nodes


def test_two_machines_are_one_run_with_one_log_and_the_results_of_rank_0(
    script: CommandLine, ec2: Any
) -> None:
    done = script("aws", "launch", "nodes.py", *ON_TWO, "--no-checkpoint", "--wait", "--", "10").ok()

    addresses = {line.partition("with ")[2] for line in done.out.splitlines() if "begins at 0" in line}
    assert len(addresses) == 1
    assert {"[0] done 10", "[1] done 10"} <= set(done.out.splitlines())
    (rank,) = (script.cwd / "results").glob("*/output/rank")
    assert rank.read_text() == "0"
    assert left(ec2) == NOTHING
    assert [(node["rank"], node["end_reason"]) for node in nodes_of(script)] == [
        (0, "COMPLETED"),
        (1, "COMPLETED"),
    ]
    assert ",".join(node["address"] for node in nodes_of(script)) in addresses
    assert len(script("runs", "list", "--output", "json").ok().json) == 1
    # Kept here, though the machines are gone.
    one = script("runs", "logs", "latest", "--node", "1").ok().out.splitlines()
    assert "done 10" in one
    assert not any(line.startswith("[0]") for line in one)


def test_results_that_are_brought_later_come_with_every_machines_log_and_give_all_machines_back(
    script: CommandLine, ec2: Any
) -> None:
    script("aws", "launch", "nodes.py", *ON_TWO, "--no-checkpoint", "--", "10").ok()
    until(lambda: all(node["state"] == "ended" for node in nodes_of(script)), what="both have ended")
    machines = [node["instance_id"] for node in nodes_of(script)]
    assert set(left(ec2)["instances"]) == set(machines)
    for each in machines:
        assert len(script("runs", "list", "--instance", each, "--output", "json").ok().json) == 1
    logs = [script("aws", "logs", each, "--no-follow").ok().out for each in machines]
    assert [f"rank {rank} begins" in log for rank, log in enumerate(logs)] == [True, True]

    folder = Path(script("runs", "results", "latest", "--output", "json").ok().json["folder"])

    assert (folder / "output" / "rank").read_text() == "0"
    assert [(folder / "logs" / name).read_text().count("done 10") for name in ("1.log", "1-1.log")] == [1, 1]
    assert left(ec2) == NOTHING
    assert script("runs", "results", "latest").ok().out == f"{folder}\n"


def test_a_script_that_fails_on_one_machine_ends_all_with_its_exit_code(
    script: CommandLine, ec2: Any
) -> None:
    argv = ("aws", "launch", "nodes.py", *ON_TWO, "--no-checkpoint", "--no-results", "--wait")
    failed = script(*argv, "--", "9999", "1")

    assert failed.code == 3
    assert "failed with exit code 3 (node 1: the script failed with exit code 3)" in failed.err
    assert left(ec2)["instances"] == []
    ends = [(node["end_reason"], node["caused_by"], node["exit_code"]) for node in nodes_of(script)]
    assert ends[1] == ("FAILED", None, 3)
    assert ends[0][:2] == ("STOPPED", 1)


# What the agents do, tests/agent/supervising/test_several_machines.py asks.
@pytest.mark.slow
def test_stopping_a_run_and_its_time_limit_reach_all_machines(script: CommandLine, ec2: Any) -> None:
    argv = ("aws", "launch", "nodes.py", *ON_TWO, "--no-checkpoint", "--no-results")
    script(*argv, "--", "9999").ok()
    until(lambda: all(node["state"] == "running" for node in nodes_of(script)), what="both nodes run")
    second = nodes_of(script)[1]["instance_id"]
    (row,) = script("aws", "processes", second, "--output", "json").ok().json
    assert (row["node"], row["nodes"]) == (1, 2)
    for node, rank in ((), 1), (("--node", "0"), 0):
        shown = script("aws", "monitor", second, "--no-follow", *node).ok().out
        assert f"rank {rank} begins" in shown
        assert f"rank {1 - rank} begins" not in shown
    assert nodes_of(script)[1]["instance_id"] == second
    stopped = script("runs", "stop", "latest", "--output", "json").ok().json
    assert [node["end_reason"] for node in stopped[0]["nodes"]] == ["STOPPED", "STOPPED"]
    assert stopped[0]["end_reason"] == "STOPPED"
    # Nobody waits for it: the machines end themselves.
    until(lambda: left(ec2)["instances"] == [], what="the machines have ended", seconds=120)

    limited = script(*argv, "--timeout", "2s", "--wait", "--", "9999")
    assert limited.code == 124
    assert [node["end_reason"] for node in nodes_of(script)] == ["TIME_LIMIT", "TIME_LIMIT"]
    assert left(ec2)["instances"] == []


@pytest.mark.slow
def test_where_one_machine_is_taken_back_all_start_over_from_the_newest_checkpoint(
    script: CommandLine, ec2: Any, faults: Faults
) -> None:
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="several")
    found: list[Outcome] = []
    argv = ("aws", "launch", "nodes.py", *ON_TWO, "--spot", "--checkpoint-s3", "s3://several/runs")

    def launch() -> None:
        found.append(script(*argv, "--no-results", "--wait", "--", "400", timeout=300))

    launching = threading.Thread(target=launch)
    launching.start()
    try:
        until(lambda: _published(script), seconds=120, what="a checkpoint is in the store")
        victim = nodes_of(script)[1]["instance_id"]
        faults.interrupt(victim, 40)
    finally:
        launching.join()
    (ended,) = found

    assert ended.ok().code == 0
    run = script("runs", "show", "latest", "--output", "json").ok().json
    assert [each["end_reason"] for each in run["attempts"]] == ["INTERRUPTED", "COMPLETED"]
    assert run["attempts"][1]["resumed_step"] >= 5
    assert victim not in {node["instance_id"] for node in run["nodes"]}
    # What its provider takes back, nobody else ends.
    assert set(left(ec2)["instances"]) <= {victim}


@pytest.mark.slow
def test_another_computer_that_knows_the_runs_prefix_alone_starts_all_over(
    script: CommandLine, ec2: Any, faults: Faults, tmp_path: Path
) -> None:
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="elsewhere")
    # The first attempt ends with its machine, however slow this computer is.
    steps = "int(sys.argv[1])"
    text = SCRIPT.replace(steps, f"{steps} if found else 1 << 20")
    (script.cwd / "nodes.py").write_text(f"{text}assert os.environ['SALT'] == 'kept'\n")
    there = CommandLine(tmp_path, {"XDG_DATA_HOME": str(tmp_path / "another computer")})
    argv = ("aws", "launch", "nodes.py", *ON_TWO, "--spot", "--checkpoint-s3", "s3://elsewhere/runs")
    options = ("--no-auto-resume", "--no-results", "--env", "SALT=kept", "--quiet")
    run = script(*argv, *options, "--", "20").ok().out.strip()
    until(lambda: _published(script), seconds=120, what="a checkpoint is in the store")
    first = left(ec2)["networks"]
    before = nodes_of(script)

    faults.kill_instance(before[1]["instance_id"])

    def goes_on() -> bool:
        said = there("runs", "recover", f"s3://elsewhere/runs/{run}").ok().out
        return f"{run} goes on as attempt 2" in said

    until(goes_on, seconds=240, what="the other computer has started all over")
    # What was made for the machines of the first attempt has gone with them.
    assert len(left(ec2)["networks"]) == 1
    assert left(ec2)["networks"] != first
    found = []
    for computer in (script, there):
        until(lambda on=computer: _shown(on, run)["state"] == "ended", what="the end")  # type: ignore[misc]
        found.append(_shown(computer, run))
    for each in found:
        assert [attempt["end_reason"] for attempt in each["attempts"]] == ["LOST", "COMPLETED"]
        assert each["attempts"][1]["resumed_step"] >= 5
        assert [node["end_reason"] for node in each["nodes"]] == ["COMPLETED", "COMPLETED"]
    machines = [[node["instance_id"] for node in each["nodes"]] for each in found]
    assert machines[0] == machines[1]
    assert not {node["instance_id"] for node in before} & set(machines[0])
    # Its machines are gone by themselves, and have left their logs in the store.
    until(lambda: left(ec2)["instances"] == [], what="the machines have ended", seconds=120)
    kept = script("runs", "logs", run, "--node", "1").ok().out.splitlines()
    assert any(line.startswith("done ") for line in kept)


def _shown(runctl: CommandLine, run: str) -> dict[str, Any]:
    shown: dict[str, Any] = runctl("runs", "show", run, "--output", "json").ok().json
    return shown


def _published(runctl: CommandLine) -> bool:
    runs = runctl("runs", "list", "--output", "json").ok().json
    newest = runs[0]["checkpoint"] if runs else None
    return newest is not None and newest["published_at"] is not None


@pytest.mark.slow
def test_a_run_that_falls_behind_is_moved_with_all_machines_to_on_demand(
    script: CommandLine, ec2: Any
) -> None:
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="in-time")
    (script.cwd / "behind.py").write_text(TRAIN)
    argv = ("aws", "launch", "behind.py", *ON_TWO, "--no-results", "--deadline", "1h")
    assert "needs an object store" in script(*argv, "--no-checkpoint", "--", "10").err

    # By its progress it takes days, which nobody knew before.
    done = script(
        *(*argv, "--progress-pattern", PATTERN, "--checkpoint-s3", "s3://in-time/runs", "--wait"),
        *("--", "10000000"),
        timeout=400,
    ).ok()

    assert "is to be on on-demand, because no more time may be lost" in done.err
    run = _shown(script, "latest")
    assert [(each["market"], each["end_reason"]) for each in run["attempts"]] == [
        ("spot", "MOVED"),
        ("on-demand", "COMPLETED"),
    ]
    assert run["attempts"][1]["resumed_step"] == run["attempts"][0]["step"] > 0
    assert [node["end_reason"] for node in run["nodes"]] == ["COMPLETED", "COMPLETED"]
    assert run["attempts"][0]["instance_id"] not in {node["instance_id"] for node in run["nodes"]}
    until(lambda: left(ec2)["instances"] == [], what="the machines' end")


def test_the_pages_commands_are_understood(script: CommandLine, tmp_path: Path) -> None:
    (script.cwd / "train.py").write_text("print()\n")
    plan = script(
        *("aws", "launch", "train.py", "--nodes", "2", "--engine", "torchrun"),
        *("--engine-args", "--nproc-per-node 1", "--dry-run", "--output", "json"),
    ).ok()
    assert plan.json["nodes"]["engine"] == "torchrun"
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="left-alone")
    left_alone = script(
        *("aws", "launch", "train.py", "--nodes", "2", "--spot", "--engine", "torchrun", "--unattended"),
        *("--checkpoint-s3", "s3://left-alone/runs", "--dry-run", "--output", "json"),
    ).ok()
    group = left_alone.json["group"]
    assert (group["machines"], group["engine"]) == (2, "torchrun")
    assert group["network"]["name"].startswith("runctl-nodes-")
    assert not (tmp_path / "results").exists()


# How it begins again, tests/agent/supervising/test_restarting.py asks, and with PyTorch's own torchrun
# test_torchrun.py beside it; here it is in containers, which find each other by name, and whoever waits sees one
# attempt.
@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.timeout(900)
def test_with_fewer_machines_than_the_most_a_script_of_torchruns_begins_again_and_completes(
    in_container: CommandLine, ec2: Any, faults: Faults
) -> None:
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="fewer")
    files = {
        "train.py": RESTARTS,
        "torch/__init__.py": "",
        "torch/distributed/__init__.py": "",
        "torch/distributed/run.py": TORCHRUN,
    }
    for name, content in files.items():
        path = in_container.cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    found: list[Outcome] = []
    argv = (
        *(
            "aws",
            "launch",
            "train.py",
            "--nodes",
            "2:3",
            "--engine",
            "torchrun",
            "--instance-type",
            "m5.large",
        ),
        *("--yes", "--checkpoint-s3", "s3://fewer/runs", "--no-results", "--wait"),
    )
    launching = threading.Thread(target=lambda: found.append(in_container(*argv, timeout=800)))
    launching.start()
    try:
        until(lambda: _published(in_container), seconds=400, what="a checkpoint is in the store")
        victim = nodes_of(in_container)[1]["instance_id"]
        faults.kill_instance(victim)
    finally:
        launching.join()
    (ended,) = found

    run = in_container("runs", "show", "latest", "--output", "json").ok().json
    assert (ended.ok().code, run["end_reason"], len(run["attempts"])) == (0, "COMPLETED", 1)
    assert "[0] rank 0 of 3 begins at 0" in ended.out
    assert {f"[{rank}] names lead to all: True" for rank in (0, 2)} <= set(ended.out.splitlines())
    begun = [line.split(" begins at ") for line in ended.out.splitlines() if " of 2 begins at " in line]
    assert [each[0] for each in sorted(begun)] == ["[0] rank 0 of 2", "[2] rank 1 of 2"]
    assert len({int(each[1]) for each in begun}) == 1
    assert int(begun[0][1]) >= 5
    assert left(ec2)["instances"] == []
