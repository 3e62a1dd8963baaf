"""A run that nobody watches goes on after an interruption, and leaves nothing, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.fault_client import Faults
from tests.e2e.account import volume, volume_named
from tests.e2e.command_line import CommandLine, Outcome, until, write_project
from tests.e2e.test_launch import client, running
from tests.e2e.test_recovery import TRAIN, shown, weights

pytestmark = [pytest.mark.namespaces, pytest.mark.docker, pytest.mark.usefixtures("clean_account")]

STEPS = 600
"""Half a minute: no slow computer interrupts it too late."""
BUCKET = "unattended"
URL = f"s3://{BUCKET}/runs"
LAUNCH = ("aws", "launch", "train.py", "--instance-type", "t3.medium", "--spot", "--unattended")
TO_STORE = ("--checkpoint-s3", URL, "--env", "SALT=kept")


@pytest.fixture
def project(runctl: CommandLine, in_docker_sandbox: SandboxInfo) -> Iterator[CommandLine]:
    write_project(runctl.cwd, {"train.py": TRAIN})
    client(in_docker_sandbox, "s3").create_bucket(Bucket=BUCKET)
    yield runctl
    for run in runctl("runs", "list", "--quiet").out.split():
        runctl("runs", "stop", run, "--force").ok()


def left(sandbox: SandboxInfo, run: str) -> list[str]:
    """What of all that was made for the run is there still."""
    ec2, iam = client(sandbox, "ec2"), client(sandbox, "iam")
    groups = client(sandbox, "autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    templates = ec2.describe_launch_templates()["LaunchTemplates"]
    names = [
        *(f"group {each['AutoScalingGroupName']}" for each in groups),
        *(f"template {each['LaunchTemplateName']}" for each in templates),
        *(f"role {each['RoleName']}" for each in iam.list_roles()["Roles"]),
        *(f"profile {e['InstanceProfileName']}" for e in iam.list_instance_profiles()["InstanceProfiles"]),
    ]
    return [*(name for name in names if run in name), *running(ec2)]


def launch(runctl: CommandLine, *more: object) -> str:
    return str(runctl(*LAUNCH, *TO_STORE, "--quiet", *more).ok().out.strip())


def machine_of(runctl: CommandLine, run: str) -> str:
    return str(until(lambda: shown(runctl, run)["instance_id"], seconds=60, what="the run's machine"))


def test_a_run_that_nobody_watches_goes_on_after_its_machine_died_and_leaves_nothing(
    project: CommandLine, in_docker_sandbox: SandboxInfo, faults: Faults
) -> None:
    datasets = volume(project, "datasets", "--zone", "us-east-1b")
    plan = project(*LAUNCH, *TO_STORE, "--ebs-mount", "datasets:/data", "--dry-run").ok().out
    for said in ("rents another machine", f"attach and detach {datasets}", f"read and write {URL}/run-"):
        assert said in plan
    run = launch(project, "--ebs-mount", "datasets:/data", "--", STEPS, 2)
    first = machine_of(project, run)
    until(lambda: "begins" in project("runs", "logs", run).out, seconds=60, what="the script's first line")
    listed = project("runs", "list").ok().out
    assert "(unattended)" in project("runs", "list", "--wide").ok().out, listed

    # Without notice: it says nothing, lets go of nothing, and has the lease. `docs/unattended.md` interrupts one.
    until(lambda: (shown(project, run)["checkpoint"] or {}).get("published_at"), what="a checkpoint")
    # As `ebs replicate` leaves it, where no machine has the volume just then.
    content = [{"Key": "runctl:content", "Value": "one"}]
    client(in_docker_sandbox, "ec2").create_tags(Resources=[datasets], Tags=content)
    faults.kill_instance(first)
    # Somebody who watches all the same rents nothing: the group does.
    watching = project.start("runs", "watch", run, "--every", "1s")
    out, err = (each.decode() for each in watching.communicate(timeout=150))
    assert watching.returncode == 0, err
    assert out.strip() == f"{run} ended as COMPLETED after 2 attempts"
    assert f"runctl-{run}" in err

    assert f"weights {weights(STEPS)} kept" in project("runs", "logs", run).out
    until(lambda: shown(project, run)["unattended"]["is_removed"], seconds=90, what="all to be removed")
    assert left(in_docker_sandbox, run) == []
    # The last machine lets go of it as it ends.
    until(lambda: volume_named(project, "datasets")["state"] == "available", what="the volume to be free")
    assert "runctl:content" not in volume_named(project, "datasets")["tags"], "the run has written to it"
    ended = shown(project, run)
    assert [each["end_reason"] for each in ended["attempts"]] == ["INTERRUPTED", "COMPLETED"]
    assert [each["zone"] for each in ended["attempts"]] == ["us-east-1b"] * 2
    assert ended["attempts"][1]["resumed_step"] > 0
    brought = project("runs", "results", run, "brought", "--quiet").ok().out.strip()
    assert f"weights {weights(STEPS)} kept" in Path(brought, "logs", "2.log").read_text()


def test_stopping_ends_script_group_and_rights(project: CommandLine, in_docker_sandbox: SandboxInfo) -> None:
    run = launch(project, "--", 100_000, 1)
    machine_of(project, run)
    until(lambda: "begins" in project("runs", "logs", run).out, seconds=60, what="the script's first line")
    stopped = project("runs", "stop", run).ok()
    assert stopped.out.strip() == f"{run} ended (STOPPED)"
    # The machine, which saw the end as well, may have been quicker with the rest.
    assert f"removed IAM role runctl-{run}" in stopped.err
    assert left(in_docker_sandbox, run) == []
    ended = shown(project, run)
    assert (ended["end_reason"], ended["attempts"][0]["step"] is not None) == ("STOPPED", True), (
        "it has saved"
    )
    assert f"{run} had ended already (STOPPED)" in project("runs", "stop", run).ok().out


@pytest.mark.slow
def test_where_somebody_deletes_the_group_that_is_told_and_the_run_goes_on_when_it_is_recovered(
    project: CommandLine, in_docker_sandbox: SandboxInfo
) -> None:
    other = launch(project, "--", 100_000, 1)
    until(
        lambda: (shown(project, other)["checkpoint"] or {}).get("published_at"),
        seconds=90,
        what="a checkpoint",
    )
    scaling = client(in_docker_sandbox, "autoscaling")
    scaling.delete_auto_scaling_group(AutoScalingGroupName=f"runctl-{other}", ForceDelete=True)
    found = until(
        lambda: (now := shown(project, other))["unattended"]["phase"] == "gone" and now,
        seconds=60,
        what="the group to be gone",
    )
    # Its machine, which EC2 ends with the group, may have had the time to say so itself.
    assert found["end_reason"] in {"LOST", "INTERRUPTED"}
    assert "was deleted, and not by the run" in project("runs", "show", other).ok().out
    assert left(in_docker_sandbox, other) == []
    # From its store this computer has what another attempt needs, and goes on as with any other run, once the machine,
    # which has the lease, has ended.
    until(
        lambda: f"{other} goes on as attempt 2" in project("runs", "recover", other).ok().out,
        seconds=60,
        what="the lease",
    )
    first, second = shown(project, other)["attempts"]
    assert (first["end_reason"], second["end_reason"]) == (found["end_reason"], None)
    until(lambda: shown(project, other)["attempts"][1]["resumed_step"], seconds=60, what="the checkpoint")
    assert f"{other} ended (STOPPED)" in project("runs", "stop", other).ok().out
    until(lambda: left(in_docker_sandbox, other) == [], seconds=60, what="its machine's own end")


def test_a_group_that_finds_no_machine_says_why(project: CommandLine, faults: Faults) -> None:
    faults.no_capacity("us-east-1a")
    run = launch(project, "--zone", "us-east-1a")
    told = until(lambda: shown(project, run)["unattended"]["activities"], what="an activity")
    assert "capacity" in told[0].lower()
    assert "no machine yet" in project("runs", "list").ok().out
    text = project("runs", "show", run).ok().out
    assert "asks for a machine" in text
    assert "capacity" in text.lower()


def test_a_launch_that_is_killed_after_any_call_is_finished_by_the_same_command_or_removed(
    project: CommandLine, in_docker_sandbox: SandboxInfo, ec2: Any
) -> None:
    def killed() -> Outcome:
        return project.another("tests.e2e.killed", *LAUNCH, *TO_STORE, "--quiet", "--", "100000", "1")

    died = []
    while (done := killed()).code == -9:
        died.append(done.err.rpartition("KILLED AFTER ")[2].strip())
        rented = died[-1] == "SetDesiredCapacity"
        assert rented or running(ec2) == []
        if rented:
            break
    assert died == [
        "CreateLaunchTemplate",
        "CreateAutoScalingGroup",
        "SuspendProcesses",
        "SetDesiredCapacity",
    ]
    (run,) = project("runs", "list", "--quiet").ok().out.split()
    again = project(*LAUNCH, *TO_STORE, "--quiet", "--", "100000", "1").ok()
    assert again.out.strip() == run
    machine_of(project, run)
    project("runs", "stop", run, "--force").ok()
    assert left(in_docker_sandbox, run) == []

    assert killed().code == -9
    (unfinished,) = set(project("runs", "list", "--quiet").ok().out.split()) - {run}
    assert "does not exist yet" in project("runs", "show", unfinished).ok().out
    assert f"removed launch template runctl-{unfinished}" in project("runs", "stop", unfinished).ok().err
    assert left(in_docker_sandbox, unfinished) == []
