"""ModifyVolume: sizes, types and speeds that change in steps, and what EC2 refuses of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.ec2.exceptions import EC2ClientError

from runctl.sandbox.ebs.volume_rules import Shape, checked_shape
from runctl.sandbox.ec2.modifications import Modification, check_may_begin, target_shape
from runctl.sandbox.fault_client import Faults
from tests.sandbox.account import Account, code_of, until
from tests.sandbox.conftest import Launch, MakeVolume

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
GP3 = Shape("gp3", 100, 3000, 125)


def refusal(call: Callable[..., Any], **parameters: Any) -> str:
    with pytest.raises(ClientError) as refused:
        call(**parameters)
    return code_of(refused.value)


def latest(account: Account, volume: str) -> dict[str, Any]:
    answer = account.ec2.describe_volumes_modifications(VolumeIds=[volume])
    (modification,) = answer["VolumesModifications"]
    return dict(modification)


def state_of(account: Account, volume: str) -> str:
    return str(latest(account, volume)["ModificationState"])


def completed(account: Account, volume: str) -> None:
    until(lambda: state_of(account, volume) == "completed", "the modification to be completed")


@pytest.mark.namespaces
def test_a_mounted_volume_grows_in_ec2s_steps(
    account: Account, launch: Launch, make_volume: MakeVolume, faults: Faults
) -> None:
    volume, machine = make_volume(), launch()
    machine.attach(volume)
    machine.root(
        "mkfs.xfs -q /dev/sdf; mkdir -p /mnt/data; mount /dev/sdf /mnt/data; echo kept > /mnt/data/f"
    )
    faults.volume_times(modifying=3600, optimizing=3600)

    answer = account.ec2.modify_volume(VolumeId=volume, Size=2)["VolumeModification"]
    assert (answer["ModificationState"], answer["Progress"]) == ("modifying", 0)
    assert (answer["OriginalSize"], answer["TargetSize"]) == (1, 2)
    assert account.volume(volume)["Size"] == 1
    assert int(machine.root("blockdev --getsize64 /dev/sdf")) == 1 << 30

    faults.volume_times(modifying=0)
    until(lambda: state_of(account, volume) == "optimizing", "it to be optimizing")
    assert account.volume(volume)["Size"] == 2
    assert int(machine.root("blockdev --getsize64 /dev/sdf")) == 2 << 30
    machine.root("xfs_growfs /mnt/data >/dev/null; fallocate -l 1200M /mnt/data/large; cat /mnt/data/f")

    faults.clear()
    completed(account, volume)
    done = latest(account, volume)
    assert (done["Progress"], done["TargetVolumeType"], done["OriginalIops"]) == (100, "gp3", 3000)
    assert done["EndTime"] >= done["StartTime"]


@pytest.mark.namespaces
def test_a_modification_waits_for_the_one_before_and_a_day_has_four(
    account: Account, make_volume: MakeVolume, faults: Faults
) -> None:
    volume = make_volume()
    faults.volume_times(modifying=0, optimizing=3600)
    account.ec2.modify_volume(VolumeId=volume, Iops=3100, Size=10)
    until(lambda: state_of(account, volume) == "optimizing", "it to be optimizing")

    code = refusal(account.ec2.modify_volume, VolumeId=volume, Iops=3200)
    faults.volume_times(optimizing=0)
    for iops in (3200, 3300, 3400):
        completed(account, volume)
        account.ec2.modify_volume(VolumeId=volume, Iops=iops)
    completed(account, volume)

    assert code == "IncorrectModificationState"
    assert refusal(account.ec2.modify_volume, VolumeId=volume, Iops=3500) == "VolumeModificationRateExceeded"
    faults.age_modifications(volume, hours=25)
    account.ec2.modify_volume(VolumeId=volume, Iops=3500)
    completed(account, volume)
    assert account.volume(volume)["Iops"] == 3500


@pytest.mark.namespaces
def test_type_and_speed_change_together(account: Account, make_volume: MakeVolume) -> None:
    volume = make_volume(size=10)

    account.ec2.modify_volume(VolumeId=volume, VolumeType="io2", Iops=5000)
    completed(account, volume)

    described = account.volume(volume)
    assert (described["VolumeType"], described["Iops"]) == ("io2", 5000)
    assert "Throughput" not in described


@pytest.mark.namespaces
def test_what_was_never_modified_has_no_modification(account: Account, make_volume: MakeVolume) -> None:
    volume = make_volume()

    code = refusal(account.ec2.describe_volumes_modifications, VolumeIds=[volume])

    assert code == "InvalidVolumeModification.NotFound"
    assert volume not in [
        describe_volumes_modification["VolumeId"]
        for describe_volumes_modification in account.ec2.describe_volumes_modifications()[
            "VolumesModifications"
        ]
    ]


@pytest.mark.namespaces
def test_a_refused_modification_changes_nothing(account: Account, make_volume: MakeVolume) -> None:
    volume = make_volume(size=2)
    before = account.volume(volume)

    assert refusal(account.ec2.modify_volume, VolumeId=volume, Size=1) == "InvalidParameterValue"
    assert refusal(account.ec2.modify_volume, VolumeId=volume) == "InvalidParameterCombination"
    assert refusal(account.ec2.modify_volume, VolumeId="vol-0123456789abcdef0", Size=9) == (
        "InvalidVolume.NotFound"
    )
    assert account.volume(volume) == before


@pytest.mark.parametrize(
    ("parameters", "becomes"),
    [
        ({"size": 200}, Shape("gp3", 200, 3000, 125)),
        ({"iops": 8000, "throughput": 1000}, Shape("gp3", 100, 8000, 1000)),
        ({"kind": "gp2"}, Shape("gp2", 100, 300, None)),
        ({"kind": "io1"}, Shape("io1", 100, 3000, None)),
        ({"kind": "io2", "multi_attach": True}, Shape("io2", 100, 3000, None, True)),
        ({"kind": "st1", "size": 125}, Shape("st1", 125, None, None)),
    ],
    ids=str,
)
def test_what_is_not_said_is_kept_or_ec2s_default(parameters: dict[str, Any], becomes: Shape) -> None:
    assert target(GP3, **parameters) == becomes


@pytest.mark.parametrize(
    ("now", "parameters", "code"),
    [
        (GP3, {"size": 99}, "InvalidParameterValue"),
        (GP3, {"size": 65537}, "InvalidParameterValue"),
        (GP3, {"iops": 80001}, "InvalidParameterValue"),
        (GP3, {"iops": 50001}, "InvalidParameterValue"),
        (GP3, {"throughput": 2001}, "InvalidParameterValue"),
        (GP3, {"throughput": 1000}, "InvalidParameterValue"),
        (GP3, {"kind": "sc1"}, "InvalidParameterValue"),
        (GP3, {"kind": "gp9"}, "UnknownVolumeType"),
        (GP3, {"kind": "gp2", "iops": 3000}, "InvalidParameterCombination"),
        (GP3, {"kind": "io2", "throughput": 500}, "InvalidParameterCombination"),
        (GP3, {"multi_attach": True}, "InvalidParameterCombination"),
        (GP3, {}, "InvalidParameterCombination"),
        (Shape("io2", 100, 3000, None, True), {"kind": "gp3"}, "UnsupportedOperation"),
        (Shape("io1", 100, 3000, None, True), {"size": 200}, "UnsupportedOperation"),
    ],
    ids=str,
)
def test_a_change_that_ebs_does_not_make_is_refused(
    now: Shape, parameters: dict[str, Any], code: str
) -> None:
    with pytest.raises(EC2ClientError) as refused:
        target(now, **parameters)
    assert refused.value.code == code


def target(now: Shape, **parameters: Any) -> Shape:
    """`target_shape` with what is not said left out."""
    named: dict[str, Any] = dict.fromkeys(("kind", "size", "iops", "throughput", "multi_attach"))
    return target_shape(now, **{**named, **parameters})


def test_the_limit_per_day_rolls() -> None:
    def done(hours: float) -> Modification:
        return Modification("vol-1", GP3, GP3, NOON - timedelta(hours=hours), "completed")

    check_may_begin("vol-1", [done(25), done(3), done(2), done(1)], NOON)
    with pytest.raises(EC2ClientError, match="2026-05-01T13:00:00Z"):
        check_may_begin("vol-1", [done(25), done(23), done(3), done(2), done(1)], NOON)


@pytest.mark.parametrize(
    ("kind", "size", "iops", "filled"),
    [
        ("gp3", 1, None, (3000, 125)),
        ("gp3", 160, 80000, (80000, 125)),
        ("gp2", 10, None, (100, None)),
        ("gp2", 16384, None, (16000, None)),
        ("io2", 256, 256000, (256000, None)),
        ("sc1", 125, None, (None, None)),
    ],
)
def test_a_new_volume_has_its_types_numbers(
    kind: str, size: int, iops: int | None, filled: tuple[int | None, int | None]
) -> None:
    shape = checked_shape(kind, size, iops, None)

    assert (shape.iops, shape.throughput) == filled


def test_a_volume_type_that_needs_iops_says_so() -> None:
    with pytest.raises(EC2ClientError) as refused:
        checked_shape("io2", 10, None, None)
    assert refused.value.code == "MissingParameter"
