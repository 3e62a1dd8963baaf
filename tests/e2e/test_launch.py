"""The whole way in one command: rented, trained on, results brought home, given back."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import boto3
import pytest

from runctl.sandbox.connection import SandboxInfo
from tests.e2e.account import volume, volume_named
from tests.e2e.command_line import CommandLine, until, write_project

TRAIN = """\
import os, pathlib, sys, time
output, checkpoints = (pathlib.Path(os.environ[f"RUNCTL_{name}_DIR"]) for name in ("OUTPUT", "CHECKPOINT"))
output.joinpath("metrics.csv").write_text("loss\\n0.1\\n")
checkpoints.joinpath("last.txt").write_text(os.environ["RUNCTL_RUN_ID"])
print("trains on", os.environ["RUNCTL_DATA_DIR"], flush=True)
while "--until" in sys.argv and not pathlib.Path(sys.argv[-1]).exists():
    time.sleep(0.1)
if "--exit" in sys.argv:
    sys.exit(int(sys.argv[sys.argv.index("--exit") + 1]))
"""


@pytest.fixture
def project(tmp_path: Path) -> CommandLine:
    folder = write_project(tmp_path / "project", {"train.py": TRAIN})
    return CommandLine(folder, {"XDG_DATA_HOME": str(tmp_path / "data")})


@pytest.fixture
def runctl(in_docker_sandbox: SandboxInfo, project: CommandLine) -> CommandLine:
    return project


def client(sandbox: SandboxInfo, service: str, region: str | None = None) -> Any:
    """boto3's, of the account."""
    environment = sandbox.environment()
    make: Any = boto3.client
    return make(
        service,
        endpoint_url=sandbox.endpoint_url,
        region_name=region or sandbox.region,
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )


def instances(ec2: Any) -> list[dict[str, Any]]:
    """Every one of the account, those that have ended as well."""
    reservations = ec2.describe_instances()["Reservations"]
    return [instance for reservation in reservations for instance in reservation["Instances"]]


def running(ec2: Any) -> list[str]:
    """The ids of those that are billed."""
    over = {"shutting-down", "terminated"}
    return [found["InstanceId"] for found in instances(ec2) if found["State"]["Name"] not in over]


def ended(ec2: Any, instance_id: str) -> dict[str, Any] | None:
    """The instance, once it has ended."""
    (found,) = [found for found in instances(ec2) if found["InstanceId"] == instance_id]
    return found if found["State"]["Name"] == "terminated" else None


def results_in(folder: Path) -> dict[str, str]:
    """Every file below a run's folder of results, with its text."""
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.namespaces
@pytest.mark.docker
@pytest.mark.usefixtures("clean_account")
def test_results_come_home_and_the_machine_is_given_back_with_the_scripts_code(
    runctl: CommandLine, ec2: Any
) -> None:
    datasets = volume(runctl, "datasets", "--zone", "us-east-1c")
    options = ("--ebs-mount", "datasets:/data", "--results", "out")
    plan = runctl("aws", "launch", "train.py", *options, "--dry-run", "--output", "json").ok().json
    assert (plan["machine"]["zone"], plan["run"]["instance"]) == ("us-east-1c", None)
    assert [mount["target"] for mount in plan["run"]["mounts"]] == ["/data"]
    assert running(ec2) == []

    done = runctl(
        *("aws", "launch", "train.py", *options, "--wait", "--output", "json", "--", "--exit", "3"),
    )

    assert done.code == 3, f"{done}"
    end = done.json
    run = end["run"]
    assert (run["end_reason"], run["exit_code"], end["given_back"]) == ("FAILED", 3, True)
    assert float(end["machine_cost"]) > 0
    assert "trains on /data" in done.err
    assert f"{run['instance_id']} is given back" in done.err
    assert running(ec2) == []
    # The volume is free at once, and has what the run wrote as well.
    assert volume_named(runctl, "datasets")["state"] == "available"
    assert run["saved_volume"] == datasets
    assert end["results"]["folder"] == str(runctl.cwd / "out" / run["id"])
    found = results_in(Path(end["results"]["folder"]))
    assert found["output/metrics.csv"] == "loss\n0.1\n"
    assert found["checkpoints/last.txt"] == run["id"]
    assert "trains on /data" in found["logs/1.log"]
    assert json.loads(found["logs/1.end.json"])["exit_code"] == 3
    # What was brought is not sent with the next run.
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=runctl.cwd, capture_output=True, text=True, check=True
    )
    assert status.stdout == "?? train.py\n"
    shown = runctl("runs", "show", run["id"]).ok().out
    assert "for this run; ends by itself when the run has ended and its results were fetched" in shown
    # Where they are is known though the machine is no more, and they are read from there.
    folder = end["results"]["folder"]
    assert run["fetched"]["folder"] == folder
    assert f"{folder}/logs/1.log" in shown
    again = runctl("runs", "results", run["id"], "--output", "json").ok().json
    assert (again["folder"], again["files"], again["sent_bytes"]) == (folder, end["results"]["files"], 0)
    runctl("cp", f"{run['id']}:output/metrics.csv", "m.csv").ok()
    assert (runctl.cwd / "m.csv").read_text() == "loss\n0.1\n"
    assert runctl("checkpoint", "list", run["id"], "--quiet").ok().out == "last.txt\n"


@pytest.mark.namespaces
@pytest.mark.docker
@pytest.mark.usefixtures("clean_account")
def test_a_machine_ends_itself_with_nobody_watching_and_waits_for_results_that_are_on_it_alone(
    runctl: CommandLine, ec2: Any
) -> None:
    volume(runctl, "datasets")
    saved = runctl("aws", "launch", "train.py", "--ebs-volume", "datasets", "--output", "json").ok()
    fetched = runctl("aws", "launch", "train.py", "--output", "json").ok()
    dropped = runctl("aws", "launch", "train.py", "--no-results", "--output", "json").ok()

    # Its results are on the volume: it ends.
    gone = until(lambda: ended(ec2, saved.json["instance_id"]), seconds=60, what="the machine's own end")
    assert gone["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    assert volume_named(runctl, "datasets")["state"] == "available"
    lost = runctl("runs", "show", saved.json["id"], "--output", "json").ok().json
    assert "as it was to end itself then" in lost["message"]
    # Of one whose results nobody wants nothing is left: it is not done again, and not said to have been cut short.
    until(lambda: ended(ec2, dropped.json["instance_id"]), seconds=60, what="the third machine's own end")
    assert runctl("runs", "show", dropped.json["id"], "--output", "json").ok().json["end_reason"] == "UNSEEN"
    assert "ended as UNSEEN" in runctl("runs", "recover", dropped.json["id"]).ok().out
    # The other's are on its own disk: it waits for them, though its run ended in the same minute.
    run = fetched.json["id"]
    assert running(ec2) == [fetched.json["instance_id"]]
    done = runctl("runs", "results", run, "--output", "json").ok()

    assert done.json["folder"] == str(runctl.cwd / "results" / run)
    assert (Path(done.json["folder"]) / "output" / "metrics.csv").exists()
    assert f"{fetched.json['instance_id']} is given back" in done.err
    assert running(ec2) == []


@pytest.mark.namespaces
@pytest.mark.docker
@pytest.mark.usefixtures("clean_account")
def test_the_machine_puts_its_results_into_s3_before_it_ends_itself(
    runctl: CommandLine, ec2: Any, docker_sandbox: SandboxInfo
) -> None:
    missing = runctl("aws", "launch", "train.py", "--results", "s3://nowhere-at-all/runs")
    assert missing.code == 5
    assert "there is no bucket nowhere-at-all" in missing.err
    assert running(ec2) == []
    s3 = client(docker_sandbox, "s3")
    s3.create_bucket(Bucket="launched")

    alone = (
        runctl("aws", "launch", "train.py", "--results", "s3://launched/runs", "--output", "json").ok().json
    )
    done = runctl(
        "aws", "launch", "train.py", "--results", "s3://launched/runs", "--wait", "--", "--exit", "3"
    )

    assert done.code == 3, f"{done}"
    assert "results: s3://launched/runs/run-" in done.err
    assert "is given back" in done.err
    until(lambda: ended(ec2, alone["instance_id"]), seconds=60, what="the machine's own end")
    assert running(ec2) == []
    above = f"runs/{alone['id']}/"
    listed = s3.list_objects_v2(Bucket="launched", Prefix=above)["Contents"]
    assert {found["Key"].removeprefix(above) for found in listed} == {
        *("run.json", "output/metrics.csv", "checkpoints/last.txt", "logs/1.log", "logs/1.end.json"),
    }
    # How it ended, and what it wrote, can be had though nobody has asked its machine.
    assert alone["results"] == "s3://launched/runs"
    assert runctl("runs", "show", alone["id"], "--output", "json").ok().json["end_reason"] == "COMPLETED"
    fetched = runctl("runs", "results", alone["id"], "--output", "json").ok().json
    found = results_in(Path(fetched["folder"]))
    assert found["output/metrics.csv"] == "loss\n0.1\n"
    assert "trains on" in found["logs/1.log"]
    # What is here of an earlier moment of the run may have the same size.
    metrics = Path(fetched["folder"]) / "output/metrics.csv"
    metrics.write_text("loss\n0.9\n")
    again = runctl("runs", "results", alone["id"], "--output", "json").ok().json
    assert (metrics.read_text(), again["sent_bytes"]) == ("loss\n0.1\n", len("loss\n0.1\n"))


@pytest.mark.namespaces
@pytest.mark.docker
@pytest.mark.usefixtures("clean_account")
def test_a_run_that_did_not_complete_leaves_its_machine_for_a_look_and_ctrl_c_leaves_the_run(
    runctl: CommandLine, ec2: Any
) -> None:
    process = runctl.start(
        *("aws", "launch", "train.py", "--keep-on-failure", "1h", "--wait", "--run-name", "look"),
        *("--", "--exit", "3", "--until", "/tmp/go"),
    )
    until(lambda: "trains" in runctl("runs", "logs", "look").out, seconds=60, what="the script's first line")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err.decode()
    assert b"which ends itself after it" in err
    (machine,) = running(ec2)

    runctl("aws", "exec", machine, "--", "touch", "/tmp/go").ok()
    assert runctl("runs", "logs", "look", "--wait").code == 3
    done = runctl("runs", "results", "look", "elsewhere").ok()
    assert "stays until" in done.err
    assert "the run did not complete" in done.err
    assert runctl("aws", "exec", machine, "--", "true").code == 0


@pytest.mark.namespaces
@pytest.mark.docker
@pytest.mark.usefixtures("clean_account")
def test_a_machine_on_which_the_run_could_not_be_started_is_given_back(runctl: CommandLine, ec2: Any) -> None:
    before = {found["InstanceId"] for found in instances(ec2)}
    for mistake in (
        ("nope.py",),
        ("train.py", "--ebs-mount", "/srv/data:/data"),
        ("train.py", "--dockerfile", "x"),
    ):
        refused = runctl("aws", "launch", *mistake)
        assert refused.code != 0
    assert {found["InstanceId"] for found in instances(ec2)} == before

    # That the machine has no GPU only it can say.
    refused = runctl("aws", "launch", "train.py", "--image", "python:3.11-slim", "--gpus", "2")
    assert refused.code != 0
    (first,) = {found["InstanceId"] for found in instances(ec2)} - before
    assert f"{first} is given back" in refused.err
    assert set(running(ec2)) <= before

    process = runctl.start("aws", "launch", "train.py", "--wait")
    until(lambda: running(ec2), what="the machine")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err.decode()
    assert b"is given back" in err, err.decode()
    assert running(ec2) == []
    assert runctl("runs", "list", "--output", "json").ok().json == []


def test_on_this_computer_nothing_is_rented_and_results_are_copied(project: CommandLine) -> None:
    done = project(
        "local", "launch", "train.py", "--results", "out", "--wait", "--output", "json", "--", "--exit", "3"
    )

    assert done.code == 3, f"{done}"
    assert (done.json["given_back"], done.json["machine_seconds"]) == (False, None)
    found = results_in(Path(done.json["results"]["folder"]))
    assert found["output/metrics.csv"] == "loss\n0.1\n"
    fetched = done.json["run"]["fetched"]
    assert (fetched["folder"], fetched["files"]) == (done.json["results"]["folder"], 3)

    going_on = project("local", "launch", "train.py", "--quiet", "--", "--until", project.cwd / "go").ok()
    run = going_on.out.strip()
    until(lambda: "trains" in project("runs", "logs", run).out, what="the script's first line")
    early = project("runs", "results", run, "early").ok()
    assert f"{run} goes on: this is what it has written up to now" in early.err
    assert early.out == f"{project.cwd / 'early' / run}\n"
    project("runs", "stop", run).ok()
    assert project("runs", "show", run, "--output", "json").ok().json["fetched"] is None
