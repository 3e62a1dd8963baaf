"""A run that was interrupted goes on elsewhere with all that the first attempt had, whoever dies meanwhile."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from runctl.sandbox.fault_client import Faults
from tests.e2e.account import create, volume, volume_named
from tests.e2e.command_line import CommandLine, kill, until, write_project

pytestmark = [pytest.mark.namespaces, pytest.mark.docker, pytest.mark.usefixtures("clean_account")]

STEPS = 200
TRAIN = """\
import json, os, pathlib, signal, sys, time

folder = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"])
weights, step, stop = 1, 0, []
resumed = os.environ.get("RUNCTL_RESUME_FROM")
if resumed:
    weights, step = json.loads(pathlib.Path(resumed).read_text())
print("begins at step", step, flush=True)

def save():
    part = folder / f"step-{step}.json.tmp"
    part.write_text(json.dumps([weights, step]))
    part.rename(folder / f"step-{step}.json")

signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
steps, attempts = map(int, sys.argv[1:])
attempt = int(os.environ["RUNCTL_ATTEMPT"])
# Each attempt but the last goes its share of the way and waits there: however slow the computer, there is one to end.
share = steps * attempt // attempts if attempt < attempts else steps
while step < share or attempt < attempts:
    if step < share:
        weights = (weights * 6364136223846793005 + 1442695040888963407) % 2**64
        step += 1
        if step % 10 == 0:
            save()
    if stop:
        save()
        sys.exit(1)
    time.sleep(0.05)
save()
print("weights", weights, os.environ["SALT"], flush=True)
"""


def weights(steps: int) -> int:
    value = 1
    for _ in range(steps):
        value = (value * 6364136223846793005 + 1442695040888963407) % 2**64
    return value


def a_run(runctl: CommandLine, machine: str, attempts: int, steps: int = STEPS) -> str:
    """A run that its last of so many attempts completes."""
    write_project(runctl.cwd, {"train.py": TRAIN})
    train = ("aws", "train", machine, "--ebs-mount", "results:/results", "--env", "SALT=kept", "--quiet")
    run = str(runctl(*train, "train.py", "--", steps, attempts).ok().out.strip())
    until(lambda: "begins" in runctl("runs", "logs", run).out, what="the script's first line")
    # Whatever happens to the folder now: a run keeps what it was given.
    (runctl.cwd / "train.py").write_text("raise SystemExit('another project')")
    return run


def shown(runctl: CommandLine, run: str) -> Any:
    return runctl("runs", "show", run, "--output", "json").ok().json


def rented_for(ec2: Any, attempt: str) -> list[Any]:
    """Every machine that was ever rented for it."""
    reservations = ec2.describe_instances(Filters=[{"Name": "tag:runctl:attempt", "Values": [attempt]}])
    return [item for each in reservations["Reservations"] for item in each["Instances"]]


# That two computers rent one machine between them, tests/e2e/test_elsewhere.py asks in short.
@pytest.mark.slow
def test_a_watcher_that_is_killed_and_two_at_once_carry_a_run_on_once_with_the_same_weights(
    runctl: CommandLine, faults: Faults, ec2: Any
) -> None:
    volume(runctl, "results")
    machine = create(runctl, "--spot", "--ebs-volume", "results")
    run = a_run(runctl, machine, 2)
    until(lambda: (shown(runctl, run)["attempts"][0]["step"] or 0) >= 10, what="a checkpoint")

    faults.interrupt(machine, seconds=8)
    first = runctl.start("runs", "watch", run, "--every", "1s")
    until(lambda: rented_for(ec2, f"{run}/2"), seconds=60, what="the second machine to be rented")
    kill(first)
    watchers = [runctl.start("runs", "watch", run, "--every", "1s") for _ in range(2)]
    for watcher in watchers:
        out, err = watcher.communicate(timeout=120)
        assert watcher.returncode == 0, err.decode()
        assert out.decode().strip() == f"{run} ended as COMPLETED after 2 attempts"

    assert f"weights {weights(STEPS)} kept" in runctl("runs", "logs", run).out
    assert len(rented_for(ec2, f"{run}/2")) == 1
    attempts = shown(runctl, run)["attempts"]
    assert [each["end_reason"] for each in attempts] == ["INTERRUPTED", "COMPLETED"]
    assert attempts[0]["message"].startswith("EC2 takes the spot machine back")
    assert [each["zone"] for each in attempts] == [attempts[0]["zone"]] * 2
    # A notice loses nothing: what is saved then is what the next attempt begins with.
    assert attempts[1]["resumed_step"] > 0
    assert attempts[0]["lost_seconds"] < 1
    until(lambda: rented_for(ec2, f"{run}/2")[0]["State"]["Name"] == "terminated", seconds=60)
    assert volume_named(runctl, "results")["state"] == "available"
    again = runctl("runs", "recover", run).ok()
    assert "ended as COMPLETED, which another machine does not change" in again.out
    assert not rented_for(ec2, f"{run}/3")


def test_a_run_whose_machine_died_unannounced_stays_stopped_when_it_is_stopped_meanwhile(
    runctl: CommandLine, faults: Faults, ec2: Any
) -> None:
    volume(runctl, "results")
    machine = create(runctl, "--ebs-volume", "results")
    run = a_run(runctl, machine, 1, steps=100_000)
    faults.kill_instance(machine)

    # Ctrl-C gives back what was rented, and says how to go on.
    recovering = runctl.start("runs", "recover", run)
    until(lambda: rented_for(ec2, f"{run}/2"), seconds=60, what="the second machine to be rented")
    _, err = kill(recovering, signal.SIGINT)
    assert recovering.returncode == 130
    assert "is given back" in err
    assert f"runctl runs recover {run}" in err
    assert rented_for(ec2, f"{run}/2")[0]["State"]["Name"] in {"shutting-down", "terminated"}

    recovering = runctl.start("runs", "recover", run)
    until(lambda: len(rented_for(ec2, f"{run}/2")) == 2, seconds=60, what="a machine to be rented anew")
    assert "being recovered" in runctl("runs", "recover", run).err
    assert f"{run} ended (STOPPED)" in runctl("runs", "stop", run).ok().out
    _, err = (each.decode() for each in recovering.communicate(timeout=120))
    assert f"{run} was stopped while its next attempt was prepared" in err
    assert "is given back" in err

    assert shown(runctl, run)["end_reason"] == "STOPPED"
    states = {each["State"]["Name"] for each in rented_for(ec2, f"{run}/2")}
    assert states <= {"shutting-down", "terminated"}
    assert "ended as STOPPED" in runctl("runs", "recover", run).ok().out


def test_volume_and_run_go_through_three_zones_with_the_same_weights_and_one_old_volume_is_kept(
    runctl: CommandLine, faults: Faults
) -> None:
    own = volume(runctl, "results", "--zone", "us-east-1a")
    machine = create(runctl, "--spot", "--ebs-volume", "results")
    run = a_run(runctl, machine, 3)
    until(lambda: (shown(runctl, run)["attempts"][0]["step"] or 0) >= 10, what="a checkpoint")
    zones = ["us-east-1a"]

    faults.no_capacity(zone=zones[0], market="spot")
    faults.interrupt(machine, seconds=8)
    assert runctl("runs", "logs", run, "--wait").code == 143
    recovered = runctl("runs", "recover", run).ok()
    assert (
        "without a machine in us-east-1a, volumes follow to another zone: results by snapshot"
        in recovered.err
    )
    assert "results-in-us-east-1a, and paid for, $0.0800 a month: runctl aws ebs delete" in recovered.err
    second = shown(runctl, run)
    zones.append(second["zone"])
    copy = volume_named(runctl, "results")
    assert (copy["zone"], copy["attached_to"]) == (second["zone"], second["instance_id"])

    # Without notice this time, and in the middle of a checkpoint like as not.
    faults.no_capacity(zone=zones[1], market="spot")
    faults.kill_instance(second["instance_id"])
    until(lambda: shown(runctl, run)["state"] == "ended", what="the loss to be known")
    runctl("runs", "recover", run).ok()
    zones.append(shown(runctl, run)["zone"])

    assert runctl("runs", "logs", run, "--wait").code == 0
    assert f"weights {weights(STEPS)} kept" in runctl("runs", "logs", run).out
    assert len(set(zones)) == 3
    found = shown(runctl, run)
    assert [each["zone"] for each in found["attempts"]] == zones
    assert [each["volume_id"] for each in found["moved_volumes"]] == [own, copy["id"]]
    assert [each["to_zone"] for each in found["moved_volumes"]] == zones[1:]
    assert f"results from us-east-1a to {zones[1]} for attempt 2" in runctl("runs", "show", run).ok().out
    kept = runctl("aws", "ebs", "list", "--output", "json").ok().json
    assert {(each["name"], each["zone"]) for each in kept if each["name"]} == {
        ("results-in-us-east-1a", "us-east-1a"),
        ("results", zones[2]),
    }
    assert volume_named(runctl, "results-in-us-east-1a")["id"] == own
    assert runctl("aws", "ebs", "snapshots", "--quiet").ok().out == ""
