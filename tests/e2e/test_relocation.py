"""A run and its data go from zone to zone: by ssh, in a container, by snapshot and anew."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import boto3
import pytest

from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.fault_client import Faults
from tests.e2e.account import create, terminate, volume, volume_named
from tests.e2e.command_line import CommandLine, until, write_project
from tests.e2e.test_launch import client
from tests.e2e.test_recovery import STEPS, TRAIN, shown, weights

pytestmark = [
    pytest.mark.namespaces,
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("clean_account"),
]

READS = """\
import os, pathlib, time
print("read", pathlib.Path("/data/part.txt").read_text().strip(), flush=True)
while not pathlib.Path("/tmp/go").exists():
    time.sleep(0.1)
"""


def saved_in(runctl: CommandLine, run: str, attempt: int) -> bool:
    """Whether that attempt has a checkpoint of its own."""
    now = shown(runctl, run)["attempts"]
    return len(now) == attempt and (now[-1]["step"] or 0) > (now[-1]["resumed_step"] or 0)


# On the host by SSM, tests/e2e/test_recovery.py asks it in short.
@pytest.mark.parametrize(("image", "way"), [(None, "ssh"), ("python:3.11-slim", "ssm")])
def test_three_interruptions_in_three_zones_end_with_bit_identical_weights(
    runctl: CommandLine, faults: Faults, ssh_account: dict[str, str], image: str | None, way: str
) -> None:
    ssh = ("--key-name", "e2e", "--security-group", ssh_account["group"]) if way == "ssh" else ()
    if ssh:
        runctl = CommandLine(runctl.cwd, {**runctl.env, "RUNCTL_AWS_IDENTITY_FILE": ssh_account["key"]})
    by = ("--transport", way)
    volume(runctl, "results", "--zone", "us-east-1a")
    machine = create(runctl, "--spot", "--ebs-volume", "results", *ssh)
    write_project(runctl.cwd, {"train.py": TRAIN})
    train = ("aws", "train", machine, "train.py", "--ebs-mount", "results:/results", "--env", "SALT=kept")
    options = ("--image", image) if image else ()
    run = str(runctl(*train, *options, *by, "--quiet", "--", 2 * STEPS, 4).ok().out.strip())

    for attempt, notice in enumerate((8, None, 4), start=1):
        until(partial(saved_in, runctl, run, attempt), seconds=90, what=f"a checkpoint of attempt {attempt}")
        now = shown(runctl, run)
        faults.no_capacity(zone=now["zone"], market="spot")
        if notice is None:
            faults.kill_instance(now["instance_id"])
        else:
            faults.interrupt(now["instance_id"], seconds=notice)
        until(lambda: shown(runctl, run)["state"] == "ended", seconds=90, what="the end of the attempt")
        runctl("runs", "recover", run).ok()

    assert runctl("runs", "logs", run, "--wait").code == 0
    assert f"weights {weights(2 * STEPS)} kept" in runctl("runs", "logs", run).out
    attempts = shown(runctl, run)["attempts"]
    assert [each["end_reason"] for each in attempts[-1:]] == ["COMPLETED"]
    assert len({each["zone"] for each in attempts}) == 4


def test_a_volume_that_is_only_read_is_filled_anew_where_that_is_sooner(
    runctl: CommandLine, faults: Faults, docker_sandbox: SandboxInfo
) -> None:
    keys = docker_sandbox.environment()
    make: Any = boto3.client
    s3 = make(
        "s3",
        endpoint_url=docker_sandbox.endpoint_url,
        region_name=docker_sandbox.region,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )
    s3.create_bucket(Bucket="relocated")
    s3.put_object(Bucket="relocated", Key="data/part.txt", Body=b"all of it\n")
    # Smaller ones are there sooner by snapshot.
    fast = ("--size", 8, "--throughput", 1000, "--iops", 4000, "--zone", "us-east-1a")
    own = runctl("aws", "ebs", "create", "--name", "datasets", *fast, "--quiet").ok().out.strip()
    runctl("aws", "ebs", "prewarm", "datasets", "--from", "s3://relocated/data", "--format", "--yes").ok()
    write_project(runctl.cwd, {"train.py": READS})
    launch = ("aws", "launch", "train.py", "--instance-type", "t3.medium", "--spot", "--yes", "--quiet")
    store = ("--checkpoint-s3", "s3://relocated/runs")
    run = str(runctl(*launch, *store, "--ebs-mount", "datasets:/data:ro").ok().out.strip())
    until(lambda: "read all of it" in runctl("runs", "logs", run).out, what="the script's first line")

    faults.no_capacity(zone="us-east-1a", market="spot")
    faults.interrupt(shown(runctl, run)["instance_id"], seconds=8)
    until(lambda: shown(runctl, run)["state"] == "ended", what="the end of the attempt")
    recovering = runctl.start("runs", "recover", run)
    _, err = recovering.communicate(timeout=400)

    assert recovering.returncode == 0, err.decode()
    assert "datasets filled from s3://relocated/data, in about 2 min" in err.decode()
    until(lambda: "read all of it" in runctl("runs", "logs", run).out, what="the script's first line again")
    (moved,) = shown(runctl, run)["moved_volumes"]
    assert (moved["volume_id"], moved["filled_from"]) == (own, "s3://relocated/data")
    filled = volume_named(runctl, f"datasets-in-{moved['to_zone']}")
    assert filled["id"] == moved["to_volume_id"]
    assert volume_named(runctl, "datasets")["zone"] == "us-east-1a"
    assert json.loads(runctl("aws", "ebs", "snapshots", "--output", "json").ok().out) == []
    runctl("runs", "stop", run).ok()


def test_a_volume_that_is_only_read_has_its_replica_in_another_zone_until_somebody_writes_to_it(
    runctl: CommandLine, faults: Faults, docker_sandbox: SandboxInfo
) -> None:
    client(docker_sandbox, "s3").create_bucket(Bucket="replicated")
    own = volume(runctl, "datasets", "--zone", "us-east-1a")
    machine = create(runctl, "--ebs-volume", "datasets")
    put = "echo all of it > /mnt/datasets/part.txt"
    runctl("aws", "exec", machine, "--", "sudo", "sh", "-c", put).ok()
    replicate = ("aws", "ebs", "replicate", "datasets", "--zone", "us-east-1c")
    assert "which may write to it" in runctl(*replicate).err
    terminate(runctl, machine)
    assert "datasets-replica-in-us-east-1c" in runctl(*replicate, "--dry-run").ok().out
    replica = runctl(*replicate, "--quiet").ok().out.strip()
    assert runctl(*replicate, "--quiet").ok().out.strip() == replica, "it is there already"

    write_project(runctl.cwd, {"train.py": READS})
    launch = ("aws", "launch", "train.py", "--instance-type", "t3.medium", "--spot", "--yes")
    store = ("--checkpoint-s3", "s3://replicated/runs")
    plan = runctl(*launch, *store, "--ebs-mount", "datasets:/data:ro", "--dry-run").ok()
    assert "volumes follow to us-east-1c: datasets by its replica" in plan.out
    run = str(runctl(*launch, *store, "--ebs-mount", "datasets:/data:ro", "--quiet").ok().out.strip())
    until(lambda: "read all of it" in runctl("runs", "logs", run).out, what="the script's first line")
    faults.no_capacity(zone="us-east-1a", market="spot")
    faults.interrupt(shown(runctl, run)["instance_id"], seconds=8)
    until(lambda: shown(runctl, run)["state"] == "ended", what="the end of the attempt")
    recovered = runctl("runs", "recover", run).ok()

    assert "datasets is in us-east-1c already: datasets-replica-in-us-east-1c" in recovered.err
    until(lambda: "read all of it" in runctl("runs", "logs", run).out, what="the script's first line again")
    now = shown(runctl, run)
    (moved,) = now["moved_volumes"]
    assert (now["zone"], moved["volume_id"], moved["to_volume_id"]) == ("us-east-1c", own, replica)
    assert json.loads(runctl("aws", "ebs", "snapshots", "--output", "json").ok().out) == []
    runctl("runs", "stop", run).ok()
    faults.clear()
    terminate(runctl, now["instance_id"])

    # Whoever mounts it for writing ends that; the same command makes the replica anew.
    other = create(runctl, "--ebs-volume", "datasets")
    terminate(runctl, other)
    plan = runctl(*replicate, "--dry-run").ok()
    assert (
        f"datasets-replica-in-us-east-1c ({replica}), 1 GiB gp3, which lacks what was written since"
        in plan.out
    )
    assert runctl(*replicate, "--quiet", "--yes").ok().out.strip() != replica
    kept = runctl("aws", "ebs", "list", "--output", "json").ok().json
    assert replica not in {each["id"] for each in kept}
