"""Snapshots: their states, listings and sizes, and the blocks that the EBS direct APIs tell of."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from runctl.sandbox import control
from runctl.sandbox.ebs.blocks import BLOCK_BYTES, changed_blocks, read_block, written_blocks
from runctl.sandbox.fault_client import Faults
from tests.sandbox.account import ZONE, Account, code_of, until
from tests.sandbox.conftest import Launch, MakeVolume


def refusal(call: Callable[..., Any], **parameters: Any) -> str:
    with pytest.raises(ClientError) as refused:
        call(**parameters)
    return code_of(refused.value)


@pytest.fixture
def snapshots(account: Account) -> Generator[list[str]]:
    """Ids that are deleted after the test."""
    ids: list[str] = []
    yield ids
    for snapshot_id in ids:
        try:
            account.ec2.delete_snapshot(SnapshotId=snapshot_id)
        except ClientError as error:
            assert code_of(error) == "InvalidSnapshot.NotFound"


def state(account: Account, snapshot: str) -> str:
    (found,) = account.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
    return f"{found['State']} {found['Progress']}"


@pytest.mark.namespaces
def test_a_snapshot_is_pending_until_it_is_completed(
    account: Account, make_volume: MakeVolume, faults: Faults, snapshots: list[str]
) -> None:
    faults.volume_times(snapshot=3600)
    tags = [{"Key": "Name", "Value": "epoch 3"}]

    created = account.ec2.create_snapshot(
        VolumeId=make_volume(), TagSpecifications=[{"ResourceType": "snapshot", "Tags": tags}]
    )
    snapshots.append(created["SnapshotId"])
    pending = state(account, created["SnapshotId"])
    too_early = refusal(
        account.ec2.create_volume, SnapshotId=created["SnapshotId"], AvailabilityZone=ZONE, VolumeType="gp3"
    )
    faults.clear()

    assert (created["State"], created["Tags"]) == ("pending", tags)
    assert (pending, too_early) == ("pending 0%", "IncorrectState")
    until(lambda: state(account, created["SnapshotId"]) == "completed 100%", "the snapshot to be completed")


@pytest.mark.namespaces
def test_snapshots_are_listed_by_owner_tag_and_volume_in_pages(
    account: Account, make_volume: MakeVolume, snapshots: list[str]
) -> None:
    volume, describe = make_volume(), account.ec2.describe_snapshots
    for number in range(7):
        if number == 4:
            until(lambda: not _pending(account, volume), "the first ones to be completed")
        tags = [{"Key": "number", "Value": str(number)}]
        created = account.ec2.create_snapshot(
            VolumeId=volume, TagSpecifications=[{"ResourceType": "snapshot", "Tags": tags}]
        )
        snapshots.append(created["SnapshotId"])
    of_volume = [{"Name": "volume-id", "Values": [volume]}]

    pages = list(
        account.ec2.get_paginator("describe_snapshots").paginate(
            OwnerIds=["self"], Filters=of_volume, PaginationConfig={"PageSize": 5}
        )
    )
    tagged = describe(Filters=[*of_volume, {"Name": "tag:number", "Values": ["3"]}])["Snapshots"]
    amazons = describe(OwnerIds=["amazon"])["Snapshots"]

    assert [len(page["Snapshots"]) for page in pages] == [5, 2]
    assert {item["SnapshotId"] for page in pages for item in page["Snapshots"]} == set(snapshots)
    assert [entry["SnapshotId"] for entry in tagged] == [snapshots[3]]
    assert not set(snapshots) & {amazon["SnapshotId"] for amazon in amazons}
    assert refusal(describe, SnapshotIds=["snap-0123456789abcdef0"]) == "InvalidSnapshot.NotFound"


def _pending(account: Account, volume: str) -> list[Any]:
    wanted = [{"Name": "volume-id", "Values": [volume]}, {"Name": "status", "Values": ["pending"]}]
    return list(account.ec2.describe_snapshots(Filters=wanted)["Snapshots"])


@pytest.mark.namespaces
def test_only_so_many_snapshots_of_a_volume_are_made_at_once(
    account: Account, make_volume: MakeVolume, faults: Faults, snapshots: list[str]
) -> None:
    volume = make_volume()
    faults.volume_times(snapshot=3600)
    for _ in range(5):
        snapshots.append(account.ec2.create_snapshot(VolumeId=volume)["SnapshotId"])

    assert refusal(account.ec2.create_snapshot, VolumeId=volume) == "ConcurrentSnapshotLimitExceeded"


@pytest.mark.namespaces
def test_a_snapshot_weighs_what_was_written_and_knows_what_changed(
    account: Account, launch: Launch, make_volume: MakeVolume, snapshots: list[str]
) -> None:
    volume, machine = make_volume(), launch()
    machine.attach(volume)
    write = "dd if=/dev/urandom of=/dev/sdf bs=512K oflag=direct conv=notrunc status=none"
    machine.root(f"{write} count=8 seek=100")
    first = account.snapshot(volume)
    machine.root(
        f"{write} count=2 seek=106; printf end | dd of=/dev/sdf bs=512K seek=2000 conv=fsync status=none"
    )
    second = account.snapshot(volume)
    snapshots += [first["SnapshotId"], second["SnapshotId"]]
    ebs = account.client("ebs")

    listed = ebs.list_snapshot_blocks(SnapshotId=first["SnapshotId"])
    changed = ebs.list_changed_blocks(
        FirstSnapshotId=first["SnapshotId"], SecondSnapshotId=second["SnapshotId"]
    )["ChangedBlocks"]
    block = ebs.get_snapshot_block(
        SnapshotId=second["SnapshotId"], BlockIndex=2000, BlockToken=changed[-1]["SecondBlockToken"]
    )

    assert first["FullSnapshotSizeInBytes"] == 8 * BLOCK_BYTES
    assert second["FullSnapshotSizeInBytes"] == 9 * BLOCK_BYTES
    assert (listed["BlockSize"], listed["VolumeSize"]) == (BLOCK_BYTES, 1)
    assert [item["BlockIndex"] for item in listed["Blocks"]] == list(range(100, 108))
    assert [entry["BlockIndex"] for entry in changed] == [106, 107, 2000]
    assert "FirstBlockToken" not in changed[-1]
    assert block["BlockData"].read().rstrip(b"\0") == b"end"


@pytest.mark.namespaces
def test_blocks_are_told_in_pages_and_of_snapshots_that_are_there(
    account: Account, make_volume: MakeVolume, snapshots: list[str], launch: Launch
) -> None:
    volume, machine, ebs = make_volume(), launch(), account.client("ebs")
    machine.attach(volume)
    machine.root("dd if=/dev/urandom of=/dev/sdf bs=1M count=60 oflag=direct status=none")
    snapshots.append(account.snapshot(volume)["SnapshotId"])

    item = ebs.list_snapshot_blocks(SnapshotId=snapshots[0], MaxResults=100)
    other = ebs.list_snapshot_blocks(SnapshotId=snapshots[0], MaxResults=100, NextToken=item["NextToken"])

    assert [block["BlockIndex"] for block in (*item["Blocks"], *other["Blocks"])] == list(range(120))
    assert "NextToken" not in other
    unknown = "snap-0123456789abcdef0"
    assert refusal(ebs.list_snapshot_blocks, SnapshotId=unknown) == "ResourceNotFoundException"


@pytest.mark.namespaces
def test_a_snapshot_keeps_the_size_that_its_volume_had(
    account: Account, make_volume: MakeVolume, snapshots: list[str]
) -> None:
    volume = make_volume()
    snapshots.append(account.snapshot(volume)["SnapshotId"])

    account.ec2.modify_volume(VolumeId=volume, Size=4)
    until(lambda: account.volume(volume)["Size"] == 4, "the volume to have grown")

    (found,) = account.ec2.describe_snapshots(SnapshotIds=snapshots)["Snapshots"]
    assert found["VolumeSize"] == 1


@pytest.mark.namespaces
def test_a_snapshot_copied_has_the_same_bytes(
    account: Account, launch: Launch, make_volume: MakeVolume, snapshots: list[str]
) -> None:
    volume, machine = make_volume(), launch()
    machine.attach(volume)
    machine.root("echo copied | dd of=/dev/sdf conv=fsync status=none")
    snapshots.append(account.snapshot(volume)["SnapshotId"])

    copy = account.ec2.copy_snapshot(SourceSnapshotId=snapshots[0], SourceRegion="us-east-1")["SnapshotId"]
    snapshots.append(copy)
    until(lambda: state(account, copy) == "completed 100%", "the copy to be completed")
    machine.attach(make_volume(SnapshotId=copy), "/dev/sdg")

    assert machine.root("head -c 6 /dev/sdg") == "copied"


@pytest.mark.namespaces
def test_a_snapshot_that_an_image_is_made_of_is_kept(
    account: Account, make_volume: MakeVolume, snapshots: list[str]
) -> None:
    snapshots.append(account.snapshot(make_volume())["SnapshotId"])
    image = account.ec2.register_image(
        Name="made-of-a-snapshot",
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshots[0]}}],
    )["ImageId"]

    code = refusal(account.ec2.delete_snapshot, SnapshotId=snapshots[0])
    account.ec2.deregister_image(ImageId=image)

    assert code == "InvalidSnapshot.InUse"
    account.ec2.delete_snapshot(SnapshotId=snapshots[0])


def test_blocks_of_a_file_are_those_with_data(tmp_path: Path) -> None:
    item, other = tmp_path / "one", tmp_path / "other"
    for file, places in ((item, (0, 7)), (other, (0, 3))):
        with file.open("wb") as stream:
            stream.truncate(16 * BLOCK_BYTES)
            for place in places:
                stream.seek(place * BLOCK_BYTES + 4096)
                stream.write(b"data")

    assert (written_blocks(item), written_blocks(other)) == ([0, 7], [0, 3])
    assert changed_blocks(item, other) == [3, 7]
    assert read_block(item, 7)[4096:4100] == b"data"
    assert written_blocks(tmp_path / "absent") == []


def test_volumes_that_are_folders_have_snapshots_and_copies_too(tmp_path: Path) -> None:
    home = tmp_path / "sandbox"
    account = Account(control.start(home=home, kind="folders", docker="off"), tmp_path)
    try:
        instance = account.ec2.run_instances(
            ImageId=account.image, InstanceType="g4dn.xlarge", MinCount=1, MaxCount=1
        )["Instances"][0]["InstanceId"]
        account.wait_state(instance, "running")
        volume = account.ec2.create_volume(Size=1, AvailabilityZone=ZONE, VolumeType="gp3")["VolumeId"]
        account.wait_volume(volume, "available")
        account.ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
        (home / "volumes" / volume / "file").write_text("kept")

        snapshot = account.snapshot(volume)
        restored = account.ec2.create_volume(SnapshotId=snapshot["SnapshotId"], AvailabilityZone=ZONE)
        (copy,) = account.ec2.copy_volumes(SourceVolumeId=volume)["Volumes"]
        account.ec2.modify_volume(VolumeId=volume, Size=2)
        until(lambda: account.volume(volume)["Size"] == 2, "the volume to have grown")
        account.ec2.detach_volume(VolumeId=volume)

        assert snapshot["FullSnapshotSizeInBytes"] == len("kept")
        for created in (restored["VolumeId"], copy["VolumeId"]):
            assert (home / "volumes" / created / "file").read_text() == "kept"
        assert account.volume(volume)["State"] == "available"
    finally:
        control.stop(home=home)
