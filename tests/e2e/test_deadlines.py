"""A run that must have ended by a time is on the market that its policy says, and on on-demand while that suffices."""

from __future__ import annotations

import re
from typing import Any

import pytest

from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.fault_client import Faults
from tests.e2e.account import volume
from tests.e2e.command_line import CommandLine, until, write_project
from tests.e2e.test_launch import client
from tests.e2e.test_unattended import left

pytestmark = [pytest.mark.namespaces, pytest.mark.docker, pytest.mark.usefixtures("clean_account")]

TRAIN = """\
import os, pathlib, signal, sys, time

folder = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"])
resumed = os.environ.get("RUNCTL_RESUME_FROM")
step = int(pathlib.Path(resumed).read_text()) if resumed else 0
print("begins at", step, flush=True)

def save(*_):
    part = folder / ".part"
    part.write_text(str(step))
    part.rename(folder / f"step-{step}.json")

def leave(*_):
    save()
    sys.exit(1)

signal.signal(signal.SIGTERM, leave)
total = int(sys.argv[1])
while step < total:
    step += 1
    print(f"step {step}/{total}", flush=True)
    time.sleep(0.1)
    if resumed and step > int(pathlib.Path(resumed).read_text()) + 20:
        break
save()
print("done", flush=True)
"""
PATTERN = r"step (?P<step>\d+)/(?P<total>\d+)"


def machines(ec2: Any) -> list[Any]:
    found = ec2.describe_instances()["Reservations"]
    return [item for each in found for item in each["Instances"]]


@pytest.mark.slow
def test_a_run_that_falls_behind_is_moved_to_on_demand_by_whoever_follows_it(
    runctl: CommandLine, ec2: Any
) -> None:
    write_project(runctl.cwd, {"train.py": TRAIN})
    volume(runctl, "results")
    others = {item["InstanceId"] for item in machines(ec2)}
    launch = ("aws", "launch", "train.py", "--instance-type", "t3.medium", "--ebs-volume", "results")
    refused = runctl(*launch, "--deadline", "1h", "--estimate", "59m", "--", "10")
    assert refused.code == 2
    assert "the deadline in 59m cannot be kept: the run takes 59m (--estimate), and 6m more" in refused.err
    assert "--deadline 66m or later" in refused.err
    assert {item["InstanceId"] for item in machines(ec2)} <= others

    # By its progress it takes days, which nobody knew before.
    done = runctl(
        *(*launch, "--deadline", "1h", "--progress-pattern", PATTERN, "--wait", "--yes"),
        *("--", "10000000"),
        timeout=240,
    ).ok()

    assert "policy   deadline: begins on spot" in done.err
    assert "is to be on on-demand, because no more time may be lost" in done.err
    assert "MOVED: it continues on another machine: on-demand, because no more time may be lost" in done.out
    assert "done" in done.out
    assert re.search(r"cost: \$\d.* is given back; the run cost \$\d+\.\d+ in 2 attempts", done.err)
    (run,) = runctl("runs", "list", "--output", "json").ok().json
    first, second = run["attempts"]
    assert (first["market"], first["end_reason"]) == ("spot", "MOVED")
    assert (second["market"], second["end_reason"]) == ("on-demand", "COMPLETED")
    assert second["resumed_step"] == first["step"] > 0
    assert first["lost_seconds"] < 1
    assert run["progress"]["total"] == 10_000_000
    assert run["deadline"]["decision"] == "ended"
    until(lambda: {m["State"]["Name"] for m in machines(ec2)} == {"terminated"}, what="the machines' end")
    rented = [item for item in machines(ec2) if item["InstanceId"] not in others]
    assert {item["InstanceId"] for item in rented} == {first["instance_id"], second["instance_id"]}, (
        [(m["InstanceId"], m["LaunchTime"], m.get("InstanceLifecycle"), m["Tags"]) for m in rented],
        done.err,
    )


@pytest.mark.slow
def test_where_there_is_no_spot_capacity_the_run_begins_on_demand_in_time(
    runctl: CommandLine, faults: Faults, ec2: Any
) -> None:
    write_project(runctl.cwd, {"train.py": TRAIN})
    volume(runctl, "results")
    faults.no_capacity(market="spot")
    done = runctl(
        *("aws", "launch", "train.py", "--instance-type", "t3.medium", "--ebs-volume", "results"),
        *("--deadline", "367s", "--estimate", "1s", "--quiet", "--yes", "--", "1000000"),
        timeout=120,
    ).ok()
    run = done.out.strip()

    shown = runctl("runs", "show", run, "--output", "json").ok().json
    assert shown["market"] == "on-demand"
    assert shown["deadline"]["decision"] == "on-demand"
    assert "on-demand, because" in runctl("runs", "show", run).ok().out
    runctl("runs", "stop", run).ok()


@pytest.mark.slow
def test_with_nobody_watching_a_second_group_takes_the_run_over_in_time(
    runctl: CommandLine, in_docker_sandbox: SandboxInfo
) -> None:
    write_project(runctl.cwd, {"train.py": TRAIN})
    client(in_docker_sandbox, "s3").create_bucket(Bucket="in-time")
    machine = ("--instance-type", "t3.medium", "--unattended", "--checkpoint-s3", "s3://in-time/runs")
    begin = ("aws", "launch", "train.py", *machine, "--deadline", "1h")
    refused = runctl(*begin, "--", "10")
    assert "--unattended --deadline needs --estimate" in refused.err
    # The estimate is wrong: by its progress it takes days.
    launch = (*begin, "--estimate", "10m", "--progress-pattern", PATTERN)
    plan = runctl(*launch, "--dry-run", "--", "10").ok().out
    assert "second   a second group has no machine until then" in plan
    run = runctl(*launch, "--quiet", "--yes", "--", "10000000").ok().out.strip()

    def ended() -> Any:
        now = runctl("runs", "show", run, "--output", "json").ok().json
        return now if now["end_reason"] == "COMPLETED" else None

    shown = until(ended, seconds=240, what="the end on demand")
    first, second = shown["attempts"]
    assert (first["market"], first["end_reason"]) == ("spot", "MOVED")
    assert first["message"].endswith("takes over the run")
    assert (second["market"], second["end_reason"]) == ("on-demand", "COMPLETED")
    assert second["resumed_step"] > 0
    until(
        lambda: runctl("runs", "show", run, "--output", "json").ok().json["unattended"]["is_removed"],
        seconds=90,
        what="all to be removed",
    )
    assert left(in_docker_sandbox, run) == []
