"""Volumes filled from S3 and from snapshots, on their own machine and on helper machines, whatever interrupts it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from runctl.agent.object_store import Source, policy
from runctl.sandbox.connection import SandboxInfo
from runctl.sandbox.fault_client import Faults
from tests.docs.pages import blocks
from tests.e2e.command_line import CommandLine, Outcome, until
from tests.forked.client import Forked

pytestmark = [
    pytest.mark.namespaces,
    pytest.mark.docker,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("clean_account"),
]

DOCUMENT = Path(__file__).parents[2] / "docs" / "json.md"


@dataclass
class Account:
    """What is in the sandbox's account, seen by others' means."""

    s3: Any
    iam: Any
    ec2: Any
    bucket: str
    others: frozenset[str]
    """Instances that another test has left in the same sandbox."""

    def put(self, prefix: str, contents: dict[str, bytes]) -> None:
        """Objects below a prefix."""
        for name, data in contents.items():
            self.s3.put_object(Bucket=self.bucket, Key=f"{prefix}/{name}", Body=data)

    def live(self) -> list[str]:
        """This test's instances that have not ended."""
        return sorted(live_instances(self.ec2) - self.others)

    def helper_roles(self) -> list[str]:
        """Roles and profiles that were made for helper machines."""
        roles = [role["RoleName"] for role in self.iam.list_roles()["Roles"]]
        profiles = [
            found["InstanceProfileName"] for found in self.iam.list_instance_profiles()["InstanceProfiles"]
        ]
        return [name for name in roles + profiles if name.startswith("runctl-prewarm-")]

    def state_of(self, volume: str) -> str:
        """As EC2 says it."""
        return str(self.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"])

    def noted(self, volume: str) -> str | None:
        """What the volume's tags say that all of it was filled from."""
        tags = {
            each["Key"]: each["Value"]
            for each in self.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["Tags"]
        }
        return tags.get("runctl:filled-from")

    def assert_nothing_left(self, volume: str) -> None:
        """No machine, no role, and the volume is free."""
        until(lambda: self.live() == [], what="the helper's end")
        assert self.helper_roles() == []
        until(lambda: self.state_of(volume) == "available", what="the volume to be free")


def live_instances(ec2: Any) -> frozenset[str]:
    """All instances of the account that have not ended."""
    states = ["pending", "running", "stopping", "stopped"]
    answer = ec2.describe_instances(Filters=[{"Name": "instance-state-name", "Values": states}])
    return frozenset(item["InstanceId"] for group in answer["Reservations"] for item in group["Instances"])


@pytest.fixture
def account(in_docker_sandbox: SandboxInfo) -> Iterator[Account]:
    """With an empty bucket of its own."""
    parameters: dict[str, Any] = {
        "endpoint_url": in_docker_sandbox.endpoint_url,
        "region_name": in_docker_sandbox.region,
        "aws_access_key_id": in_docker_sandbox.environment()["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": in_docker_sandbox.environment()["AWS_SECRET_ACCESS_KEY"],
    }
    s3, iam, ec2 = (
        boto3.client("s3", **parameters),
        boto3.client("iam", **parameters),
        boto3.client("ec2", **parameters),
    )
    bucket = "data-" + os.urandom(6).hex()
    s3.create_bucket(Bucket=bucket)
    yield Account(s3, iam, ec2, bucket, live_instances(ec2))
    s3.close()
    iam.close()
    ec2.close()


def documented(shape: str) -> list[str]:
    (example,) = [
        json.loads(block.body)
        for block in blocks(DOCUMENT.read_text())
        if block.options.get("shape") == shape
    ]
    return list(example)


def digest(contents: dict[str, bytes]) -> str:
    """As `sha256sum` over the sorted files' contents gives it."""
    return hashlib.sha256(b"".join(contents[name] for name in sorted(contents))).hexdigest()


def volume(runctl: CommandLine, name: str, size: int = 1, *options: str) -> str:
    """A blank volume."""
    created = runctl("aws", "ebs", "create", "--size", size, "--name", name, "--quiet", *options).ok()
    return created.out.strip()


def prewarm(runctl: CommandLine, *argv: object) -> Outcome:
    return runctl("aws", "ebs", "prewarm", *argv, timeout=280)


def test_a_helper_fills_a_volume_its_own_machine_brings_it_up_to_date_and_a_copy_is_read_whole(
    runctl: CommandLine, account: Account, faults: Faults
) -> None:
    contents = {f"{number % 4}/{number:03}.bin": os.urandom(500 + number) for number in range(60)}
    account.put("cats", contents)
    account.s3.put_object(Bucket=account.bucket, Key="other", Body=b"x")
    identifier, source = volume(runctl, "datasets"), f"s3://{account.bucket}/cats"

    planned = prewarm(runctl, "datasets", "--from", source, "--dry-run", "--output", "json").ok()
    assert list(planned.json) == documented("PrewarmPlan")
    assert (planned.json["where"], planned.json["objects"]) == ("helper", 60)
    assert planned.json["machine"]["will_also_create"][0].startswith("IAM role")
    assert account.live() == account.helper_roles() == []

    filled = prewarm(runctl, "datasets", "--from", source, "--output", "json").ok()
    assert list(filled.json) == documented("Prewarm")
    assert (filled.json["files"], filled.json["fetched_files"], filled.json["helper"]) == (60, 60, True)
    assert filled.json["proofs"] == {"crc32": 60}
    assert float(filled.json["cost"]) > 0
    account.assert_nothing_left(identifier)
    assert (filled.json["only_from_source"], account.noted(identifier)) == (True, source)

    instance = runctl("aws", "create", "t3.medium", "--ebs-volume", "datasets", "--quiet").ok().out.strip()
    point = runctl("aws", "status", instance, "--output", "json").ok().json["volumes"]
    point = next(found["mount_point"] for found in point if found["volume_id"] == identifier)
    script = f"cd {point} && find . -name '*.bin' | sort | xargs cat | sha256sum"
    assert runctl("aws", "exec", instance, "--", "sh", "-c", script).ok().out.split()[0] == digest(contents)

    elsewhere = prewarm(runctl, "datasets", "--from", source, "--helper", "--output", "json")
    assert (elsewhere.code, elsewhere.error["code"]) == (1, "volume-in-use")
    denied = prewarm(runctl, "datasets", "--from", source, "--output", "json")
    assert (denied.code, denied.error["code"]) == (4, "denied"), f"{denied}"
    assert f"arn:aws:s3:::{account.bucket}/cats/*" in denied.error["hint"]

    account.put("cats", {"new.bin": b"new"})
    rights = json.dumps(policy(Source(account.bucket, "cats")))
    account.iam.put_role_policy(RoleName="runctl-instance", PolicyName="cats", PolicyDocument=rights)
    there = prewarm(runctl, "datasets", "--from", source, "--detach", "--output", "json").ok()
    account.iam.delete_role_policy(RoleName="runctl-instance", PolicyName="cats")
    assert (there.json["files"], there.json["fetched_files"], there.json["helper"]) == (61, 1, False)
    assert (there.json["instance_id"], there.json["attached_to"]) == (instance, None)
    assert account.noted(identifier) is None, "it was mounted for writing all the time"
    assert account.live() == [instance]
    until(lambda: account.state_of(identifier) == "available", what="the volume to be free")
    runctl("aws", "terminate", instance, "--yes").ok()
    _a_copy_is_read_whole_once(runctl, account, faults, identifier)


def _a_copy_is_read_whole_once(runctl: CommandLine, account: Account, faults: Faults, origin: str) -> None:
    snapshot = account.ec2.create_snapshot(VolumeId=origin)["SnapshotId"]
    account.ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot])
    faults.lazy_blocks(0.05)
    zone = f"{account.ec2.meta.region_name}a"
    copy = account.ec2.create_volume(SnapshotId=snapshot, AvailabilityZone=zone)["VolumeId"]

    until(lambda: account.state_of(copy) == "available", what="the copy to be there")
    planned = prewarm(runctl, copy, "--dry-run", "--output", "json").ok()
    done = prewarm(runctl, copy, "--output", "json").ok()
    second = prewarm(runctl, copy, "--output", "json").ok()
    until(lambda: account.state_of(copy) == "available", what="the copy to be free")
    account.ec2.delete_volume(VolumeId=copy)
    account.ec2.delete_snapshot(SnapshotId=snapshot)

    assert planned.json["way"] == "read"
    assert any("initialisation rate" in phrase for phrase in planned.json["considered"])
    assert (done.json["way"], done.json["bytes"], done.json["helper"]) == ("read", 1 << 30, True)
    assert (second.json["way"], second.json["instance_id"]) == ("done", None)
    assert account.live() == account.helper_roles() == []


@pytest.mark.slow
def test_ctrl_c_gives_the_helper_machine_back_and_the_same_command_goes_on(
    runctl: CommandLine, account: Account
) -> None:
    account.put("cats", {str(number): os.urandom(2000) for number in range(400)})
    identifier = volume(runctl, "datasets")
    argv = ("aws", "ebs", "prewarm", "datasets", "--from", f"s3://{account.bucket}/cats")
    process = runctl.start(*argv)
    seen = _read_until(process, "filling")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)

    assert process.returncode == 130, seen + err.decode()
    assert b"helper machine is given back" in err
    account.assert_nothing_left(identifier)

    done = prewarm(runctl, *argv[3:], "--output", "json").ok()
    assert done.json["files"] == 400
    account.assert_nothing_left(identifier)


@pytest.mark.slow
def test_a_command_killed_at_any_step_leaves_one_helper_that_the_same_command_takes_over(
    runctl: CommandLine, account: Account
) -> None:
    account.put("cats", {str(number): os.urandom(2000) for number in range(300)})
    identifier = volume(runctl, "datasets")
    argv = ("aws", "ebs", "prewarm", "datasets", "--from", f"s3://{account.bucket}/cats")
    for step in ("waiting until", "mounting", "filling", "detaching", "terminating"):
        process = runctl.start(*argv)
        seen = _read_until(process, step)
        process.kill()
        process.communicate(timeout=30)
        assert f"\n{step}" in seen or seen.startswith(step), seen
        assert len(account.live()) <= 1, seen

    done = prewarm(runctl, *argv[3:], "--output", "json").ok()

    assert done.json["files"] == 300
    account.assert_nothing_left(identifier)
    assert runctl("runs", "list", "--output", "json").ok().json[0]["end_reason"] == "COMPLETED"


def test_a_helper_whose_command_was_killed_ends_itself_when_its_work_is_done(
    runctl: CommandLine, account: Account
) -> None:
    account.put("cats", {"only": b"one"})
    identifier = volume(runctl, "datasets")
    argv = ("aws", "ebs", "prewarm", "datasets", "--from", f"s3://{account.bucket}/cats")
    process = runctl.start(*argv)
    _read_until(process, "filling")
    process.kill()
    process.communicate(timeout=30)
    (helper,) = account.live()

    def minutes_left() -> float | None:
        """Until its planned end; it has had a later one since it was rented."""
        planned = runctl("aws", "exec", helper, "--", "cat", "/run/runctl-sandbox/power").ok().out.split()
        left = (float(planned[1]) - time.time()) / 60
        return left if left < 15 else None

    assert 8 < until(minutes_left, what="the helper to plan its end") <= 10
    runctl("aws", "exec", helper, "--", "sudo", "sh", "-c", "echo poweroff 0 > /run/runctl-sandbox/power")

    until(lambda: account.live() == [], what="the helper's end")
    until(lambda: account.state_of(identifier) == "available", what="the volume to be free")
    second = prewarm(runctl, *argv[3:], "--output", "json").ok()
    assert (second.json["files"], second.json["fetched_files"]) == (1, 0)
    account.assert_nothing_left(identifier)


def _read_until(process: Forked, step: str) -> str:
    """What it says on stderr, up to the line that begins so."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line.decode()
        if line.decode().startswith(step):
            return seen
    raise AssertionError(f"it never came to {step!r}:\n{seen}")
