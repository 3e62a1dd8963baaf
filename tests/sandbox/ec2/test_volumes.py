"""EBS volumes: disks that are attached, formatted, mounted, filled, moved and copied for real."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from runctl.sandbox.fault_client import Faults
from tests.sandbox.account import ZONE, Account, Machine, code_of, until
from tests.sandbox.conftest import Launch, MakeVolume

pytestmark = pytest.mark.namespaces

MOUNT = "mkdir -p /mnt/data; mount /dev/sdf /mnt/data"
FORMAT_AND_MOUNT = f"mkfs.ext4 -q /dev/sdf; {MOUNT}"


def refusal(call: Callable[..., Any], **parameters: Any) -> str:
    """The code with which AWS refuses the call."""
    with pytest.raises(ClientError) as refused:
        call(**parameters)
    return code_of(refused.value)


def test_what_is_written_on_one_machine_is_there_on_the_next(
    account: Account, launch: Launch, make_volume: MakeVolume
) -> None:
    volume, first = make_volume(), launch()
    first.attach(volume)
    first.root(f"{FORMAT_AND_MOUNT}; echo trained > /mnt/data/model")

    account.ec2.terminate_instances(InstanceIds=[first.id])
    account.wait_state(first.id, "terminated")
    account.wait_volume(volume, "available")
    second = launch()
    second.attach(volume)

    assert second.root(f"{MOUNT}; cat /mnt/data/model").strip() == "trained"


def test_a_new_volume_is_created_and_then_available(account: Account, make_volume: MakeVolume) -> None:
    created = account.ec2.create_volume(Size=1, AvailabilityZone=ZONE, VolumeType="gp3")

    assert created["State"] == "creating"
    described = account.wait_volume(created["VolumeId"], "available")
    assert (described["Size"], described["Iops"], described["Throughput"]) == (1, 3000, 125)
    account.ec2.delete_volume(VolumeId=created["VolumeId"])


def test_a_disk_is_found_by_its_volumes_id(launch: Launch, make_volume: MakeVolume) -> None:
    item, other, machine = make_volume(1), make_volume(2), launch()
    machine.attach(item, "/dev/sdf")
    machine.attach(other, "/dev/sdg")

    sizes = [int(machine.root(f"blockdev --getsize64 {machine.disk(volume)}")) for volume in (item, other)]

    assert sizes == [1 << 30, 2 << 30]


def test_disks_are_not_numbered_in_the_order_of_attaching(launch: Launch, make_volume: MakeVolume) -> None:
    item, other, machine = make_volume(), make_volume(), launch()
    machine.attach(item, "/dev/sdf")
    machine.attach(other, "/dev/sdg")

    nodes = machine.run(f"readlink -f {machine.disk(item)}; readlink -f {machine.disk(other)}").split()

    assert all(node.startswith("/dev/nvme") for node in nodes)
    assert nodes != sorted(nodes)


def test_the_name_asked_for_leads_to_the_disk(launch: Launch, make_volume: MakeVolume) -> None:
    volume, machine = make_volume(), launch()
    machine.attach(volume, "/dev/sdh")

    assert machine.run("readlink -f /dev/sdh") == machine.run(f"readlink -f {machine.disk(volume)}")


def test_a_machine_has_no_disks_but_its_own(launch: Launch, make_volume: MakeVolume) -> None:
    volume, item, other = make_volume(), launch(), launch()
    item.attach(volume)

    assert other.run("find /dev -type b").split() == []
    assert len(item.run("find /dev -type b").split()) == 1


def test_a_volume_of_another_zone_is_refused(
    account: Account, launch: Launch, make_volume: MakeVolume
) -> None:
    volume, machine = make_volume(zone="us-east-1b"), launch()

    assert (
        refusal(account.ec2.attach_volume, VolumeId=volume, InstanceId=machine.id, Device="/dev/sdf")
        == "InvalidVolume.ZoneMismatch"
    )


def test_a_volume_in_use_is_refused_to_others(
    account: Account, launch: Launch, make_volume: MakeVolume
) -> None:
    volume, item, other = make_volume(), launch(), launch()
    item.attach(volume)

    assert (
        refusal(account.ec2.attach_volume, VolumeId=volume, InstanceId=other.id, Device="/dev/sdf")
        == "VolumeInUse"
    )
    assert refusal(account.ec2.delete_volume, VolumeId=volume) == "VolumeInUse"


def test_a_device_name_serves_one_volume(account: Account, launch: Launch, make_volume: MakeVolume) -> None:
    item, other, machine = make_volume(), make_volume(), launch()
    machine.attach(item)

    assert (
        refusal(account.ec2.attach_volume, VolumeId=other, InstanceId=machine.id, Device="/dev/sdf")
        == "InvalidParameterValue"
    )
    assert account.volume(other)["State"] == "available"


def test_an_unknown_volume_is_not_found(account: Account, launch: Launch) -> None:
    unknown = "vol-0123456789abcdef0"

    assert refusal(account.ec2.describe_volumes, VolumeIds=[unknown]) == "InvalidVolume.NotFound"
    assert refusal(account.ec2.delete_volume, VolumeId=unknown) == "InvalidVolume.NotFound"
    assert refusal(account.ec2.detach_volume, VolumeId=unknown) == "InvalidVolume.NotFound"


def test_detaching_what_is_not_attached_is_refused(account: Account, make_volume: MakeVolume) -> None:
    assert refusal(account.ec2.detach_volume, VolumeId=make_volume()) == "IncorrectState"


@pytest.mark.parametrize(
    "shape",
    [
        {"Size": 0},
        {"Size": 100_000},
        {"VolumeType": "gp9"},
        {"Iops": 100},
        {"Iops": 16_000},
        {"Throughput": 10},
        {"Throughput": 9_000},
        {"VolumeType": "st1"},
        {"AvailabilityZone": "us-east-1z"},
    ],
    ids=str,
)
def test_a_shape_that_ebs_does_not_sell_is_refused(account: Account, shape: dict[str, Any]) -> None:
    parameters = {"Size": 10, "AvailabilityZone": ZONE, "VolumeType": "gp3", **shape}
    before = len(account.ec2.describe_volumes()["Volumes"])

    code = refusal(account.ec2.create_volume, **parameters)

    assert code in {
        "InvalidParameterValue",
        "InvalidParameterCombination",
        "InvalidZone.NotFound",
        "UnknownVolumeType",
    }
    assert len(account.ec2.describe_volumes()["Volumes"]) == before


def test_the_same_token_gives_the_same_volume(account: Account, make_volume: MakeVolume) -> None:
    item, other = make_volume(ClientToken="token"), make_volume(ClientToken="token")

    assert item == other
    assert (
        refusal(
            account.ec2.create_volume, Size=2, AvailabilityZone=ZONE, VolumeType="gp3", ClientToken="token"
        )
        == "IdempotentParameterMismatch"
    )


def test_a_mounted_volume_is_busy_until_it_is_unmounted(
    account: Account, launch: Launch, make_volume: MakeVolume
) -> None:
    volume, machine = make_volume(), launch()
    machine.attach(volume)
    machine.root(FORMAT_AND_MOUNT)

    account.ec2.detach_volume(VolumeId=volume)

    assert _attachment(account, volume) in {"busy", "detaching"}
    assert account.volume(volume)["State"] == "in-use"
    machine.root("echo still > /mnt/data/there; umount /mnt/data")
    account.wait_volume(volume, "available")
    assert machine.run("find /dev -type b").split() == []


def test_a_mounted_volume_can_be_taken_by_force(
    account: Account, launch: Launch, make_volume: MakeVolume
) -> None:
    volume, machine = make_volume(), launch()
    machine.attach(volume)
    machine.root(f"{FORMAT_AND_MOUNT}; echo kept > /mnt/data/file; sync")

    account.ec2.detach_volume(VolumeId=volume, Force=True)
    account.wait_volume(volume, "available")

    other = launch()
    other.attach(volume)
    assert other.root(f"{MOUNT}; cat /mnt/data/file").strip() == "kept"


def test_who_lost_a_volume_by_force_writes_on_it_no_more(
    account: Account, launch: Launch, make_volume: MakeVolume
) -> None:
    volume, machine = make_volume(), launch()
    machine.attach(volume)
    machine.root(f"{FORMAT_AND_MOUNT}; sync")
    account.ec2.detach_volume(VolumeId=volume, Force=True)
    account.wait_volume(volume, "available")

    machine.ssh("sudo sh -c 'echo late > /mnt/data/late; sync'")

    other = launch()
    other.attach(volume)
    assert "late" not in other.root(f"{MOUNT}; ls /mnt/data")


def test_a_machine_that_dies_with_a_frozen_file_system_gives_its_volume_back(
    account: Account, launch: Launch, make_volume: MakeVolume, faults: Faults
) -> None:
    volume, machine = make_volume(), launch()
    machine.attach(volume)
    machine.root(f"{FORMAT_AND_MOUNT}; echo kept > /mnt/data/file; fsfreeze --freeze /mnt/data")

    faults.kill_instance(machine.id)
    account.wait_volume(volume, "available")

    other = launch()
    other.attach(volume)
    assert other.root(f"{MOUNT}; cat /mnt/data/file").strip() == "kept"
    in_use = subprocess.run(["losetup", "--list"], capture_output=True, text=True, check=True).stdout
    assert in_use.count(f"{volume}.img") == 1


def _attachment(account: Account, volume: str) -> str:
    return str(account.volume(volume)["Attachments"][0]["State"])


def test_a_detached_volume_can_come_back_under_another_name(
    account: Account, launch: Launch, make_volume: MakeVolume
) -> None:
    volume, machine = make_volume(), launch()
    machine.attach(volume, "/dev/sdf")
    account.ec2.detach_volume(VolumeId=volume)
    account.wait_volume(volume, "available")

    machine.attach(volume, "/dev/sdg")

    assert machine.ssh("test -e /dev/sdf").returncode != 0
    assert machine.run("readlink -f /dev/sdg") == machine.run(f"readlink -f {machine.disk(volume)}")


def test_a_snapshot_keeps_what_was_written(account: Account, launch: Launch, make_volume: MakeVolume) -> None:
    volume, machine = make_volume(), launch()
    machine.attach(volume)
    machine.root(f"{FORMAT_AND_MOUNT}; echo before > /mnt/data/file; sync")

    snapshot = account.snapshot(volume)["SnapshotId"]
    machine.root("echo after > /mnt/data/file; umount /mnt/data")
    copy = make_volume(SnapshotId=snapshot)
    machine.attach(copy, "/dev/sdg")

    assert machine.root("mount /dev/sdg /mnt/data; cat /mnt/data/file").strip() == "before"
    account.ec2.delete_snapshot(SnapshotId=snapshot)


def test_a_copy_may_be_larger_than_its_snapshot(
    account: Account, launch: Launch, make_volume: MakeVolume
) -> None:
    volume = make_volume()
    snapshot = account.snapshot(volume)["SnapshotId"]

    copy, machine = make_volume(size=3, SnapshotId=snapshot), launch()
    machine.attach(copy)

    assert int(machine.root("blockdev --getsize64 /dev/sdf")) == 3 << 30
    account.ec2.delete_snapshot(SnapshotId=snapshot)


def test_a_copy_cannot_be_smaller_than_its_snapshot(account: Account, make_volume: MakeVolume) -> None:
    snapshot = account.snapshot(make_volume(size=2))["SnapshotId"]

    code = refusal(
        account.ec2.create_volume, Size=1, SnapshotId=snapshot, AvailabilityZone=ZONE, VolumeType="gp3"
    )

    assert code == "InvalidParameterValue"
    account.ec2.delete_snapshot(SnapshotId=snapshot)


def test_encryption_goes_on_to_snapshots_and_copies(account: Account, make_volume: MakeVolume) -> None:
    volume = make_volume(Encrypted=True)

    snapshot = account.snapshot(volume)
    copy = make_volume(SnapshotId=snapshot["SnapshotId"])

    assert snapshot["Encrypted"]
    assert account.volume(copy)["Encrypted"]
    account.ec2.delete_snapshot(SnapshotId=snapshot["SnapshotId"])


def test_a_volume_grows_while_it_is_attached(
    account: Account, launch: Launch, make_volume: MakeVolume
) -> None:
    volume, machine = make_volume(), launch()
    machine.attach(volume)

    account.ec2.modify_volume(VolumeId=volume, Size=2)

    until(lambda: int(machine.root("blockdev --getsize64 /dev/sdf")) == 2 << 30, "the disk to have grown")


def test_a_disk_is_full_when_it_is(launch: Launch, make_volume: MakeVolume) -> None:
    volume, machine = make_volume(), launch()
    machine.attach(volume)
    machine.root(FORMAT_AND_MOUNT)

    done = machine.ssh("sudo fallocate -l 2G /mnt/data/large")

    assert "No space left on device" in done.stderr


def test_a_volume_stays_attached_over_a_stop_and_a_start(
    account: Account, launch: Launch, make_volume: MakeVolume
) -> None:
    volume, machine = make_volume(), launch()
    machine.attach(volume)
    machine.root(f"{FORMAT_AND_MOUNT}; echo kept > /mnt/data/file")

    account.ec2.stop_instances(InstanceIds=[machine.id])
    account.wait_state(machine.id, "stopped")
    account.ec2.start_instances(InstanceIds=[machine.id])
    second = Machine(account, account.wait_state(machine.id, "running"), "ec2-user")

    assert second.root(f"{MOUNT}; cat /mnt/data/file").strip() == "kept"


def test_a_volume_can_be_attached_to_a_stopped_instance(
    account: Account, launch: Launch, make_volume: MakeVolume
) -> None:
    volume, machine = make_volume(), launch()
    account.ec2.stop_instances(InstanceIds=[machine.id])
    account.wait_state(machine.id, "stopped")

    machine.attach(volume)
    account.ec2.start_instances(InstanceIds=[machine.id])
    second = Machine(account, account.wait_state(machine.id, "running"), "ec2-user")

    second.run(f"test -b {second.disk(volume)}")


def test_disks_asked_for_at_launch_are_there_at_boot_and_go_as_they_were_told_to(
    account: Account, launch: Launch
) -> None:
    disks = [
        {"DeviceName": name, "Ebs": {"VolumeSize": 1, "VolumeType": "gp3", "DeleteOnTermination": goes}}
        for name, goes in (("/dev/sdf", True), ("/dev/sdg", False))
    ]
    machine = launch(BlockDeviceMappings=disks)
    mapped = {
        m["DeviceName"]: m["Ebs"]["VolumeId"] for m in account.describe(machine.id)["BlockDeviceMappings"]
    }
    machine.run("test -b /dev/sdf && test -b /dev/sdg")

    account.ec2.terminate_instances(InstanceIds=[machine.id])
    account.wait_state(machine.id, "terminated")

    assert refusal(account.ec2.describe_volumes, VolumeIds=[mapped["/dev/sdf"]]) == "InvalidVolume.NotFound"
    account.wait_volume(mapped["/dev/sdg"], "available")
    account.ec2.delete_volume(VolumeId=mapped["/dev/sdg"])


def test_a_disk_asked_for_at_launch_is_as_fast_as_it_was_asked_to_be(
    account: Account, run_instances: Callable[..., dict[str, Any]]
) -> None:
    gp3 = {
        "VolumeSize": 10,
        "VolumeType": "gp3",
        "Iops": 4000,
        "Throughput": 500,
        "DeleteOnTermination": True,
    }
    io2 = {"VolumeSize": 4, "VolumeType": "io2", "Iops": 200, "DeleteOnTermination": True}

    instance = run_instances(
        BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": gp3}, {"DeviceName": "/dev/sdg", "Ebs": io2}]
    )["InstanceId"]

    found = account.ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [instance]}])
    shapes = {(item["VolumeType"], item["Iops"], item.get("Throughput")) for item in found["Volumes"]}
    assert shapes >= {("gp3", 4000, 500), ("io2", 200, None)}


def test_every_instance_has_a_root_volume(account: Account, launch: Launch) -> None:
    machine = launch(
        BlockDeviceMappings=[
            {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "DeleteOnTermination": True}}
        ]
    )

    described = account.describe(machine.id)

    names = {mapping["DeviceName"] for mapping in described["BlockDeviceMappings"]}
    assert names == {described["RootDeviceName"], "/dev/sdf"}
