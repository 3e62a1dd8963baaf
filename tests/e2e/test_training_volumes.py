"""Volumes in trainings: attached for a run, shared, in use elsewhere, and lost under it; on real machines."""

from __future__ import annotations

import contextlib
import json
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from runctl.sandbox.connection import SandboxInfo
from tests.e2e.command_line import CommandLine, Outcome, kill, until, write_project
from tests.forked.client import Forked

pytestmark = [pytest.mark.namespaces, pytest.mark.docker]

SCRIPT = """\
import os, pathlib, sys, time
data, saves = (pathlib.Path(os.environ[f"RUNCTL_{word}_DIR"]) for word in ("DATA", "CHECKPOINT"))
print("at", data, saves, flush=True)
(saves / "deep").mkdir()
(saves / "deep" / "last").write_text("saved")
if "--forever" in sys.argv:
    while True:
        print("tick", flush=True)
        (data / "beat").write_text("beat")
        time.sleep(0.1)
"""
FILL = (
    "import os\nwith open(os.environ['RUNCTL_DATA_DIR'] + '/big', 'wb') as file:\n"
    "    while True:\n        file.write(bytes(1 << 24))\n"
)
DOCKERFILE = "FROM python:3.11-slim\nRUN sleep 8\nWORKDIR /workspace\nCOPY . .\n"
IMAGE = ("--image", "python:3.11-slim")


@dataclass
class Watched:
    """A ``train --wait`` that goes on beside the test, and whose script has begun."""

    run: str
    process: Forked
    told: str

    def end(self) -> tuple[int, str, str]:
        """Its code, its result and all that it told, when it has ended."""
        out, err = self.process.communicate(timeout=90)
        return self.process.wait(), out.decode(), self.told + err.decode()


@dataclass
class Fleet:
    """Two machines in one zone, and the command line."""

    runctl: CommandLine
    ec2: Any
    first: str
    second: str

    def volume(self, name: str, *options: str) -> str:
        created = self.runctl("aws", "ebs", "create", "--size", 1, "--name", name, "--quiet", *options).ok()
        return created.out.strip()

    def train(self, *options: object, on: str = "", script: str = "train.py", code: int = 0) -> Outcome:
        done = self.runctl("aws", "train", on or self.first, script, "--output", "json", *options)
        assert done.code == code, f"{done}"
        return done

    def on_machine(self, *command: str) -> str:
        return self.runctl("aws", "exec", "--root", self.first, "--", *command).ok().out.strip()

    def watch(self, *options: object, project: Path | None = None, until_it_says: str = "tick") -> Watched:
        runctl = self.runctl if project is None else self.runctl.in_folder(project)
        argv = ["--wait", "--output", "json", "--grace", "2s", "--", "--forever"]
        process = runctl.start("aws", "train", self.first, "train.py", *options, *argv)
        assert process.stderr is not None
        told = ""
        while until_it_says not in told:
            line = process.stderr.readline().decode()
            assert line, told
            told += line
        return Watched(re.findall(r"^run +(run-\w+)", told, re.MULTILINE)[0], process, told)

    def attached_to(self, volume: str) -> str | None:
        listed = self.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["Attachments"]
        return listed[0]["InstanceId"] if listed else None


@pytest.fixture(scope="module")
def fleet(
    docker_sandbox: SandboxInfo, ssh_account: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    project = write_project(folder / "project", {"train.py": SCRIPT, "fill.py": FILL})
    account = {"RUNCTL_AWS_IDENTITY_FILE": ssh_account["key"], "XDG_DATA_HOME": str(folder / "data")}
    runctl = CommandLine(project, {**docker_sandbox.environment(), **account})
    ec2 = boto3.client(
        "ec2",
        endpoint_url=docker_sandbox.endpoint_url,
        region_name=docker_sandbox.region,
        aws_access_key_id=runctl.env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=runctl.env["AWS_SECRET_ACCESS_KEY"],
    )
    create = ["aws", "create", "t3.medium", "--quiet", "--zone", "us-east-1a", "--key-name", "e2e"]
    create += ["--security-group", ssh_account["group"]]
    second = runctl(*create, "--no-wait").ok().out.strip()
    first = runctl(*create).ok().out.strip()
    yield Fleet(runctl, ec2, first, second)
    runctl("aws", "terminate", first, second, "--yes").ok()
    until(lambda: no_volume_is_left(ec2, {first, second}), seconds=60, what="the volumes to be gone")


def no_volume_is_left(ec2: Any, machines: set[str]) -> bool:
    """Other tests' machines, which may be there still, keep theirs."""
    left = [
        volume
        for volume in ec2.describe_volumes()["Volumes"]
        if all(held["InstanceId"] in machines for held in volume["Attachments"])
    ]
    for volume in left:
        # Root disks go by themselves, at any moment.
        with contextlib.suppress(ec2.exceptions.ClientError):
            ec2.delete_volume(VolumeId=volume["VolumeId"])
    return not left


def test_a_volume_is_attached_for_a_container_which_saves_to_it_as_the_login_user(fleet: Fleet) -> None:
    volume = fleet.volume("attached")
    plan = fleet.train("--ebs-mount", "attached:/data", *IMAGE, "--dry-run").json
    assert fleet.attached_to(volume) is None

    done = fleet.train("--ebs-mount", "attached:/data", *IMAGE, "--user", "0", "--wait")

    assert [(item["volume_id"], item["mount_point"], item["attached"]) for item in plan["attachments"]] == [
        (volume, "/mnt/attached", False)
    ]
    assert plan["mounts"][0] == {
        "source": "/mnt/attached",
        "target": "/data",
        "read_only": False,
        "volume_id": volume,
        "origin": "--ebs-mount",
        "volume_name": "attached",
        "size_bytes": 1 << 30,
        "free_bytes": None,
        "shared_with": [],
    }
    run = done.json["id"]
    assert done.json["mounts"][0]["volume_id"] == volume
    assert f"at /data /data/runs/{run}/checkpoints" in done.err
    owners = fleet.on_machine("find", "/mnt/attached", "-not", "-name", "lost+found", "-printf", "%u\n")
    assert set(owners.split()) == {"ec2-user"}
    assert fleet.on_machine("cat", f"/mnt/attached/runs/{run}/checkpoints/deep/last") == "saved"
    assert fleet.attached_to(volume) == fleet.first
    second = fleet.train("--ebs-mount", "attached:/data", *IMAGE, "--dry-run").json
    assert second["attachments"] == []
    assert 0 < second["mounts"][0]["free_bytes"] < second["mounts"][0]["size_bytes"]


def test_on_the_host_ebs_volume_and_a_folder_of_it_are_shown(fleet: Fleet) -> None:
    volume = fleet.volume("hosted")
    host = ["--no-docker", "--no-ebs-auto"]
    (fleet.runctl.cwd / ".runctl.toml").write_text('[ebs]\nmount_points = ["hosted:/configured:ro"]\n')
    try:
        plan = fleet.train("--ebs-volume", "hosted", "--mount-point", "/mnt/x", *host, "--dry-run").json
    finally:
        (fleet.runctl.cwd / ".runctl.toml").unlink()

    done = fleet.train("--ebs-volume", "hosted", "--mount-point", "/mnt/x", *host, "--wait")
    run = done.json["id"]
    folder, whole = f"/mnt/x/runs/{run}:/earlier:ro", f"{volume}:/now"
    within = fleet.train("--ebs-mount", folder, "--ebs-mount", whole, *host, "--wait")
    missing = fleet.train("--ebs-mount", "/mnt/x/nosuch:/data", *host, code=1)

    shown = [(item["source"], item["target"], item["read_only"], item["origin"]) for item in plan["mounts"]]
    assert shown == [("/mnt/x", "/configured", True, "config")]
    assert [(entry["mount_point"], entry["read_only"]) for entry in plan["attachments"]] == [("/mnt/x", True)]
    assert f"at /mnt/x /mnt/x/runs/{run}/checkpoints" in done.err
    assert f"at /earlier /now/runs/{within.json['id']}/checkpoints" in within.err
    assert missing.error["code"] == "bad-mount"
    assert "no folder /mnt/x/nosuch" in missing.error["message"]


def test_who_has_a_volume_is_told_a_run_beside_is_allowed_and_force_ends_it(fleet: Fleet) -> None:
    volume = fleet.volume("wanted")
    watched = fleet.watch("--ebs-mount", "wanted:/data", *IMAGE)

    taken = fleet.train("--ebs-mount", "wanted:/data", *IMAGE, on=fleet.second, code=1)
    beside = fleet.train("--ebs-mount", "wanted:/data", *IMAGE, "--dry-run").json
    busy = fleet.runctl("aws", "ebs", "detach", "wanted", "--output", "json")
    fleet.runctl("aws", "ebs", "detach", "wanted", "--force").ok()
    fleet.ec2.delete_volume(VolumeId=volume)
    code, out, told = watched.end()

    assert taken.error["code"] == "volume-in-use"
    for fact in (volume, fleet.first, f"{watched.run} (train.py)"):
        assert fact in taken.error["message"]
    assert f"runctl runs stop {watched.run}" in taken.error["hint"]
    assert beside["mounts"][0]["shared_with"] == [watched.run]
    assert any(watched.run in note for note in beside["notes"])
    assert busy.error["code"] == "disk-busy"
    assert (code, json.loads(out)["end_reason"]) == (1, "DATA_FAILED"), told
    assert f"volume {volume} at /mnt/wanted (the script's /data) was taken away" in told
    assert fleet.on_machine("docker", "ps", "--all", "--quiet") == ""


def test_a_run_on_the_host_keeps_its_volume_though_it_has_no_file_open_there(fleet: Fleet) -> None:
    volume = fleet.volume("held")
    watched = fleet.watch("--ebs-volume", "held", "--no-docker", "--no-ebs-auto")

    busy = fleet.runctl("aws", "ebs", "detach", "held", "--output", "json")
    still = fleet.attached_to(volume)
    fleet.runctl("runs", "stop", watched.run).ok()
    watched.end()
    fleet.runctl("aws", "ebs", "detach", "held").ok()

    assert busy.error["message"] == f"volume held is in use by {watched.run} (train.py)"
    assert (busy.error["code"], still) == ("disk-busy", fleet.first)
    assert fleet.attached_to(volume) is None


def test_what_cannot_be_attached_is_refused_and_nothing_stays_attached(fleet: Fleet) -> None:
    far, theirs = (
        fleet.ec2.create_volume(AvailabilityZone=f"us-east-1{letter}", Size=1)["VolumeId"] for letter in "ba"
    )

    zone = fleet.train("--ebs-mount", f"{far}:/data", code=1)
    unformatted = fleet.train("--ebs-mount", f"{theirs}:/data", code=1)

    assert (zone.error["code"], far in zone.error["message"]) == ("zone-mismatch", True)
    assert unformatted.error["code"] == "blank"
    assert "is detached again" in unformatted.err
    assert fleet.attached_to(theirs) is None
    assert theirs not in fleet.on_machine("cat", "/etc/fstab")


def test_a_volume_that_fills_or_freezes_under_a_container_is_named(fleet: Fleet) -> None:
    volume = fleet.volume("worn")

    filled = fleet.train("--ebs-mount", "worn:/data", *IMAGE, "--wait", script="fill.py", code=1)
    fleet.on_machine("rm", "/mnt/worn/big")
    watched = fleet.watch("--ebs-mount", "worn:/data", *IMAGE)
    # Not while a file is open for writing.
    fleet.on_machine("sh", "-c", "until mount -o remount,ro /mnt/worn; do :; done")
    code, out, told = watched.end()
    refused = fleet.train("--ebs-mount", "worn:/data", *IMAGE, code=1)

    assert filled.json["end_reason"] == "DISK_FULL"
    assert f"volume {volume} at /mnt/worn (the script's /data) has no room left" in filled.err
    assert (code, json.loads(out)["end_reason"], json.loads(out)["exit_code"]) == (1, "DATA_FAILED", 1), told
    assert f"volume {volume} at /mnt/worn (the script's /data) has become read-only" in told
    assert refused.error["code"] == "read-only"


def test_a_volume_that_goes_while_the_image_is_built_starts_nothing(fleet: Fleet) -> None:
    volume = fleet.volume("gone")
    files = {"train.py": SCRIPT, "Dockerfile": DOCKERFILE}
    project = write_project(fleet.runctl.cwd.parent / "building", files)
    watched = fleet.watch("--ebs-mount", "gone:/data", project=project, until_it_says="building the image")

    refused = fleet.runctl("aws", "ebs", "detach", "gone")
    fleet.runctl("aws", "ebs", "detach", "gone", "--force").ok()
    code, out, told = watched.end()

    assert "in use by run-" in refused.err
    assert (code, json.loads(out)["end_reason"]) == (1, "DATA_FAILED"), told
    assert f"volume {volume}" in told
    assert "at /data" not in told
    assert fleet.attached_to(volume) is None


def test_a_command_that_dies_while_attaching_can_be_repeated(fleet: Fleet) -> None:
    volume = fleet.volume("cut")
    cut = fleet.runctl.start("aws", "train", fleet.first, "train.py", "--ebs-mount", "cut:/data", *IMAGE)
    until(lambda: fleet.attached_to(volume), what="the attachment")
    kill(cut, signal.SIGKILL)

    done = fleet.train("--ebs-mount", "cut:/data", *IMAGE, "--wait")

    assert done.json["end_reason"] == "COMPLETED"
    assert fleet.attached_to(volume) == fleet.first

    # Behind our back, with the file system still mounted.
    fleet.ec2.detach_volume(VolumeId=volume, Force=True)
    lost = fleet.train("--ebs-mount", "cut:/data", *IMAGE, code=1)

    assert lost.error["code"] in {"mount-point-taken", "volume-lost"}
    assert "/mnt/cut" in lost.error["message"]
    assert fleet.attached_to(volume) is None
