"""CopyVolumes, and how far volumes that did not begin empty are initialized."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.ec2.exceptions import EC2ClientError

from runctl.sandbox.ec2.initialization import MIB, Initialization, checked_rate
from runctl.sandbox.fault_client import Faults
from tests.sandbox.account import ZONE, Account, code_of, until
from tests.sandbox.conftest import Launch, MakeVolume

WRITER = "while :; do dd if=/dev/urandom of=/mnt/data/busy bs=1M count=8 conv=fsync; done"


def refusal(call: Callable[..., Any], **parameters: Any) -> str:
    with pytest.raises(ClientError) as refused:
        call(**parameters)
    return code_of(refused.value)


@pytest.fixture
def copied(account: Account) -> Generator[Callable[..., dict[str, Any]]]:
    """Copy a volume; the copy as the call answers it. It is deleted after the test."""
    ids: list[str] = []

    def call(source: str, **more: Any) -> dict[str, Any]:
        (created,) = account.ec2.copy_volumes(SourceVolumeId=source, **more)["Volumes"]
        ids.append(created["VolumeId"])
        account.wait_volume(created["VolumeId"], "available")
        return dict(created)

    yield call
    for volume_id in dict.fromkeys(ids):
        if account.volume(volume_id)["State"] != "available":
            account.ec2.detach_volume(VolumeId=volume_id, Force=True)
            account.wait_volume(volume_id, "available")
        account.ec2.delete_volume(VolumeId=volume_id)


Copied = Callable[..., dict[str, Any]]


def status(account: Account, volume: str) -> dict[str, Any]:
    (row,) = account.ec2.describe_volume_status(VolumeIds=[volume])["VolumeStatuses"]
    return dict(row)


def initialized(account: Account, volume: str) -> None:
    until(
        lambda: status(account, volume)["InitializationStatusDetails"]["Progress"] == 100,
        f"{volume} to be initialized",
    )


@pytest.mark.namespaces
def test_a_copy_has_the_bytes_of_its_moment(
    account: Account, launch: Launch, make_volume: MakeVolume, copied: Copied
) -> None:
    volume, machine = make_volume(), launch()
    machine.attach(volume)
    machine.root("mkfs.ext4 -q /dev/sdf; mkdir -p /mnt/data; mount /dev/sdf /mnt/data")
    machine.root("echo before > /mnt/data/file; sync")

    copy = copied(volume, Size=2)["VolumeId"]
    machine.root("echo after > /mnt/data/file; umount /mnt/data")
    machine.attach(copy, "/dev/sdg")

    assert machine.root("mount /dev/sdg /mnt/data; cat /mnt/data/file").strip() == "before"
    assert int(machine.root("blockdev --getsize64 /dev/sdg")) == 2 << 30


@pytest.mark.namespaces
def test_a_copy_of_a_volume_that_is_written_to_is_whole(
    account: Account, launch: Launch, make_volume: MakeVolume, copied: Copied
) -> None:
    volume, machine = make_volume(), launch()
    machine.attach(volume)
    machine.root("mkfs.ext4 -q /dev/sdf; mkdir -p /mnt/data; mount /dev/sdf /mnt/data")
    machine.root(f"nohup sh -c '{WRITER}' >/dev/null 2>&1 & sleep 0.5")

    copy = copied(volume)["VolumeId"]
    machine.attach(copy, "/dev/sdg")

    # The journal is played back first, as after a power failure; then there must be nothing to repair.
    machine.root("e2fsck -p /dev/sdg >/dev/null || true; e2fsck -fn /dev/sdg")
    before = machine.root("stat -c %Y /mnt/data/busy")
    until(lambda: machine.root("stat -c %Y /mnt/data/busy") != before, "the writer to go on")


@pytest.mark.namespaces
def test_a_copy_is_a_volume_of_its_own_with_createvolumes_defaults(
    account: Account, make_volume: MakeVolume, copied: Copied
) -> None:
    tags = [{"Key": "Name", "Value": "of the source"}]
    volume = make_volume(size=3, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}], Encrypted=True)
    own = [{"Key": "Name", "Value": "of the copy"}]

    answer = copied(volume, TagSpecifications=[{"ResourceType": "volume", "Tags": own}])
    described = account.volume(answer["VolumeId"])

    assert answer["State"] == "creating"
    assert answer["VolumeId"] != volume
    assert described["SourceVolumeId"] == volume
    assert (described["VolumeType"], described["Size"], described["Iops"]) == ("gp2", 3, 100)
    assert (described["AvailabilityZone"], described["Encrypted"]) == (ZONE, True)
    assert described["KmsKeyId"] == account.volume(volume)["KmsKeyId"]
    assert described["Tags"] == own


@pytest.mark.namespaces
def test_a_copy_has_the_shape_that_was_asked_for(
    account: Account, make_volume: MakeVolume, copied: Copied
) -> None:
    volume = make_volume()

    gp3 = copied(volume, VolumeType="gp3", Iops=5000, Throughput=500, Size=10)["VolumeId"]
    initialized(account, gp3)
    io2 = copied(volume, VolumeType="io2", Iops=4000, Size=4, MultiAttachEnabled=True)["VolumeId"]

    item, other = account.volume(gp3), account.volume(io2)
    assert (item["VolumeType"], item["Iops"], item["Throughput"], item["Size"]) == ("gp3", 5000, 500, 10)
    assert (other["VolumeType"], other["Iops"], other["MultiAttachEnabled"]) == ("io2", 4000, True)
    assert not account.volume(volume)["MultiAttachEnabled"]


@pytest.mark.namespaces
def test_a_copy_is_initialized_meanwhile_and_one_at_a_time(
    account: Account, make_volume: MakeVolume, copied: Copied, faults: Faults
) -> None:
    volume = make_volume()
    faults.volume_times(initializing=3600)
    copy = copied(volume)["VolumeId"]

    row = status(account, copy)
    second = refusal(account.ec2.copy_volumes, SourceVolumeId=volume)
    of_the_copy = refusal(account.ec2.copy_volumes, SourceVolumeId=copy)
    faults.clear()
    initialized(account, copy)

    assert row["InitializationStatusDetails"] == {"InitializationType": "volume-copy", "Progress": 0}
    assert {"Name": "initialization-state", "Status": "initializing"} in row["VolumeStatus"]["Details"]
    assert (second, of_the_copy) == ("CopyVolumesLimitExceeded", "IncorrectState")
    details = status(account, copy)["VolumeStatus"]["Details"]
    assert {"Name": "initialization-state", "Status": "completed"} in details
    copied(volume)


@pytest.mark.namespaces
def test_a_copy_that_cannot_be_is_refused_and_not_made(
    account: Account, make_volume: MakeVolume, faults: Faults
) -> None:
    volume, copy = make_volume(size=4), account.ec2.copy_volumes
    before = len(account.ec2.describe_volumes()["Volumes"])

    assert refusal(copy, SourceVolumeId="vol-0123456789abcdef0") == "InvalidVolume.NotFound"
    assert refusal(copy, SourceVolumeId=volume, Size=1) == "InvalidParameterValue"
    assert refusal(copy, SourceVolumeId=volume, VolumeType="io2") == "MissingParameter"
    assert refusal(copy, SourceVolumeId=volume, Throughput=500) == "InvalidParameterCombination"
    faults.volume_times(modifying=3600)
    account.ec2.modify_volume(VolumeId=volume, Size=5)
    assert refusal(copy, SourceVolumeId=volume) == "IncorrectModificationState"
    assert len(account.ec2.describe_volumes()["Volumes"]) == before


@pytest.mark.namespaces
def test_the_same_token_gives_the_same_copy(
    account: Account, make_volume: MakeVolume, copied: Copied
) -> None:
    volume = make_volume()

    item, other = copied(volume, ClientToken="copy"), copied(volume, ClientToken="copy")

    assert item["VolumeId"] == other["VolumeId"]


@pytest.mark.namespaces
def test_a_volume_that_began_empty_has_nothing_to_initialize(
    account: Account, make_volume: MakeVolume
) -> None:
    row = status(account, make_volume())

    assert row["VolumeStatus"]["Status"] == "ok"
    assert "InitializationStatusDetails" not in row


@pytest.mark.namespaces
def test_a_volume_from_a_snapshot_is_initialized_at_the_rate_that_is_paid_for(
    account: Account, make_volume: MakeVolume, faults: Faults
) -> None:
    snapshot = account.snapshot(make_volume())["SnapshotId"]
    faults.volume_times(initializing=3600)

    volume = make_volume(SnapshotId=snapshot, VolumeInitializationRate=150)

    details = status(account, volume)["InitializationStatusDetails"]
    assert (details["InitializationType"], details["Progress"]) == ("provisioned-rate", 0)
    assert details["EstimatedTimeToCompleteInSeconds"] == 0
    assert account.volume(volume)["VolumeInitializationRate"] == 150
    account.ec2.delete_snapshot(SnapshotId=snapshot)


@pytest.mark.namespaces
def test_an_initialization_rate_is_for_snapshots(account: Account, make_volume: MakeVolume) -> None:
    parameters = {"AvailabilityZone": ZONE, "VolumeType": "gp3", "VolumeInitializationRate": 100}

    assert refusal(account.ec2.create_volume, Size=1, **parameters) == "InvalidParameterCombination"


@pytest.mark.parametrize("rate", [0, 99, 301])
def test_a_rate_that_ebs_does_not_sell_is_refused(rate: int) -> None:
    with pytest.raises(EC2ClientError) as refused:
        checked_rate(rate, "snap-1")
    assert refused.value.code == "InvalidParameterValue"


def test_initialization_comes_to_its_end_and_stays_there() -> None:
    initialization = Initialization("provisioned-rate", 1000 * MIB, 100, began=50.0)

    assert [initialization.progress(now, 10) for now in (50.0, 52.5, 60.0)] == [0, 25, 100]
    assert initialization.progress(50.0, 3600) == 100
    assert [initialization.seconds_left(progress) for progress in (0, 50, 100)] == [10, 5, 0]
    assert Initialization("default", 1000).seconds_left(0) is None
