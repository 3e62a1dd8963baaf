"""What EC2 describes is read as it is, whatever is missing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.core import tags as tag
from runctl.core.errors import UsageError
from runctl.core.machine_models import InstanceState, Market
from runctl.providers.aws.calls.parse import (
    checked_mount_point,
    device_path,
    free_device,
    instance_of,
    launch_mounts_of,
    mount_tag,
    mounts_of,
    mounts_tag,
    read_only_of,
    volume_of,
)
from runctl.providers.aws.prices.shipped import shipped_rates

ID = "i-0123456789abcdef0"


def described(**changes: Any) -> dict[str, Any]:
    return {
        "InstanceId": ID,
        "State": {"Name": "running"},
        "InstanceType": "m7i.large",
        "Placement": {"AvailabilityZone": "us-east-1a"},
        **changes,
    }


def test_an_instance_with_almost_nothing_known_is_still_read() -> None:
    instance = instance_of(described())

    assert (instance.id, instance.state, instance.market) == (ID, InstanceState.RUNNING, Market.ON_DEMAND)
    assert instance.public_ip is None
    assert instance.created_at.tzinfo is not None


def test_spot_is_told_from_on_demand() -> None:
    assert instance_of(described(InstanceLifecycle="spot")).market is Market.SPOT


def test_volumes_know_where_they_are_mounted_the_root_disk_is_mounted_nowhere() -> None:
    tags = [{"Key": tag.MOUNTS, "Value": "vol-1=/mnt/data data=/mnt/scratch"}]
    mappings = [
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeId": "vol-0"}},
        {"DeviceName": "/dev/sdg", "Ebs": {"VolumeId": "vol-1"}},
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeId": "vol-2"}},
    ]

    instance = instance_of(described(Tags=tags, BlockDeviceMappings=mappings, RootDeviceName="/dev/xvda"))

    assert {v.volume_id: v.mount_point for v in instance.volumes} == {
        "vol-0": None,
        "vol-1": "/mnt/data",
        "vol-2": "/mnt/scratch",
    }


def test_a_volume_that_is_being_detached_is_attached_to_nothing() -> None:
    attachment = {"InstanceId": ID, "Device": "/dev/sdf", "State": "detaching"}
    item = {
        "VolumeId": "vol-1",
        "Size": 1,
        "State": "in-use",
        "AvailabilityZone": "us-east-1a",
        "Attachments": [attachment],
    }

    volume = volume_of(item, shipped_rates("us-east-1"))

    assert volume.attached_to is None
    assert volume.device is None


@pytest.mark.parametrize(
    ("instance_type", "path"),
    [
        ("m7i.large", "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0abc"),
        (None, "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0abc"),
        ("p3.2xlarge", "/dev/xvdf"),
        ("i3.metal", "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0abc"),
    ],
)
def test_a_device_is_found_by_serial_where_the_machine_has_nvme(instance_type: str | None, path: str) -> None:
    assert device_path("vol-0abc", "/dev/sdf", instance_type) == path


def test_a_letter_is_taken_under_either_of_its_names() -> None:
    assert free_device(["/dev/xvda", "/dev/xvdf", "/dev/sdg1"]) == "/dev/sdh"


def test_an_instance_can_be_full() -> None:
    assert free_device([f"/dev/sd{letter}" for letter in "fghijklmnop"]) is None


good_points = st.lists(
    st.text("abcXYZ019._@:+-", min_size=1, max_size=12).filter(lambda part: part not in {".", ".."}),
    min_size=1,
    max_size=3,
).map(lambda parts: "/" + "/".join(parts))


@given(st.dictionaries(st.from_regex(r"vol-[0-9a-f]{17}", fullmatch=True), good_points, max_size=4))
def test_mounts_survive_their_tag(mounts: dict[str, str]) -> None:
    try:
        text = mounts_tag(mounts.items())
    except UsageError:
        assert sum(len(v) + len(p) + 2 for v, p in mounts.items()) > 256
    else:
        assert mounts_of({tag.MOUNTS: text}) == mounts


@given(
    st.dictionaries(st.sampled_from(["vol-1", "vol-2", "data"]), good_points),
    st.dictionaries(
        st.sampled_from(["vol-1", "vol-2", "vol-3"]), st.tuples(st.none() | good_points, st.booleans())
    ),
    st.sets(st.sampled_from(["vol-1", "vol-2"])),
)
def test_what_was_mounted_since_the_launch_counts_more_than_what_it_was_launched_with(
    launched: dict[str, str], since: dict[str, tuple[str | None, bool]], read_only: set[str]
) -> None:
    tags = {tag.MOUNTS: " ".join(f"{volume}={point}" for volume, point in launched.items())}
    tags[tag.READ_ONLY] = " ".join(read_only)
    for volume, (point, is_read) in since.items():
        tags[tag.MOUNT + volume] = mount_tag(point, read_only=is_read) if point else ""

    there = {volume: point for volume, (point, _) in since.items() if point}
    assert mounts_of(tags) == {k: v for k, v in launched.items() if k not in since} | there
    assert read_only_of(tags) == (read_only - since.keys()) | {v for v in there if since[v][1]}
    assert launch_mounts_of(tags) == launched


@pytest.mark.parametrize(
    "point",
    ["", "/", "data", "/mnt/", "//mnt", "/mnt//x", "/mnt/../etc", "/mnt/.", "/a b", "/a=b\n", "/é", "/a'b"],
)
def test_a_path_that_cannot_be_a_mount_point_is_refused(point: str) -> None:
    with pytest.raises(UsageError):
        checked_mount_point(point)


def test_too_many_mounts_for_a_tag_are_refused() -> None:
    with pytest.raises(UsageError, match="256"):
        mounts_tag((f"vol-{n:017x}", f"/mnt/a-rather-long-name-{n}") for n in range(8))
