"""Several faults at once on a spot machine: nothing verified is lost, nothing runs twice, nothing is left rented, and
``runs show`` tells one story."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.fault_client import Faults
from tests.e2e.account import volume
from tests.e2e.command_line import CommandLine, until, write_project
from tests.e2e.one_story import check_one_story
from tests.e2e.test_launch import client, running
from tests.e2e.test_recovery import shown
from tests.forked.client import Forked

pytestmark = [
    pytest.mark.slow,
    pytest.mark.namespaces,
    pytest.mark.docker,
    pytest.mark.usefixtures("clean_account"),
]

LAUNCH = ("aws", "launch", "train.py", "--instance-type", "t3.medium", "--spot", "--yes", "--wait")
FULL = """\
import json, os, pathlib, signal, time

folder = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"])
resumed = os.environ["RUNCTL_RESUME_FROM"]
signal.signal(signal.SIGTERM, signal.SIG_IGN)

def save(step):
    part = folder / ".part"
    part.write_text(json.dumps({"step": step}))
    part.rename(folder / f"step-{step}.json")

if resumed:
    print("from", json.loads(pathlib.Path(resumed).read_text())["step"], flush=True)
    (folder / "step-40.json").unlink()
    save(60)
else:
    save(20)
    try:
        with open(folder / "step-40.json", "wb") as file:
            file.write(b'{"step": 40, "weights": "')
            while True:
                file.write(b"x" * (1 << 20))
    except OSError as error:
        print("cannot save:", error.strerror, flush=True)
    while True:
        time.sleep(1)
"""
DENIED = """\
import json, os, pathlib, sys, time

folder = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"])
resumed = os.environ["RUNCTL_RESUME_FROM"]
step = json.loads(pathlib.Path(resumed).read_text())["step"] if resumed else 0
print("from", step, flush=True)
while step < int(sys.argv[1]):
    step += 1
    part = folder / ".part"
    part.write_text(json.dumps({"step": step}))
    part.rename(folder / f"step-{step}.json")
    time.sleep(0.5)
"""
SLOW = """\
import os, pathlib, signal, time

folder = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"])
resumed = os.environ["RUNCTL_RESUME_FROM"]

def save(step):
    part = folder / ".part"
    part.write_text(str(step))
    part.rename(folder / f"step-{step}.json")

def slowly(*_):
    time.sleep(600)
    save(100)

signal.signal(signal.SIGTERM, slowly)
if resumed:
    save(3)
else:
    save(1)
    # Until the first one is published: else the second is the only one.
    time.sleep(8)
    save(2)
    while True:
        time.sleep(1)
"""
ENDS = """\
import pathlib, time

print("up", flush=True)
while not pathlib.Path("/tmp/go").exists():
    time.sleep(0.01)
print("done", flush=True)
"""


def started(runctl: CommandLine, *options: object) -> tuple[Forked, str]:
    """A launch that goes on, and its run."""
    before = set(runctl("runs", "list", "--quiet", "--cached").out.split())
    watcher = runctl.start(*LAUNCH, *options)

    def new() -> set[str]:
        assert watcher.poll() is None, watcher.communicate()
        return set(runctl("runs", "list", "--quiet", "--cached").out.split()) - before

    (run,) = until(new, seconds=180, what="the run")
    return watcher, run


def said(runctl: CommandLine, run: str, text: str) -> None:
    until(lambda: text in runctl("runs", "logs", run).out, seconds=90, what=f"{text!r} in the log")


def story(runctl: CommandLine, run: str) -> list[tuple[str, int | None, int | None]]:
    """Of each attempt: how it ended, from which step, and up to which."""
    attempts = shown(runctl, run)["attempts"]
    return [(each["end_reason"], each["resumed_step"], each["step"]) for each in attempts]


def test_a_full_disk_a_half_written_checkpoint_two_notices_and_a_script_that_ignores_sigterm(
    runctl: CommandLine, faults: Faults, ec2: Any
) -> None:
    write_project(runctl.cwd, {"train.py": FULL})
    volume(runctl, "results")
    watcher, run = started(runctl, "--ebs-volume", "results")
    said(runctl, run, "cannot save: No space left on device")

    machine = shown(runctl, run)["instance_id"]
    faults.rebalance(machine)
    ends_at = faults.interrupt(machine, seconds=40)
    assert faults.interrupt(machine, seconds=60) == ends_at
    out, err = (each.decode() for each in watcher.communicate(timeout=200))

    assert watcher.returncode == 0, err
    assert "step-40.json is not complete" in out
    # That it had to be killed is written in the machine's last seconds: EC2's word may be heard before.
    why = shown(runctl, run)["attempts"][0]["message"]
    assert why.endswith(
        (
            "it had to be killed when its grace was over",
            "(Server.SpotInstanceTermination: Spot instance termination)",
        )
    )
    assert "from 20" in out.splitlines()
    assert story(runctl, run) == [("INTERRUPTED", None, 20), ("COMPLETED", 20, 60)]
    check_one_story(runctl, ec2, run)


def test_a_store_that_refuses_for_a_while_and_a_machine_that_dies_meanwhile(
    runctl: CommandLine, faults: Faults, ec2: Any, docker_sandbox: SandboxInfo
) -> None:
    write_project(runctl.cwd, {"train.py": DENIED})
    client(docker_sandbox, "s3").create_bucket(Bucket="denied")
    iam = client(docker_sandbox, "iam")
    watcher, run = started(runctl, "--checkpoint-s3", "s3://denied/runs", "--", 60)
    said(runctl, run, "published step-")
    role = ec2.describe_instances(InstanceIds=[shown(runctl, run)["instance_id"]])
    profile = role["Reservations"][0]["Instances"][0]["IamInstanceProfile"]["Arn"].rpartition("/")[2]
    deny = {"Effect": "Deny", "Action": "s3:PutObject", "Resource": "*"}

    def refuse() -> None:
        document = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
        iam.put_role_policy(RoleName=profile, PolicyName="refused", PolicyDocument=document)

    def trouble() -> Any:
        return (shown(runctl, run)["checkpoint"] or {}).get("trouble")

    refuse()
    until(trouble, seconds=60, what="the store's refusal to be told")
    assert "PutObject" in runctl("runs", "show", run).ok().out
    iam.delete_role_policy(RoleName=profile, PolicyName="refused")
    until(lambda: not trouble(), seconds=90, what="publishing to go on")
    published = shown(runctl, run)["checkpoint"]["step"]
    faults.kill_instance(shown(runctl, run)["instance_id"])
    out, err = (each.decode() for each in watcher.communicate(timeout=200))

    assert watcher.returncode == 0, err
    (first, second) = story(runctl, run)
    assert first[0] == "LOST"
    assert second[::2] == ("COMPLETED", 60)
    assert second[1] is not None
    assert second[1] >= published, "what was published is not done again"
    assert f"from {second[1]}" in out.splitlines()
    # What was saved, and not published when the machine died, is gone with it.
    check_one_story(runctl, ec2, run, is_unsure=True)


def test_a_notice_while_the_image_is_built(runctl: CommandLine, faults: Faults, ec2: Any) -> None:
    dockerfile = "FROM python:3.11-slim\nRUN echo building; sleep 12\nCOPY . /workspace\n"
    write_project(runctl.cwd, {"train.py": "print('trained', flush=True)", "Dockerfile": dockerfile})
    watcher, run = started(runctl, "--no-checkpoint", "--build-on", "instance")
    said(runctl, run, "building")

    faults.interrupt(shown(runctl, run)["instance_id"], seconds=6)
    out, err = (each.decode() for each in watcher.communicate(timeout=240))

    assert watcher.returncode == 0, err
    assert out.splitlines().count("trained") == 1
    assert [each[0] for each in story(runctl, run)] == ["INTERRUPTED", "COMPLETED"]
    check_one_story(runctl, ec2, run)


def test_a_script_that_needs_longer_than_the_notice_and_a_newest_checkpoint_that_is_cut_short_in_its_store(
    runctl: CommandLine, faults: Faults, ec2: Any, docker_sandbox: SandboxInfo
) -> None:
    write_project(runctl.cwd, {"train.py": SLOW})
    s3 = client(docker_sandbox, "s3")
    s3.create_bucket(Bucket="cut-short")
    watcher, run = started(runctl, "--checkpoint-s3", "s3://cut-short/runs")
    said(runctl, run, "published step-2.json")
    key = f"runs/{run}/data/{hashlib.sha256(b'2').hexdigest()}"
    assert s3.get_object(Bucket="cut-short", Key=key)["Body"].read() == b"2"
    s3.put_object(Bucket="cut-short", Key=key, Body=b"")

    faults.interrupt(shown(runctl, run)["instance_id"], seconds=12)
    out, err = (each.decode() for each in watcher.communicate(timeout=200))

    assert watcher.returncode == 0, err
    why = shown(runctl, run)["attempts"][0]["message"]
    assert why.endswith("it had to be killed when its grace was over"), "the store has its machine's own word"
    assert "checkpoints/0001-000002.json in the store cannot be used" in out
    assert story(runctl, run) == [("INTERRUPTED", None, 2), ("COMPLETED", 1, 3)]
    check_one_story(runctl, ec2, run, is_unsure=True)


def test_success_in_the_second_of_the_notice_is_found_on_the_volume_and_nothing_is_done_again(
    runctl: CommandLine, faults: Faults, ec2: Any
) -> None:
    write_project(runctl.cwd, {"train.py": ENDS})
    volume(runctl, "results")
    run = str(runctl(*LAUNCH[:-1], "--ebs-volume", "results", "--quiet").ok().out.strip())
    said(runctl, run, "up")
    machine = shown(runctl, run)["instance_id"]
    before = runctl("runs", "list", "--cached", "--output", "json").ok().json

    # Nobody watches: what is known here of the end is the provider's word, until the volume tells.
    runctl("aws", "exec", machine, "--", "touch", "/tmp/go").ok()
    faults.interrupt(machine, seconds=4)
    until(lambda: running(ec2) == [], seconds=60, what="the machine's end")
    assert [each["end_reason"] for each in before if each["id"] == run] == [None]
    assert shown(runctl, run)["end_reason"] == "INTERRUPTED"
    watched = runctl("runs", "watch", run, "--every", "1s", timeout=200).ok()

    assert watched.out.strip() == f"{run} ended as COMPLETED after 1 attempt"
    assert runctl("runs", "logs", run).out.splitlines().count("done") == 1
    check_one_story(runctl, ec2, run)
    assert "ended as COMPLETED" in runctl("runs", "recover", run).ok().out
