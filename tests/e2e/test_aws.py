"""The main job on AWS: real command line, real machines, disks and containers behind the sandbox's API."""

from __future__ import annotations

import dataclasses
import signal

import pytest

from runctl.core.machine_models import Instance, Volume
from runctl.sandbox.fault_client import Faults
from tests.e2e.account import create, terminate, volume, volume_named
from tests.e2e.command_line import CommandLine, kill, until

pytestmark = [
    pytest.mark.namespaces,
    pytest.mark.docker,
    pytest.mark.usefixtures("clean_account"),
]

INSTANCE_FIELDS = [field.name for field in dataclasses.fields(Instance)]


VOLUME_FIELDS = [field.name for field in dataclasses.fields(Volume)]


@pytest.mark.parametrize("transport", ["ssm", "ssh"])
def test_the_main_job_in_a_container_and_on_the_host(
    runctl: CommandLine, in_container: CommandLine, ssh_account: dict[str, str], transport: str
) -> None:
    volume(runctl)
    ssh = ["--key-name", "e2e", "--security-group", ssh_account["group"]] if transport == "ssh" else []
    with_key = {**runctl.env, "RUNCTL_AWS_IDENTITY_FILE": ssh_account["key"]} if ssh else runctl.env
    runctl, in_container = CommandLine(runctl.cwd, with_key), CommandLine(in_container.cwd, with_key)
    instance = create(runctl, "--spot", "--ebs-volume", "datasets", "--mount-point", "/mnt/data", *ssh)
    runctl("aws", "exec", instance, "--", "tee", "/mnt/data/set.txt", stdin="the data").ok()
    way = ["--transport", transport]

    contained = in_container(
        "aws",
        "train",
        instance,
        "training/train.py",
        "--ebs-mount",
        "/mnt/data:/data",
        *way,
        "--wait",
        "--",
        "a b",
        "",
    ).ok()
    hosted = runctl(
        "aws",
        "train",
        instance,
        "training/train.py",
        "--ebs-mount",
        "/mnt/data:/data",
        *way,
        "--wait",
        "--",
        "--exit",
        "3",
    )

    assert 'args ["a b", ""]' in contained.out
    assert "sees ['runs', 'set.txt']" in contained.out
    assert hosted.code == 3, f"{hosted}"
    assert "sees ['runs', 'set.txt']" in hosted.out
    runs = runctl("runs", "list", "--output", "json").ok().json
    assert [(run["end_reason"], run["exit_code"]) for run in runs] == [("FAILED", 3), ("COMPLETED", 0)]
    assert runs[1]["mounts"][0]["target"] == "/data"
    assert runs[1]["mounts"][0]["origin"] == "--ebs-mount"
    assert float(runs[1]["cost"]) > 0

    terminate(runctl, instance)
    second = create(runctl, "--ebs-volume", "datasets", "--mount-point", "/mnt/again", *ssh)
    found = runctl(
        "aws",
        "exec",
        second,
        "--",
        "cat",
        "/mnt/again/set.txt",
        f"/mnt/again/runs/{runs[1]['id']}/checkpoints/last.txt",
    ).ok()
    assert found.out == f"the data{runs[1]['id']}"
    owner = runctl(
        "aws", "exec", second, "--", "stat", "-c", "%U", f"/mnt/again/runs/{runs[1]['id']}/checkpoints"
    )
    assert owner.ok().out.strip() == "ec2-user"


def test_exec_passes_input_output_and_code(runctl: CommandLine) -> None:
    instance = create(runctl)

    done = runctl(
        "aws", "exec", instance, "--", "sh", "-c", "cat; echo oops >&2; exit 42", stdin=b"in\x00put"
    )

    assert (done.code, done.out, done.err) == (42, "in\x00put", "oops\n")


def test_what_is_described_in_json_has_the_documented_fields(runctl: CommandLine) -> None:
    identifier = volume(runctl)
    instance = create(runctl, "--ebs-volume", identifier, "--mount-point", "/mnt/data", "--project", "vision")

    listed = runctl("aws", "list", "--output", "json").ok().json
    described = runctl("aws", "status", instance, "--output", "json").ok().json
    described_volume = volume_named(runctl, "datasets")

    assert list(described) == INSTANCE_FIELDS
    assert [found["id"] for found in listed] == [instance]
    assert (described["project"], described["market"]) == ("vision", "on-demand")
    assert {"volume_id": identifier, "device": "/dev/sdf", "mount_point": "/mnt/data"} in described["volumes"]
    assert float(described["price_per_hour"]) > 0
    assert list(described_volume) == VOLUME_FIELDS
    assert (described_volume["attached_to"], described_volume["mount_point"]) == (instance, "/mnt/data")


def test_a_volume_is_attached_mounted_detached_and_deleted(runctl: CommandLine) -> None:
    identifier, instance = volume(runctl), create(runctl)

    runctl("aws", "ebs", "attach", "datasets", instance, "--mount-point", "/mnt/late").ok()
    runctl("aws", "exec", instance, "--", "touch", "/mnt/late/here").ok()
    refused = runctl("aws", "ebs", "delete", "datasets", "--yes", "--output", "json")
    runctl("aws", "ebs", "detach", "datasets").ok()
    until(lambda: volume_named(runctl, "datasets")["state"] == "available", what="the detachment")
    runctl("aws", "ebs", "delete", identifier, "--yes").ok()

    assert refused.code == 1
    assert instance in refused.error["message"]
    assert identifier not in runctl("aws", "ebs", "list", "--quiet").ok().out.split()


def test_a_dry_run_creates_nothing(runctl: CommandLine) -> None:
    plan = runctl("aws", "create", "t3.medium", "--spot", "--dry-run", "--output", "json").ok().json

    assert (plan["instance_type"], plan["market"]) == ("t3.medium", "spot")
    assert float(plan["price"]["usd"]) > 0
    assert runctl("aws", "list", "--output", "json").ok().json == []


@pytest.mark.slow
def test_the_run_goes_on_when_the_command_dies_and_is_found_again(runctl: CommandLine) -> None:
    instance = create(runctl)
    watcher = runctl.start("aws", "train", instance, "training/train.py", "--wait", "--", "--forever")
    run_id = until(
        lambda: next(
            (
                run["id"]
                for run in runctl("runs", "list", "--output", "json").json
                if run["state"] == "running"
            ),
            None,
        ),
        what="the run",
    )
    kill(watcher, signal.SIGKILL)

    assert "tick" in runctl("aws", "monitor", instance, "--no-follow").ok().out
    (row,) = runctl("aws", "processes", instance, "--output", "json").ok().json
    assert (row["run_id"], row["state"]) == (run_id, "running")
    stopped = runctl("runs", "stop", run_id, "--output", "json").ok().json
    assert stopped[0]["end_reason"] == "STOPPED"
    assert runctl("aws", "processes", instance, "--output", "json").ok().json == []


@pytest.mark.slow
def test_a_run_in_a_container_is_stopped_and_its_log_kept(in_container: CommandLine) -> None:
    create(in_container, "--name", "trainer")
    train = ("aws", "train", "trainer", "training/train.py", "--run-name", "base", "--env", "TOKEN=s3cret")
    run_id = in_container(*train, "--quiet", "--", "--forever").ok().out.strip()
    until(lambda: "tick" in in_container("runs", "logs", "base").out, what="the first tick")

    stopped = in_container("runs", "stop", "base", "--grace", "2s", "--output", "json").ok().json

    assert (stopped[0]["id"], stopped[0]["end_reason"]) == (run_id, "STOPPED")
    assert "tick" in in_container("runs", "logs", run_id).ok().out
    assert "tick" in in_container("aws", "monitor", "trainer", "base", "--no-follow").ok().out
    left = in_container("aws", "exec", "trainer", "--", "docker", "ps", "--all", "--quiet").ok()
    assert left.out == ""
    # What is needed to repeat it, and no secret.
    shown = in_container("runs", "show", "latest", "--output", "json").ok()
    run = shown.json
    assert (run["id"], run["name"], run["instance_name"]) == (run_id, "base", "trainer")
    assert (run["region"], run["instance_type"], run["args"]) == ("us-east-1", "t3.medium", ["--forever"])
    assert run["git"]["commit"] is None
    assert "training/train.py" in run["git"]["changed"]
    assert run["variables"] == ["TOKEN"]
    assert run["image_digest"].startswith("sha256:")
    assert "s3cret" not in shown.out
    listed = in_container("runs", "list", "--state", "stopped", "--name", "base", "--quiet").ok()
    assert listed.out == f"{run_id}\n"
    assert in_container("runs", "list", "--state", "running", "--quiet").ok().out == ""


@pytest.mark.parametrize(
    ("transport", "interrupted", "code", "reason"),
    [("ssh", False, 7, "LOST"), ("ssm", False, 7, "LOST"), ("ssh", True, 143, "INTERRUPTED")],
)
def test_a_machine_that_dies_in_the_middle_is_noticed(
    runctl: CommandLine,
    faults: Faults,
    ssh_account: dict[str, str],
    transport: str,
    interrupted: bool,
    code: int,
    reason: str,
) -> None:
    """Without a key: SSH asks EC2 Instance Connect, which knows nothing of a machine that has ended."""
    group = ["--security-group", ssh_account["group"]] if transport == "ssh" else []
    instance = create(runctl, "--spot", *group)
    train = (
        "aws",
        "train",
        instance,
        "training/train.py",
        "--transport",
        transport,
        "--wait",
        "--",
        "--forever",
    )
    watcher = runctl.start(*train)
    until(
        lambda: any(run["state"] == "running" for run in runctl("runs", "list", "--output", "json").json),
        what="the run",
    )

    if interrupted:
        faults.interrupt(instance, seconds=0)
    else:
        faults.kill_instance(instance)
    _, err = watcher.communicate(timeout=60)

    assert watcher.returncode == code, err.decode()
    assert "billed until it is terminated" not in err.decode()
    (run,) = runctl("runs", "list", "--output", "json").ok().json
    assert (run["state"], run["end_reason"]) == ("ended", reason)


@pytest.mark.slow
def test_a_dockerfile_that_does_not_build_ends_the_run_with_its_log(in_container: CommandLine) -> None:
    (in_container.cwd / "Dockerfile").write_text("FROM python:3.11-slim\nRUN echo so far && false\n")
    instance = create(in_container)

    done = in_container("aws", "train", instance, "training/train.py", "--wait", "--output", "json")

    assert done.code == 1
    assert done.json["end_reason"] == "IMAGE_FAILED"
    assert "so far" in done.err


def test_an_image_that_does_not_exist_ends_the_run(runctl: CommandLine) -> None:
    instance = create(runctl)

    done = runctl(
        "aws",
        "train",
        instance,
        "training/train.py",
        "--image",
        "no/such:image",
        "--wait",
        "--output",
        "json",
    )

    assert done.code == 1
    assert done.json["end_reason"] == "IMAGE_FAILED"


@pytest.mark.slow
def test_a_full_volume_is_said_to_be_full(runctl: CommandLine) -> None:
    volume(runctl)
    instance = create(runctl, "--ebs-volume", "datasets", "--mount-point", "/mnt/data")
    (runctl.cwd / "fill.py").write_text(
        "import os\nwith open(os.path.join(os.environ['RUNCTL_DATA_DIR'], 'big'), 'wb') as file:\n"
        "    while True:\n        file.write(bytes(1 << 24))\n"
    )

    done = runctl("aws", "train", instance, "fill.py", "--wait", "--output", "json")

    assert done.code == 1
    assert done.json["end_reason"] in {"DISK_FULL", "FAILED"}
    assert "No space left on device" in done.err


def test_stop_and_start_keep_the_disk_and_the_mount(runctl: CommandLine) -> None:
    volume(runctl)
    create(runctl, "--name", "trainer", "--ebs-volume", "datasets", "--mount-point", "/mnt/data")
    instance = "trainer"
    runctl("aws", "exec", instance, "--", "sh", "-c", "echo kept > ~/here; echo kept > /mnt/data/there").ok()

    runctl("aws", "stop", instance, "--yes").ok()
    until(
        lambda: runctl("aws", "status", instance, "--output", "json").json["state"] == "stopped",
        what="it to be stopped",
    )
    refused = runctl("aws", "train", instance, "training/train.py", "--output", "json")
    runctl("aws", "start", instance).ok()
    runctl("aws", "wait", instance).ok()

    assert refused.error["code"] == "not-running"
    kept = runctl("aws", "exec", instance, "--", "sh", "-c", "cat ~/here /mnt/data/there").ok()
    assert kept.out == "kept\nkept\n"
