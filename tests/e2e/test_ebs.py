"""Volumes by the real command line, on real machines and disks: grown, copied, moved, shared, and cut short."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from runctl.sandbox.connection import SandboxInfo
from tests.e2e.command_line import CommandLine, Outcome
from tests.sandbox_fixture import lead_into

pytestmark = pytest.mark.namespaces

ZONE, OTHER_ZONE = "us-east-1a", "us-east-1b"
MOST_DEATHS = 30


@pytest.fixture
def runctl(in_sandbox: SandboxInfo, tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture(scope="module")
def machines(sandbox: SandboxInfo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Two ready machines in one zone for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        lead_into(sandbox, patch)
        run = CommandLine(tmp_path_factory.mktemp("machines"))
        result = [
            run("aws", "create", "t3.medium", "--zone", ZONE, "--quiet").ok().out.strip() for _ in range(2)
        ]
        yield result[0], result[1]
        ended = run("aws", "terminate", *result, "--yes", "--wait", "--output", "json").ok().json
        assert {each["state"] for each in ended} == {"terminated"}


@pytest.fixture
def machine(machines: tuple[str, str]) -> str:
    return machines[0]


@pytest.fixture(autouse=True)
def nothing_left(in_sandbox: SandboxInfo) -> Iterator[None]:
    """What a test made is taken off the machines and deleted."""
    yield
    ec2: Any = boto3.client("ec2")
    named = [{"Name": "tag:Name", "Values": ["e2e-*"]}]
    volumes = ec2.describe_volumes(Filters=named)["Volumes"]
    for volume in volumes:
        for attachment in volume["Attachments"]:
            parameters = {"VolumeId": volume["VolumeId"], "InstanceId": attachment["InstanceId"]}
            ec2.detach_volume(**parameters, Force=True)
    for volume in volumes:
        ec2.delete_volume(VolumeId=volume["VolumeId"])
    for snapshot in ec2.describe_snapshots(OwnerIds=["self"], Filters=named)["Snapshots"]:
        ec2.delete_snapshot(SnapshotId=snapshot["SnapshotId"])


def ebs(runctl: CommandLine, *argv: object) -> Any:
    """What ``aws ebs`` answers in JSON."""
    return runctl("aws", "ebs", *argv, "--output", "json").ok().json


def on(runctl: CommandLine, machine: str, program: str) -> str:
    """What a shell on the machine prints, as root."""
    return runctl("aws", "exec", machine, "--", "sudo", "sh", "-c", program).ok().out


def created(runctl: CommandLine, name: str, *options: object) -> Any:
    """A volume."""
    return ebs(runctl, "create", "--size", 1, "--name", name, "--zone", ZONE, *options)


def mortal(runctl: CommandLine, *arguments: object) -> Outcome:
    """The command, killed after the first thing that it changes."""
    return runctl.another("tests.e2e.killed", *arguments)


def killed(runctl: CommandLine, *argv: object) -> str:
    """After what the command died."""
    done = mortal(runctl, *argv)
    assert done.code == -signal.SIGKILL, str(done)
    return done.err.rpartition("KILLED AFTER ")[2].strip()


def until_it_lives(runctl: CommandLine, *argv: object) -> list[str]:
    """Run a command again and again, dying a step later each time, until there is nothing left to change.

    Returns after what it died.
    """
    deaths: list[str] = []
    while len(deaths) < MOST_DEATHS:
        done = mortal(runctl, *argv)
        if done.code != -signal.SIGKILL:
            done.ok()
            return deaths
        deaths.append(done.err.rpartition("KILLED AFTER ")[2].strip())
    raise AssertionError(f"it dies for ever: {deaths}")


def test_a_volume_grows_under_its_files_also_when_it_is_killed_in_between(
    runctl: CommandLine, machine: str
) -> None:
    created(runctl, "e2e-grows")
    ebs(runctl, "attach", "e2e-grows", machine, "--fstype", "xfs", "--mount-point", "/mnt/grows")
    on(runctl, machine, "echo kept > /mnt/grows/file")
    plan = ebs(runctl, "resize", "e2e-grows", "--size", 2, "--dry-run")
    assert (plan["changes"], plan["modifications_today"]) == (["size 1 → 2 GiB"], 0)
    refused = runctl("aws", "ebs", "resize", "e2e-grows", "--size", 2, "--output", "json")
    assert refused.error["code"] == "confirmation-needed"
    argv = ("aws", "ebs", "extend", "e2e-grows", "--size", 2, "--yes", "--output", "json")
    assert killed(runctl, *argv) == "ModifyVolume"
    done = runctl(*argv).ok()
    assert done.json["size_gib"] == 2
    assert "its xfs file system (/mnt/grows) grew from 0.94 to 1.94 GiB" in done.err
    assert int(on(runctl, machine, "df --output=size -m /mnt/grows | tail -1")) > 1900
    assert on(runctl, machine, "cat /mnt/grows/file") == "kept\n"
    shown = ebs(runctl, "show", "e2e-grows")
    assert shown["modification"]["target_size_gib"] == 2
    smaller = runctl("aws", "ebs", "resize", "e2e-grows", "--size", 1, "--yes", "--output", "json")
    assert (smaller.code, smaller.error["code"]) == (2, "usage")


def test_attaching_that_is_killed_anywhere_is_finished_and_survives_a_restart(
    runctl: CommandLine, machine: str
) -> None:
    volume = created(runctl, "e2e-killed-attaching")
    argv = ("aws", "ebs", "attach", "e2e-killed-attaching", machine, "--mount-point", "/mnt/cut")
    deaths = until_it_lives(runctl, *argv)
    # The first two are about the record of the volume's first use, which a death makes void.
    assert deaths[:4] == ["CreateTags", "DeleteTags", "AttachVolume", "the agent's attach"]
    assert set(deaths[4:]) == {"CreateTags"}
    mine = [eb for eb in ebs(runctl, "list") if eb["name"] == "e2e-killed-attaching"]
    assert [(item["id"], item["mount_point"], item["instances"]) for item in mine] == [
        (volume["id"], "/mnt/cut", [machine])
    ]
    assert (
        on(runctl, machine, "grep -c ' /mnt/cut ' /proc/mounts /etc/fstab")
        == "/proc/mounts:1\n/etc/fstab:1\n"
    )
    # What a restart does with the table; and what `mount` does when somebody has unmounted it.
    restarted = "grep ' /mnt/cut ' /etc/fstab; umount /mnt/cut && mount -a && umount /mnt/cut"
    line = on(runctl, machine, restarted)
    assert (line.startswith("UUID="), "nofail" in line) == (True, True)
    assert ebs(runctl, "mount", "e2e-killed-attaching")["mount_point"] == "/mnt/cut"
    deaths = until_it_lives(runctl, "aws", "ebs", "detach", "e2e-killed-attaching")
    # The machine stops to expect the volume before it is taken, so that no death brings it back.
    assert deaths[:3] == ["the agent's detach", "DeleteTags", "DetachVolume"]
    assert ebs(runctl, "show", "e2e-killed-attaching")["instances"] == []
    assert on(runctl, machine, "grep -c ' /mnt/cut ' /proc/mounts /etc/fstab; true").split() == [
        "/proc/mounts:0",
        "/etc/fstab:0",
    ]


@pytest.mark.slow
def test_a_move_that_is_killed_anywhere_is_finished_by_the_same_command(
    runctl: CommandLine, machine: str
) -> None:
    old = created(runctl, "e2e-moves", "--persistent", "--tag", "team=vision", "--throughput", 250)
    ebs(runctl, "attach", "e2e-moves", machine, "--mount-point", "/mnt/moves")
    on(runctl, machine, "echo moved > /mnt/moves/file")
    in_use = runctl("aws", "ebs", "move", "e2e-moves", "--zone", OTHER_ZONE, "--output", "json")
    assert in_use.error["code"] == "volume-in-use"
    ebs(runctl, "detach", "e2e-moves")
    argv = ["aws", "ebs", "move", "e2e-moves", "--zone", OTHER_ZONE, "--yes", "--delete-source"]
    protected = runctl(*argv, "--output", "json")
    assert protected.error["code"] == "protected"
    argv.append("--include-protected")
    deaths = until_it_lives(runctl, *argv)
    once = ("CreateSnapshot", "CreateVolume", "DeleteSnapshot", "DeleteVolume")
    assert [deaths.count(operation) for operation in once] == [1, 1, 1, 1]
    assert {"CreateTags", "DeleteTags"} <= set(deaths)
    (new,) = [eb for eb in ebs(runctl, "list") if eb["name"] == "e2e-moves"]
    assert (new["zone"], new["persistent"], new["tags"]["team"]) == (OTHER_ZONE, True, "vision")
    assert (new["size_gib"], new["throughput"], new["encrypted"]) == (1, 250, True)
    assert old["id"] not in {item["id"] for item in ebs(runctl, "list")}
    assert ebs(runctl, "snapshots", "--everyone") == []
    assert not [key for key in new["tags"] if key.startswith("runctl:move-")]
    assert runctl(*argv, "--output", "json").ok().json["id"] == new["id"]
    ebs(runctl, "show", "e2e-moves")


def test_what_was_moved_or_restored_has_the_files(runctl: CommandLine, machine: str) -> None:
    created(runctl, "e2e-original", "--persistent")
    ebs(runctl, "attach", "e2e-original", machine, "--mount-point", "/mnt/original")
    on(runctl, machine, "echo precious > /mnt/original/file")
    taken = runctl("aws", "ebs", "snapshot", "e2e-original", "--name", "e2e-taken", "--output", "json").ok()
    assert "the file system at /mnt/original was frozen" in taken.err
    assert (taken.json["state"], taken.json["persistent"]) == ("completed", True)
    on(runctl, machine, "echo changed > /mnt/original/file")
    plan = ebs(
        runctl, "restore", "e2e-taken", "--name", "e2e-back", "--initialization-rate", 300, "--dry-run"
    )
    assert plan["initialization"]["rate"] == 300
    assert plan["initialization"]["price"]["usd"]
    back = ebs(runctl, "restore", "e2e-taken", "--name", "e2e-back", "--zone", ZONE)
    assert (back["persistent"], back["snapshot_id"]) == (True, taken.json["id"])
    fork = runctl("aws", "ebs", "fork", "e2e-original", "--name", "e2e-copy", "--output", "json").ok()
    assert "was frozen" in fork.err
    assert (fork.json["type"], fork.json["persistent"]) == ("gp3", True)
    # All three beside each other, though they have one UUID.
    for name, content in (("e2e-back", "precious"), ("e2e-copy", "changed")):
        ebs(runctl, "attach", name, machine, "--mount-point", f"/mnt/{name}")
        assert on(runctl, machine, f"cat /mnt/{name}/file").strip() == content
    for argv in (("delete", "e2e-copy"), ("snapshot-delete", "e2e-taken")):
        assert runctl("aws", "ebs", *argv, "--yes", "--output", "json").error["code"] in {
            "protected",
            "volume-in-use",
        }


def test_data_without_a_file_system_is_never_formatted_over(runctl: CommandLine, machine: str) -> None:
    raw = created(runctl, "e2e-raw")
    ebs(runctl, "attach", "e2e-raw", machine, "--no-mount")
    disk = f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{raw['id'].replace('-', '')}"
    # Where no sample of the disk is taken, and no file system leaves a mark.
    on(runctl, machine, f"printf precious | dd of={disk} bs=1M seek=40 conv=fsync status=none")
    ebs(runctl, "detach", "e2e-raw")
    ebs(runctl, "snapshot", "e2e-raw", "--name", "e2e-of-raw")
    ebs(runctl, "restore", "e2e-of-raw", "--name", "e2e-restored", "--zone", ZONE)
    ebs(runctl, "clone", "e2e-raw", "--name", "e2e-cloned")

    def refused(*argv: object) -> str:
        error = runctl("aws", "ebs", *argv, "--output", "json").error
        return str(error["code"])

    assert refused("attach", "e2e-raw", machine) == "not-blank"
    for copy in ("e2e-restored", "e2e-cloned"):
        assert refused("attach", copy, machine) == "blank"
        assert refused("mount", copy, "--format") == "not-blank"
    assert "precious" in on(runctl, machine, f"dd if={disk} bs=1M skip=40 count=1 status=none | head -c 8")


@pytest.mark.parametrize("fstype", ["ext4", "xfs"])
@pytest.mark.slow
def test_the_file_system_of_a_larger_copy_grows_when_it_is_mounted(
    runctl: CommandLine, machine: str, fstype: str
) -> None:
    created(runctl, "e2e-small")
    ebs(runctl, "attach", "e2e-small", machine, "--mount-point", f"/mnt/{fstype}", "--fstype", fstype)
    on(runctl, machine, f"echo precious > /mnt/{fstype}/file")
    ebs(runctl, "snapshot", "e2e-small", "--name", "e2e-of-small")
    restored = runctl(
        *("aws", "ebs", "restore", "e2e-of-small", "--name", "e2e-larger", "--zone", ZONE, "--size", 3)
    ).ok()
    assert "runctl lets it grow then" in restored.err
    ebs(runctl, "clone", "e2e-small", "--name", "e2e-cloned", "--size", 2)
    for name, size in (("e2e-larger", 3), ("e2e-cloned", 2)):
        point = f"/mnt/{fstype}-{size}"
        ebs(runctl, "attach", name, machine, "--mount-point", point)
        blocks = on(runctl, machine, f"cat {point}/file; df --output=size -B 1M {point} | tail -1")
        content, mib = blocks.split()
        assert content == "precious"
        assert int(mib) > 0.85 * size * 1024
        assert "runctl:grow" not in ebs(runctl, "show", name)["tags"]


def test_a_volume_of_a_machine_that_is_shutting_down_is_waited_for(runctl: CommandLine, machine: str) -> None:
    for name in ("e2e-kept", "e2e-gone", "e2e-far"):
        created(runctl, name)
    options = [f"--ebs-volume={name}" for name in ("e2e-kept", "e2e-gone", "e2e-far")]
    ending = runctl("aws", "create", "t3.medium", "--quiet", *options).ok().out.strip()
    runctl("aws", "terminate", ending, "--yes").ok()

    ebs(runctl, "attach", "e2e-kept", machine)
    runctl("aws", "ebs", "delete", "e2e-gone", "--yes").ok()
    moved = ebs(runctl, "move", "e2e-far", "--availability-zone", OTHER_ZONE, "--no-initialization-rate")
    assert moved["zone"] == OTHER_ZONE
    found = ebs(runctl, "list")
    assert {(each["name"], each["attached_to"]) for each in found if each["zone"] == ZONE} >= {
        ("e2e-kept", machine)
    }
    assert not [each for each in found if each["name"] == "e2e-gone"]


@pytest.mark.slow
def test_a_volume_for_several_machines_is_read_only_on_all_of_them(
    runctl: CommandLine, machines: tuple[str, str]
) -> None:
    item, two = machines
    created(runctl, "e2e-shared", "--size", 4, "--volume-type", "io2", "--iops", 100, "--multi-attach")
    ebs(runctl, "attach", "e2e-shared", item, "--mount-point", "/mnt/shared")
    on(runctl, item, "echo read me > /mnt/shared/file")
    attach = ("aws", "ebs", "attach", "e2e-shared", two, "--mount-point", "/mnt/shared", "--output", "json")
    writes = runctl(*attach)
    assert (writes.error["code"], "second writer" in writes.error["message"]) == ("shared", True)
    beside_a_writer = runctl(*attach, "--read-only")
    assert "mounted for writing at /mnt/shared" in beside_a_writer.error["message"]
    ebs(runctl, "detach", "e2e-shared")
    ebs(runctl, "attach", "e2e-shared", item, "--mount-point", "/mnt/shared", "--read-only")
    both = runctl(*attach, "--read-only").ok().json
    assert (both["attached_to"], sorted(both["instances"])) == (two, sorted(machines))
    for machine in machines:
        assert on(runctl, machine, "cat /mnt/shared/file") == "read me\n"
    which = runctl("aws", "ebs", "detach", "e2e-shared", "--output", "json")
    assert which.error["code"] == "shared"
    assert ebs(runctl, "detach", "e2e-shared", "--instance", two)["instances"] == [item]
    assert on(runctl, item, "cat /mnt/shared/file") == "read me\n"
