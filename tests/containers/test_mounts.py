from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.spec import MachineMount
from runctl.containers.mounts import (
    AUTOMATIC,
    CONFIG,
    FLAG,
    MountRequest,
    check_targets,
    parse_mount,
    resolve_mounts,
)
from runctl.core.errors import Conflict, NotFound, UsageError

DATA = MachineMount("/mnt/data", "/dev/nvme1n1", "vol-0123456789abcdef0", "ext4", 100, 50)
CACHE = MachineMount("/mnt/cache", "/dev/nvme2n1", "vol-0fedcba9876543210", "ext4", 100, 50)
ROOT = MachineMount("/", "/dev/nvme0n1p1", None, "xfs", 100, 50)


def resolve(*texts: str, automatic: bool = False, mounted: tuple[MachineMount, ...] = (ROOT, DATA, CACHE)):  # type: ignore[no-untyped-def]
    return resolve_mounts(
        [parse_mount(text) for text in texts],
        mounted,
        {"datasets": DATA.volume_id or ""},
        instance_id="i-0abc",
        automatic=automatic,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/mnt/data:/data", ("/mnt/data", "/data", False)),
        ("/mnt/data:/data:ro", ("/mnt/data", "/data", True)),
        ("/mnt/data/:/data/:rw", ("/mnt/data", "/data", False)),
        ("//mnt//data:/data", ("/mnt/data", "/data", False)),
        ("datasets:/data", ("datasets", "/data", False)),
        ("vol-0123456789abcdef0:/data:ro", ("vol-0123456789abcdef0", "/data", True)),
    ],
)
def test_a_well_formed_mount_is_read(text: str, expected: tuple[str, str, bool]) -> None:
    mount = parse_mount(text)

    assert (mount.source, mount.target, mount.read_only) == expected


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("", "source and a target"),
        ("/mnt/data", "source and a target"),
        (":/data", "source and a target"),
        ("/mnt/data:", "source and a target"),
        ("/a:/b:ro:x", "source and a target"),
        ("/mnt/data:/data:readonly", "no mode"),
        ("/mnt/data:data", "not an absolute path"),
        ("mnt/data:/data", "neither an absolute path nor a volume"),
        ("/mnt/../etc:/data", "climbs"),
        ("/mnt/data:/data/../etc", "climbs"),
        ("/mnt/data:/", "hide everything"),
        ("/mnt/data://", "hide everything"),
        ("/mnt/data:/da,ta", "comma"),
        ("/mnt/data:/da\nta", "control character"),
    ],
)
def test_a_malformed_mount_is_one_clear_error(text: str, because: str) -> None:
    with pytest.raises(UsageError, match=because) as caught:
        parse_mount(text)

    assert caught.value.hint
    assert caught.value.exit_code == 2


@given(st.text(alphabet="/abc.:ro-_ ,\n", max_size=30))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    try:
        mount = parse_mount(text)
    except UsageError:
        return

    assert mount.target.startswith("/")
    assert mount.target != "/"
    assert ".." not in mount.target.split("/")
    assert not mount.target.endswith("/")


def test_two_mounts_at_one_target_are_refused() -> None:
    with pytest.raises(UsageError, match="two mounts want /data") as caught:
        check_targets([parse_mount("/mnt/data:/data"), parse_mount("/mnt/cache:/data/")], None)

    assert caught.value.code == "duplicate-target"


@pytest.mark.parametrize("target", ["/workspace", "/work"])
def test_a_mount_may_not_hide_the_project(target: str) -> None:
    with pytest.raises(UsageError, match="hide the project"):
        check_targets([parse_mount(f"/mnt/data:{target}")], f"{target.rstrip('/')}")


def test_a_mount_inside_the_project_is_allowed() -> None:
    check_targets(
        [parse_mount("/mnt/data:/workspace/data"), parse_mount("/mnt/cache:/workspaces")], "/workspace"
    )


def test_a_mount_point_resolves_to_its_volume() -> None:
    (mount,) = resolve("/mnt/data:/data:ro")

    assert (mount.source, mount.target, mount.read_only) == ("/mnt/data", "/data", True)
    assert mount.volume_id == DATA.volume_id
    assert mount.origin == FLAG


def test_a_folder_on_a_volume_resolves_to_that_volume() -> None:
    (mount,) = resolve("/mnt/data/imagenet:/data")

    assert (mount.source, mount.volume_id) == ("/mnt/data/imagenet", DATA.volume_id)


@pytest.mark.parametrize("source", ["datasets", "vol-0123456789abcdef0"])
def test_a_volume_by_name_or_id_resolves_to_where_it_is_mounted(source: str) -> None:
    (mount,) = resolve(f"{source}:/data")

    assert (mount.source, mount.volume_id) == ("/mnt/data", DATA.volume_id)


@pytest.mark.parametrize("source", ["/mnt/elsewhere", "/mnt/data2", "/", "/home"])
def test_a_path_that_is_on_no_volume_is_refused_with_what_is_mounted(source: str) -> None:
    with pytest.raises(NotFound, match="not on a mounted EBS volume") as caught:
        resolve(f"{source}:/data")

    assert "vol-0123456789abcdef0 at /mnt/data" in caught.value.message
    assert "runctl aws ebs attach" in caught.value.hint


def test_an_unknown_volume_name_is_refused_with_a_suggestion() -> None:
    with pytest.raises(NotFound, match='no volume named "dataset"') as caught:
        resolve("dataset:/data")

    assert "datasets" in caught.value.hint


def test_an_attached_volume_that_is_not_mounted_is_refused() -> None:
    with pytest.raises(NotFound, match="is not mounted"):
        resolve("vol-0123456789abcdef0:/data", mounted=(ROOT, CACHE))


def test_a_read_only_file_system_is_not_mounted_read_write() -> None:
    frozen = MachineMount("/mnt/data", "/dev/nvme1n1", DATA.volume_id, "ext4", 100, 50, read_only=True)

    with pytest.raises(Conflict, match="read-only"):
        resolve("/mnt/data:/data", mounted=(frozen,))


def test_automatic_mounts_add_what_no_rule_named() -> None:
    mounts = resolve("/mnt/data:/data", automatic=True)

    assert [(mount.source, mount.target, mount.origin) for mount in mounts] == [
        ("/mnt/data", "/data", FLAG),
        ("/mnt/cache", "/mnt/cache", AUTOMATIC),
    ]


def test_without_automatic_mounts_only_the_named_ones_are_made() -> None:
    assert [mount.target for mount in resolve("/mnt/data:/data")] == ["/data"]


def test_a_root_disk_is_never_mounted_automatically() -> None:
    assert resolve(automatic=True, mounted=(ROOT,)) == ()


def test_a_parent_target_is_mounted_before_what_lies_inside_it() -> None:
    mounts = resolve("/mnt/cache:/data/cache", "/mnt/data:/data")

    assert [mount.target for mount in mounts] == ["/data", "/data/cache"]


def test_a_configured_mount_says_where_it_came_from() -> None:
    with pytest.raises(UsageError, match=r"\[ebs\] mount_points"):
        parse_mount("nothing", CONFIG)

    assert parse_mount("/mnt/data:/data", CONFIG) == MountRequest("/mnt/data", "/data", False, CONFIG)
