"""Attaching and detaching: io2 volumes at several machines, and what EC2 refuses."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.ec2.exceptions import EC2ClientError

from runctl.sandbox.ec2.attachment_rules import attachment_meant, check_attach
from tests.sandbox.account import Account, code_of
from tests.sandbox.conftest import Launch, MakeVolume

SHARED = {"size": 4, "VolumeType": "io2", "Iops": 100, "MultiAttachEnabled": True}


def refusal(call: Callable[..., Any], **parameters: Any) -> str:
    with pytest.raises(ClientError) as refused:
        call(**parameters)
    return code_of(refused.value)


@pytest.mark.namespaces
def test_a_multi_attach_volume_is_at_two_machines(
    account: Account, launch: Launch, make_volume: MakeVolume
) -> None:
    volume, item, other = make_volume(**SHARED), launch(), launch()
    account.ec2.attach_volume(VolumeId=volume, InstanceId=item.id, Device="/dev/sdf")
    item.root(
        "mkfs.ext4 -q /dev/sdf; mkdir /mnt/data; mount /dev/sdf /mnt/data; echo shared > /mnt/data/file"
    )
    item.root("umount /mnt/data")

    account.ec2.attach_volume(VolumeId=volume, InstanceId=other.id, Device="/dev/sdg")
    item.root("mount -o ro /dev/sdf /mnt/data")
    seen = other.root("mkdir /mnt/data; mount -o ro /dev/sdg /mnt/data; cat /mnt/data/file")
    attachments = account.volume(volume)["Attachments"]
    by_filter = account.ec2.describe_volumes(
        Filters=[{"Name": "attachment.instance-id", "Values": [other.id]}]
    )["Volumes"]

    assert seen.strip() == item.root("cat /mnt/data/file").strip() == "shared"
    assert {(a["InstanceId"], a["Device"], a["State"]) for a in attachments} == {
        (item.id, "/dev/sdf", "attached"),
        (other.id, "/dev/sdg", "attached"),
    }
    assert volume in [found["VolumeId"] for found in by_filter]
    assert refusal(account.ec2.detach_volume, VolumeId=volume) == "MissingParameter"
    assert refusal(account.ec2.delete_volume, VolumeId=volume) == "VolumeInUse"

    other.root("umount /mnt/data")
    account.ec2.detach_volume(VolumeId=volume, InstanceId=other.id)
    assert [a["InstanceId"] for a in account.volume(volume)["Attachments"]] == [item.id]
    assert other.run("find /dev -type b").split() == []
    assert item.root("cat /mnt/data/file").strip() == "shared"
    account.ec2.terminate_instances(InstanceIds=[item.id])
    account.wait_state(item.id, "terminated")
    account.wait_volume(volume, "available")


@pytest.mark.namespaces
def test_multi_attach_is_for_provisioned_iops(account: Account) -> None:
    parameters = {"Size": 4, "AvailabilityZone": "us-east-1a", "MultiAttachEnabled": True}

    code = refusal(account.ec2.create_volume, VolumeType="gp3", **parameters)

    assert code == "InvalidParameterCombination"


@pytest.mark.namespaces
def test_a_root_volume_stays_and_an_attachment_is_named_rightly(
    account: Account, launch: Launch, make_volume: MakeVolume
) -> None:
    volume, machine = make_volume(), launch()
    (root,) = account.describe(machine.id)["BlockDeviceMappings"]
    machine.attach(volume)
    detach = account.ec2.detach_volume

    assert refusal(detach, VolumeId=root["Ebs"]["VolumeId"]) == "OperationNotPermitted"
    assert refusal(detach, VolumeId=volume, InstanceId=machine.id, Device="/dev/sdz") == (
        "InvalidAttachment.NotFound"
    )
    described = account.volume(volume)["Attachments"][0]
    assert (described["State"], described["DeleteOnTermination"]) == ("attached", False)
    assert account.volume(root["Ebs"]["VolumeId"])["Attachments"][0]["DeleteOnTermination"]


def instance(kind: str = "m5.large", **more: Any) -> Any:
    parameters: dict[str, Any] = {
        "id": "i-1",
        "availability_zone": "us-east-1a",
        "instance_type": kind,
        "_state": SimpleNamespace(name="running"),
        "root_device_name": "/dev/xvda",
        "block_device_mapping": {"/dev/xvda": object()},
    }
    return SimpleNamespace(**{**parameters, **more})


def volume(*held: Any, **more: Any) -> Any:
    parameters = {
        "id": "vol-1",
        "availability_zone": "us-east-1a",
        "multi_attach_enabled": False,
        "status": "in-use" if held else "available",
        "held": [SimpleNamespace(instance=item, device="/dev/sdf") for item in held],
    }
    return SimpleNamespace(**{**parameters, **more})


@pytest.mark.parametrize(
    ("code", "vol", "at", "device"),
    [
        ("MissingParameter", volume(), instance(), None),
        ("InvalidParameterValue", volume(), instance(), "/dev/nvme1n1"),
        ("InvalidParameterValue", volume(), instance(), "sdf"),
        ("InvalidParameterValue", volume(), instance(), "/dev/xvda"),
        ("VolumeInUse", volume(instance()), instance(), "/dev/sdf"),
        ("IncorrectState", volume(status="creating"), instance(), "/dev/sdf"),
        ("InvalidVolume.ZoneMismatch", volume(availability_zone="us-east-1b"), instance(), "/dev/sdf"),
        ("IncorrectState", volume(), instance(_state=SimpleNamespace(name="pending")), "/dev/sdf"),
        ("UnsupportedOperation", volume(multi_attach_enabled=True), instance("t2.micro"), "/dev/sdf"),
        (
            "AttachmentLimitExceeded",
            volume(*(instance() for _ in range(16)), multi_attach_enabled=True),
            instance(),
            "/dev/sdf",
        ),
        (
            "AttachmentLimitExceeded",
            volume(),
            instance("t3.micro", block_device_mapping=dict.fromkeys(map(str, range(27)))),
            "/dev/sdf",
        ),
    ],
)
def test_an_attachment_that_cannot_be_is_refused(code: str, vol: Any, at: Any, device: str | None) -> None:
    with pytest.raises(EC2ClientError) as refused:
        check_attach(vol, at, device)
    assert refused.value.code == code


def test_an_attachment_that_can_be_is_not_refused() -> None:
    check_attach(volume(), instance("t2.micro"), "/dev/xvdba")
    check_attach(volume(instance(), multi_attach_enabled=True), instance("m5.metal"), "/dev/sdf")


def test_the_same_instance_has_a_volume_once() -> None:
    it = instance()

    with pytest.raises(EC2ClientError) as refused:
        check_attach(volume(it, multi_attach_enabled=True), it, "/dev/sdg")
    assert refused.value.code == "VolumeInUse"


def test_the_root_volume_of_a_stopped_instance_may_go() -> None:
    stopped = instance(_state=SimpleNamespace(name="stopped"), root_device_name="/dev/sdf")

    assert attachment_meant(volume(stopped), None, None).instance is stopped
