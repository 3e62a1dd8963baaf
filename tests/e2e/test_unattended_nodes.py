"""A run on several machines that nobody watches goes on after one of them died, and leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.fault_client import Faults
from tests.e2e import test_unattended
from tests.e2e.command_line import CommandLine, until, write_project
from tests.e2e.test_launch import client
from tests.e2e.test_nodes import SCRIPT as SCRIPT_OF_NODES
from tests.e2e.test_recovery import shown
from tests.e2e.test_renting_nodes import NOTHING
from tests.e2e.test_renting_nodes import left as left_of_nodes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.namespaces,
    pytest.mark.docker,
    pytest.mark.timeout(600, func_only=True),
    pytest.mark.usefixtures("clean_account"),
]

# Its first attempt ends with a machine, however slow this computer is.
SCRIPT = SCRIPT_OF_NODES.replace(
    "steps, failing =", "first = os.environ['RUNCTL_ATTEMPT'] == '1'\nsteps, failing ="
).replace("while step < steps:", "while step < steps or first:")
BUCKET = "unattended-nodes"
URL = f"s3://{BUCKET}/runs"
LAUNCH = (
    *("aws", "launch", "nodes.py", "--unattended", "--nodes", "2", "--engine", "none"),
    *("--instance-type", "m5.large", "--spot", "--checkpoint-s3", URL),
)


@pytest.fixture
def project(runctl: CommandLine, in_docker_sandbox: SandboxInfo) -> Iterator[CommandLine]:
    write_project(runctl.cwd, {"nodes.py": SCRIPT})
    client(in_docker_sandbox, "s3").create_bucket(Bucket=BUCKET)
    yield runctl
    for run in runctl("runs", "list", "--quiet").out.split():
        runctl("runs", "stop", run, "--force").ok()


def left(sandbox: SandboxInfo, ec2: Any, run: str) -> list[str]:
    """What of all that was made for the run is there still, its network included."""
    of_nodes = {what: found for what, found in left_of_nodes(ec2).items() if found != NOTHING[what]}
    return [*test_unattended.left(sandbox, run), *(f"{what} {found}" for what, found in of_nodes.items())]


def both_begin(runctl: CommandLine, run: str) -> bool:
    return str(runctl("runs", "logs", run).out).count("begins at 0") == 2


def test_where_one_machine_dies_all_go_on_as_the_next_attempt_and_nothing_is_left(
    project: CommandLine, in_docker_sandbox: SandboxInfo, faults: Faults, ec2: Any
) -> None:
    plan = project(*LAUNCH, "--dry-run").ok().out
    for said in ("2, in us-east-1", "cluster", "those that are there wait for the others", "all of it"):
        assert said in plan
    run = str(project(*LAUNCH, "--quiet", "--", "20").ok().out.strip())
    until(lambda: both_begin(project, run), seconds=120, what="the script's first line on both")
    first = shown(project, run)["nodes"]
    assert len({each["instance_id"] for each in first}) == 2
    (group,) = client(in_docker_sandbox, "autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert (group["DesiredCapacity"], group["MaxSize"], group["AvailabilityZones"]) == (
        2,
        2,
        [shown(project, run)["zone"]],
    )
    assert group["PlacementGroup"].startswith("runctl-nodes-")

    until(lambda: (shown(project, run)["checkpoint"] or {}).get("published_at"), what="a checkpoint")
    faults.kill_instance(first[1]["instance_id"])
    followed = project("runs", "logs", run, "--wait", timeout=240).ok()
    until(lambda: shown(project, run)["unattended"]["is_removed"], seconds=90, what="all to be removed")
    assert left(in_docker_sandbox, ec2, run) == []
    ended = shown(project, run)
    assert ended["end_reason"] == "COMPLETED"
    assert [each["end_reason"] for each in ended["nodes"]] == ["COMPLETED"] * 2
    assert [each["end_reason"] for each in ended["attempts"]][-1] == "COMPLETED"
    assert ended["attempts"][0]["end_reason"] in {"LOST", "INTERRUPTED"}
    assert len(ended["attempts"]) == 2
    second = {each["instance_id"] for each in ended["nodes"]}
    # The one that did not die has gone on.
    assert first[0]["instance_id"] in second
    assert first[1]["instance_id"] not in second
    begins = {line.partition(" with ")[0] for line in followed.out.splitlines() if "begins at" in line}
    (step,) = {line.rpartition(" ")[2] for line in begins} - {"0"}
    assert int(step) > 0
    done = {f"[{rank}] done {max(20, int(step))}" for rank in (0, 1)}
    assert done <= set(followed.out.splitlines())
    assert {f"[{rank}] rank {rank} begins at {step}" for rank in (0, 1)} <= begins
    brought = project("runs", "results", run, "brought", "--quiet").ok().out.strip()
    assert Path(brought, "output", "rank").read_text() == "0"


def test_where_rank_0_dies_before_it_has_removed_the_group_the_other_machine_does(
    project: CommandLine, in_docker_sandbox: SandboxInfo, faults: Faults, ec2: Any
) -> None:
    run = str(project(*LAUNCH, "--timeout", "30s", "--quiet", "--", "20").ok().out.strip())
    until(lambda: both_begin(project, run), seconds=180, what="the script's first line on both")
    head, other = (each["instance_id"] for each in shown(project, run)["nodes"])
    s3, scaling = client(in_docker_sandbox, "s3"), client(in_docker_sandbox, "autoscaling")
    ended = f"runs/{run}/attempts/0001/end.json"

    def groups() -> list[Any]:
        return list(scaling.describe_auto_scaling_groups()["AutoScalingGroups"])

    until(
        lambda: s3.list_objects_v2(Bucket=BUCKET, Prefix=ended).get("KeyCount"),
        seconds=120,
        what="the run's end in the store",
    )
    # Rank 0's machine leaves whoever reads its log some time: it is there, and so is the group.
    faults.no_capacity()
    assert groups()
    faults.kill_instance(head)

    until(lambda: not groups(), seconds=120, what="the group to be gone")
    of_run = [{"Name": "tag:runctl:run", "Values": [run]}]
    machines = {
        each["InstanceId"]
        for reservation in ec2.describe_instances(Filters=of_run)["Reservations"]
        for each in reservation["Instances"]
    }
    assert machines == {head, other}, "no machine has come in rank 0's place"
    until(lambda: shown(project, run)["unattended"]["is_removed"], seconds=90, what="all to be removed")
    assert left(in_docker_sandbox, ec2, run) == []
    assert shown(project, run)["end_reason"] == "TIME_LIMIT"


def test_stopping_it_ends_scripts_group_network_and_rights(
    project: CommandLine, in_docker_sandbox: SandboxInfo, ec2: Any
) -> None:
    run = str(project(*LAUNCH, "--quiet", "--", "100000").ok().out.strip())
    until(lambda: both_begin(project, run), seconds=120, what="the script's first line on both")

    stopped = project("runs", "stop", run, timeout=200).ok()

    assert stopped.out.strip() == f"{run} ended (STOPPED)"
    assert "removed security group runctl-nodes-" in stopped.err
    assert left(in_docker_sandbox, ec2, run) == []
    assert {each["end_reason"] for each in shown(project, run)["nodes"]} == {"STOPPED"}
