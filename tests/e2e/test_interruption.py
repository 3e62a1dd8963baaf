"""EC2 takes a machine back: what its runs saved is verified, and on a volume that the next machine can have."""

from __future__ import annotations

import os
from typing import Any

import pytest

from runctl.core.errors import NotFound
from runctl.sandbox.fault_client import Faults
from tests.agent.supervising.test_interruption import SAVES
from tests.agent.supervising.test_stop import STUBBORN
from tests.e2e.account import create, volume, volume_named
from tests.e2e.command_line import CommandLine, until, write_project

pytestmark = [pytest.mark.namespaces, pytest.mark.docker, pytest.mark.usefixtures("clean_account")]


def test_a_notice_ends_the_runs_in_time_and_frees_their_volume(runctl: CommandLine, faults: Faults) -> None:
    write_project(runctl.cwd, {"train.py": SAVES, "stubborn.py": STUBBORN})
    volume_id = volume(runctl, "results")
    machine = create(runctl, "--spot", "--ebs-volume", "results")
    train = ("aws", "train", machine, "--ebs-mount", "results:/results", "--quiet")
    saves = runctl(*train, "train.py").ok().out.strip()
    stubborn = runctl(*train, "stubborn.py", "--grace", "1h").ok().out.strip()
    until(
        lambda: all("up" in runctl("runs", "logs", run).out for run in (saves, stubborn)),
        what="the scripts' first lines",
    )

    faults.interrupt(machine, seconds=16)
    followed = runctl("runs", "logs", stubborn, "--wait")
    assert followed.code == 143
    assert "SIGTERM, then" in followed.out
    assert f"checkpoints: runs/{stubborn}/checkpoints on {volume_id}" in followed.err
    assert "billed until" not in followed.err

    def ended(run: str) -> dict[str, object]:
        shown = runctl("runs", "show", run, "--output", "json").ok().json
        assert (shown["state"], shown["end_reason"]) == ("ended", "INTERRUPTED"), shown
        assert shown["message"].startswith("EC2 takes the spot machine back at ")
        return dict(shown["hand_off"])

    # The volume is free while the machine still lives: the last of its runs has let it go.
    until(lambda: volume_named(runctl, "results")["state"] == "available", what="the volume to be free")
    assert runctl("aws", "status", machine, "--output", "json").ok().json["state"] == "running"
    handed = ended(saves)
    assert handed["checkpoint"] == f"step-{handed['step']}.json"
    assert {"heard", "signalled", "script_ended", "verified", "flushed"} <= set(handed["stages"])  # type: ignore[call-overload]
    killed = ended(stubborn)
    assert killed["checkpoint"] is None
    assert "detached" in {*handed["stages"], *killed["stages"]}  # type: ignore[misc]
    shown = runctl("runs", "show", saves).ok().out
    assert "signalled " in shown
    assert str(handed["sha256"]) in shown

    # The next machine finds it: the checkpoint, and the end record with what was handed over.
    second = create(runctl, "--ebs-volume", "results")
    saved = runctl(
        "aws",
        "exec",
        second,
        "--",
        "sha256sum",
        f"/mnt/results/runs/{saves}/checkpoints/{handed['checkpoint']}",
    )
    assert saved.ok().out.split()[0] == handed["sha256"]
    kept = (
        runctl("aws", "exec", second, "--", "sudo", "cat", f"/mnt/results/runs/{saves}/logs/1.end.json")
        .ok()
        .out
    )
    assert str(handed["sha256"]) in kept
    assert volume_id in runctl("runs", "show", saves, "--cached").ok().out


@pytest.mark.slow
def test_a_machine_that_was_rented_for_a_run_is_left_to_ec2_when_it_takes_it_back(
    runctl: CommandLine, faults: Faults, ec2: Any
) -> None:
    write_project(runctl.cwd, {"train.py": SAVES})
    volume_id = volume(runctl, "results")
    launch = ("aws", "launch", "train.py", "--instance-type", "t3.medium", "--spot", "--yes")
    run = runctl(*launch, "--ebs-volume", "results", "--quiet").ok().out.strip()
    until(lambda: "up" in runctl("runs", "logs", run).out, what="the script's first line")
    machine = runctl("runs", "show", run, "--output", "json").ok().json["instance_id"]

    faults.interrupt(machine, seconds=10)
    followed = runctl("runs", "logs", run, "--wait")
    assert followed.code == 143
    assert f"checkpoints: runs/{run}/checkpoints on {volume_id}; the newest is step-" in followed.err

    def described() -> dict[str, Any]:
        found = ec2.describe_instances(InstanceIds=[machine])["Reservations"][0]["Instances"][0]
        return dict(found)

    # An end by the machine itself, or by anybody else, would have another reason, and cost the first hour.
    until(lambda: described()["State"]["Name"] == "terminated", what="the machine's end")
    assert described()["StateReason"]["Code"] == "Server.SpotInstanceTermination"


@pytest.mark.parametrize("moment", ["it boots", "the project is sent"])
def test_a_notice_before_the_run_has_started_leaves_nothing_and_says_what_to_do(
    runctl: CommandLine, faults: Faults, ec2: Any, moment: str
) -> None:
    def going() -> list[str]:
        reservations = ec2.describe_instances()["Reservations"]
        found = [instance for each in reservations for instance in each["Instances"]]
        return [each["InstanceId"] for each in found if each["State"]["Name"] == "running"]

    write_project(runctl.cwd, {"train.py": SAVES})
    if moment == "the project is sent":
        # It takes seconds by Systems Manager.
        (runctl.cwd / "model.bin").write_bytes(os.urandom(24 << 20))
    launch = ("aws", "launch", "train.py", "--instance-type", "t3.medium", "--spot", "--estimate", "5m")
    launched = runctl.start(*launch, "--wait", "--yes")
    if moment == "the project is sent":
        assert any(line.startswith(b"sending ") for line in launched.stderr)
    (machine,) = until(going, seconds=60, what="the machine to run")

    def is_taken_back() -> bool:
        try:
            faults.interrupt(machine, seconds=0.2)
        except NotFound:
            # It boots.
            return False
        return True

    until(is_taken_back, what="the notice")
    _, err = launched.communicate(timeout=120)

    assert launched.returncode == 7, err.decode()
    assert "the provider took it back" in err.decode()
    assert "the same command rents another machine" in err.decode()
    assert f"{machine} (t3.medium) exists and is billed" not in err.decode()
    assert going() == []
    # No run is left that somebody would look after, and no machine that is paid.
    assert runctl("runs", "list", "--output", "json").ok().json == []
    assert runctl("status").ok().out.startswith("no machine runs")
