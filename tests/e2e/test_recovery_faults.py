"""What goes wrong while a run is carried on: nothing verified is lost, nothing runs twice, nothing is left rented."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.fault_client import Faults
from tests.e2e.account import create, volume, volume_named
from tests.e2e.command_line import CommandLine, until, write_project
from tests.e2e.one_story import check_one_story
from tests.e2e.test_launch import client, running
from tests.e2e.test_recovery import TRAIN, a_run, rented_for, shown, weights
from tests.e2e.test_spot_faults import said, started, story

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.namespaces,
    pytest.mark.docker,
    pytest.mark.usefixtures("clean_account"),
]

LARGE = """\
import os, pathlib, signal, sys, time

folder = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"])
resumed = os.environ["RUNCTL_RESUME_FROM"]
step, stop = int(resumed.rpartition("-")[2].partition(".")[0]) if resumed else 0, []
print("from", step, flush=True)
signal.signal(signal.SIGTERM, lambda *_: stop.append(True))

def save(size):
    part = folder / ".part"
    part.write_bytes(os.urandom(size))
    part.rename(folder / f"step-{step}.bin")

while step < 40:
    step += 1
    if step == 10:
        save(1 << 20)
    time.sleep(0.1 if step != 20 or stop else 0)
    while step == 20 and not stop and not resumed:
        time.sleep(0.1)
    if stop:
        save(8 << 20)
        print("saved", step, flush=True)
        sys.exit(1)
save(1000)
print("done", flush=True)
"""
WAITS = """\
import json, os, pathlib, time

folder = pathlib.Path(os.environ["RUNCTL_CHECKPOINT_DIR"])

def save(step):
    part = folder / ".part"
    part.write_text(json.dumps({"step": step}))
    part.rename(folder / f"step-{step}.json")

save(1)
print("begun", flush=True)
time.sleep(25)
save(2)
print("done", flush=True)
"""
SKEW = """\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
#define AHEAD 10800
int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(id, at);
    if (!done && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) at->tv_sec += AHEAD;
    return done;
}
int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""


def ended(runctl: CommandLine, run: str, attempt: int) -> Any:
    """The attempt, once it has ended."""

    def found() -> Any:
        attempts = shown(runctl, run)["attempts"]
        return len(attempts) >= attempt and attempts[attempt - 1]["end_reason"] and attempts[attempt - 1]

    return until(found, seconds=120, what=f"the end of attempt {attempt}")


def a_spot_run(runctl: CommandLine, steps: int = 200) -> tuple[str, str]:
    """One with a volume and a checkpoint, and its machine."""
    volume(runctl, "results")
    machine = create(runctl, "--spot", "--ebs-volume", "results")
    return half_way(runctl, machine, steps), machine


def half_way(runctl: CommandLine, machine: str, steps: int = 200) -> str:
    run = a_run(runctl, machine, 2, steps)
    until(lambda: (shown(runctl, run)["attempts"][0]["step"] or 0) >= 10, seconds=90, what="a checkpoint")
    return run


def completed(runctl: CommandLine, ec2: Any, run: str, attempts: int, steps: int = 200) -> None:
    """It goes on to its end, with the weights of a run that nothing has interrupted."""
    watching = runctl("runs", "watch", run, "--every", "1s", timeout=240).ok()
    assert watching.out.strip() == f"{run} ended as COMPLETED after {attempts} attempts"
    assert f"weights {weights(steps)} kept" in runctl("runs", "logs", run).out
    assert len(check_one_story(runctl, ec2, run)) == attempts


def test_notices_while_a_slow_store_is_written_to_and_while_it_is_read(
    runctl: CommandLine, faults: Faults, ec2: Any, docker_sandbox: SandboxInfo
) -> None:
    write_project(runctl.cwd, {"train.py": LARGE})
    client(docker_sandbox, "s3").create_bucket(Bucket="slow")
    watcher, run = started(runctl, "--checkpoint-s3", "s3://slow/runs")
    said(runctl, run, "published step-10.bin")

    faults.store(bytes_per_second=150 << 10)
    faults.interrupt(shown(runctl, run)["instance_id"], seconds=25)
    first = ended(runctl, run, 1)
    assert first["end_reason"] == "INTERRUPTED"
    # The watcher may have been quicker: then it is another attempt's that is shown.
    now = shown(runctl, run)
    if now["attempt"] == 1:
        assert now["hand_off"]["checkpoint"] == "step-10.bin"
        assert any("published" in each for each in now["hand_off"]["left"]), now

    # So slow that the restore takes a minute: there is time to see it.
    faults.store(bytes_per_second=20 << 10)
    (second,) = until(lambda: rented_for(ec2, f"{run}/2"), seconds=120, what="the second machine")

    def restores() -> bool:
        log = runctl("runs", "logs", run).out if shown(runctl, run)["attempt"] == 2 else ""
        return "looking for checkpoints in the store" in log

    until(restores, seconds=150, what="the restore")
    faults.interrupt(second["InstanceId"], seconds=6)
    ended(runctl, run, 2)
    faults.store()
    out, err = (each.decode() for each in watcher.communicate(timeout=240))

    assert watcher.returncode == 0, err
    ends, begins, steps = zip(*story(runctl, run), strict=True)
    assert (ends, begins[0], begins[-1]) == (("INTERRUPTED", "INTERRUPTED", "COMPLETED"), None, 10)
    assert steps[-1] == 40
    assert "from 10" in out.splitlines()
    # What could not be published in time has gone with its machine, as the hand-over says.
    check_one_story(runctl, ec2, run, is_unsure=True)


def test_a_store_that_is_away_for_a_while_holds_up_no_training_and_gets_all_of_it_afterwards(
    runctl: CommandLine, faults: Faults, ec2: Any, docker_sandbox: SandboxInfo
) -> None:
    write_project(runctl.cwd, {"train.py": WAITS})
    client(docker_sandbox, "s3").create_bucket(Bucket="away")
    watcher, run = started(runctl, "--checkpoint-s3", "s3://away/runs")
    said(runctl, run, "published step-1.json")

    faults.store(away=True)
    until(lambda: "checkpoint not published" in runctl("runs", "list").out, seconds=60, what="the alarm")
    assert f"{run}: the newest checkpoint is not published" in runctl("status").out
    said(runctl, run, "done")
    assert shown(runctl, run)["state"] != "ended", "its last checkpoint is in no store yet"
    faults.store()
    _, err = (each.decode() for each in watcher.communicate(timeout=240))

    assert watcher.returncode == 0, err
    assert story(runctl, run) == [("COMPLETED", None, 2)]
    assert shown(runctl, run)["checkpoint"]["published_at"]
    check_one_story(runctl, ec2, run)


def test_a_notice_while_volumes_are_attached(runctl: CommandLine, faults: Faults, ec2: Any) -> None:
    run, machine = a_spot_run(runctl)
    volume_id = volume_named(runctl, "results")["id"]
    faults.interrupt(machine, seconds=12)
    watching = runctl.start("runs", "watch", run, "--every", "1s")

    def taken() -> str | None:
        (found,) = ec2.describe_volumes(VolumeIds=[volume_id])["Volumes"]
        holders = [each["InstanceId"] for each in found["Attachments"] if each["InstanceId"] != machine]
        return holders[0] if holders else None

    second = until(taken, seconds=120, what="the volume to be attached to the second machine")
    faults.interrupt(second, seconds=0.5)
    out, err = (each.decode() for each in watching.communicate(timeout=240))

    assert watching.returncode == 0, err
    assert f"{run} ended as COMPLETED after " in out
    assert f"weights {weights(200)} kept" in runctl("runs", "logs", run).out
    ends, begins, _ = zip(*story(runctl, run), strict=True)
    assert set(ends[:-1]) <= {"INTERRUPTED", "NOT_STARTED", "LOST"}, ends
    assert begins[-1] > 0
    check_one_story(runctl, ec2, run)


def test_a_volume_that_a_dead_machine_holds_is_waited_for(
    runctl: CommandLine, faults: Faults, ec2: Any
) -> None:
    run, machine = a_spot_run(runctl)
    faults.kill_instance(machine, holds_seconds=30)
    watching = runctl.start("runs", "watch", run, "--every", "1s")
    out, err = (each.decode() for each in watching.communicate(timeout=240))

    assert watching.returncode == 0, err
    assert f"waiting until {machine} lets go of its volumes" in err
    assert out.strip() == f"{run} ended as COMPLETED after 2 attempts"
    assert f"weights {weights(200)} kept" in runctl("runs", "logs", run).out
    first, second = shown(runctl, run)["attempts"]
    assert first["end_reason"] == "LOST"
    assert first["step"] == second["resumed_step"] > 0
    assert len(rented_for(ec2, f"{run}/2")) == 1
    check_one_story(runctl, ec2, run)


def test_a_quota_that_is_reached_is_told_apart_from_no_capacity_and_the_run_goes_on_afterwards(
    runctl: CommandLine, faults: Faults, ec2: Any
) -> None:
    run, machine = a_spot_run(runctl)
    faults.quota("standard", 0, market="spot")
    faults.interrupt(machine, seconds=12)
    assert ended(runctl, run, 1)["end_reason"] == "INTERRUPTED"

    refused = runctl("runs", "recover", run)
    assert "quota" in (refused.out + refused.err).lower(), refused
    assert refused.code == 6, refused
    assert running(ec2) == [] or running(ec2) == [machine]
    faults.quota("standard", None, market="spot")
    assert f"{run} goes on as attempt 2" in runctl("runs", "recover", run).ok().out
    completed(runctl, ec2, run, 2)


def test_without_capacity_anywhere_the_search_ends_when_it_was_told_to_and_the_run_can_go_on_later(
    runctl: CommandLine, faults: Faults, ec2: Any, docker_sandbox: SandboxInfo
) -> None:
    write_project(runctl.cwd, {"train.py": TRAIN})
    client(docker_sandbox, "s3").create_bucket(Bucket="nowhere")
    options = ("--checkpoint-s3", "s3://nowhere/runs", "--env", "SALT=kept", "--retry-within", "5s")
    watcher, run = started(runctl, *options, "--", 200, 2)
    said(runctl, run, "published step-")
    faults.no_capacity(market="spot")
    faults.interrupt(shown(runctl, run)["instance_id"], seconds=12)
    _, err = (each.decode() for each in watcher.communicate(timeout=240))

    assert watcher.returncode not in {0, None}
    assert "capacity" in err
    assert "runctl runs recover tries again" in err
    assert f"checkpoints and log are in s3://nowhere/runs/{run}" in err
    assert story(runctl, run)[0][0] == "INTERRUPTED"
    assert running(ec2) == []
    faults.capacity(None, market="spot")
    assert f"{run} goes on as attempt 2" in runctl("runs", "recover", run).ok().out
    completed(runctl, ec2, run, 2)


def test_a_watcher_whose_network_is_cut_rents_nothing_and_goes_on_when_it_is_back(
    runctl: CommandLine, faults: Faults, ec2: Any, tmp_path: Path
) -> None:
    run, machine = a_spot_run(runctl)
    cut, told = tmp_path / "cut", tmp_path / "told"
    with told.open("wb") as file:
        watching = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.cut_off", "runs", "watch", run, "--every", "1s"],
            cwd=runctl.cwd,
            env={
                **os.environ,
                **runctl.env,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "CUT_WHILE": str(cut),
            },
            stdout=subprocess.PIPE,
            stderr=file,
        )

    def rounds(more: int) -> None:
        wanted = told.read_text().count("watching 1 run") + more
        until(lambda: told.read_text().count("watching 1 run") >= wanted, seconds=120, what="another round")

    rounds(2)
    cut.touch()
    rounds(3)
    assert [each["end_reason"] for each in shown(runctl, run)["attempts"]] == [None]
    faults.interrupt(machine, seconds=12)
    ended(runctl, run, 1)
    rounds(3)
    assert rented_for(ec2, f"{run}/2") == []
    cut.unlink()
    out, _ = watching.communicate(timeout=240)

    assert watching.returncode == 0, told.read_text()
    assert out.decode().strip() == f"{run} ended as COMPLETED after 2 attempts"
    assert f"weights {weights(200)} kept" in runctl("runs", "logs", run).out
    assert len(rented_for(ec2, f"{run}/2")) == 1
    check_one_story(runctl, ec2, run)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler makes a clock that is wrong")
def test_a_machine_whose_clock_is_wrong_by_hours_has_its_notice_in_time(
    runctl: CommandLine, faults: Faults, ec2: Any
) -> None:
    volume(runctl, "results")
    machine = create(runctl, "--spot", "--ebs-volume", "results")
    made = 'printf %s "$1" >/tmp/skew.c && cc -shared -fPIC -o /usr/lib/skew.so /tmp/skew.c -ldl'
    preloaded = f"{made} && echo /usr/lib/skew.so >/etc/ld.so.preload"
    runctl("aws", "exec", machine, "--", "sudo", "sh", "-c", preloaded, "sh", SKEW).ok()
    there = int(runctl("aws", "exec", machine, "--", "date", "+%s").ok().out)
    assert there - time.time() > 10_000
    run = half_way(runctl, machine)
    assert shown(runctl, run)["elapsed_seconds"] < 600

    faults.interrupt(machine, seconds=20)
    first = ended(runctl, run, 1)
    handed = shown(runctl, run)["hand_off"]
    assert first["end_reason"] == "INTERRUPTED"
    assert handed["checkpoint"] == f"step-{handed['step']}.json"
    assert {"heard", "signalled", "script_ended", "verified", "flushed", "unmounted"} <= set(handed["stages"])
    completed(runctl, ec2, run, 2)
    assert shown(runctl, run)["attempts"][1]["resumed_step"] == handed["step"]


def test_whoever_recovers_a_run_may_be_killed_after_any_call(
    runctl: CommandLine, faults: Faults, ec2: Any
) -> None:
    run, machine = a_spot_run(runctl)
    faults.interrupt(machine, seconds=12)
    assert ended(runctl, run, 1)["end_reason"] == "INTERRUPTED"

    for call in ("RunInstances|CreateFleet", "AttachVolume", "start"):
        mortal = replace(runctl, env={**runctl.env, "KILL_AFTER": call})
        done = mortal.another("tests.e2e.killed", "runs", "recover", run)
        assert done.code == -9, (call, str(done))

    runctl("runs", "recover", run).ok()
    completed(runctl, ec2, run, 2)
    assert len(rented_for(ec2, f"{run}/2")) == 1
