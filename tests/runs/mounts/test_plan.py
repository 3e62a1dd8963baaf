"""Which volume a run sees where: requests and what the machine has, joined."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.containers.mounts import AUTOMATIC, CONFIG, FLAG, VOLUME_FLAG, MountRequest, parse_mount
from runctl.core import tags as tag
from runctl.core.errors import Conflict, NotFound, RunctlError, UsageError, ZoneMismatch
from runctl.core.ids import VolumeId
from runctl.core.machine_models import AttachedVolume, InstanceState, VolumeState
from runctl.runs.mounts.plan import little_room, plan_mounts
from runctl.runs.mounts.volume_conflicts import Holder, Sharer
from tests.runs.mounts.machine import (
    CACHE,
    CACHE_MOUNT,
    DATA_MOUNT,
    DATASETS,
    FREE,
    GIB,
    INSTANCE,
    OTHER,
    OURS,
    ROOT,
    a_volume,
    a_volume_request,
    an_instance,
    around,
    mounted,
    plan,
    shown,
)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("/mnt/data:/data", "/mnt/data"),
        ("/mnt/data/imagenet:/data", "/mnt/data/imagenet"),
        ("datasets:/data", "/mnt/data"),
        (f"{DATASETS}:/data", "/mnt/data"),
    ],
)
def test_a_path_an_id_and_a_name_lead_to_the_volume_that_is_mounted(text: str, source: str) -> None:
    found = plan(text)

    assert shown(found) == [(source, "/data", DATASETS)]
    (mount,) = found.mounts
    assert (mount.free_bytes, mount.size_bytes, mount.attachment) == (50 * GIB, 100 * GIB, None)
    assert mount.spec.origin == FLAG
    assert found.attachments == ()


def test_the_innermost_mount_holds_a_path() -> None:
    inner = mounted("/mnt/data/cache", CACHE)

    assert shown(plan("/mnt/data/cache/x:/c", where=around(mounts=(DATA_MOUNT, inner)))) == [
        ("/mnt/data/cache/x", "/c", CACHE)
    ]


@pytest.mark.parametrize("source", ["/mnt/elsewhere", "/mnt/data2", "/", "/home", "/etc"])
def test_a_path_that_is_on_no_volume_is_refused_with_what_is_mounted(source: str) -> None:
    with pytest.raises(NotFound, match="not on a mounted EBS volume") as caught:
        plan(f"{source}:/data")

    assert f"{DATASETS} at /mnt/data" in caught.value.message
    # Nothing can be attached over the system's own folders.
    assert ("runctl aws ebs attach" in caught.value.hint) is source.startswith("/mnt/")


def test_a_volume_that_is_not_attached_gets_attached_where_it_belongs() -> None:
    (attachment,) = plan("free:/data").attachments

    assert (attachment.mount_point, attachment.reason, attachment.attached) == (
        "/mnt/free",
        "by its name",
        False,
    )
    assert attachment.formats_if_blank
    assert not attachment.read_only
    assert shown(plan("free:/data")) == [("/mnt/free", "/data", FREE)]


def test_it_goes_where_it_was_last() -> None:
    tags = {**OURS, tag.MOUNT_POINT: "/mnt/before"}
    before = a_volume(FREE, "free", attached_to=None, state=VolumeState.AVAILABLE, tags=tags)

    (attachment,) = plan("free:/data", where=around(before)).attachments

    assert (attachment.mount_point, attachment.reason) == ("/mnt/before", "where it was last")


@pytest.mark.parametrize("taken", ["/mnt/data", "not absolute", "/mnt/../etc", "/a b"])
def test_a_place_that_is_taken_or_no_mount_point_is_passed_over(taken: str) -> None:
    tags = {**OURS, tag.MOUNT_POINT: taken}
    before = a_volume(FREE, "free", attached_to=None, state=VolumeState.AVAILABLE, tags=tags)

    (attachment,) = plan("free:/data", where=around(before, mounts=(DATA_MOUNT,))).attachments

    assert attachment.mount_point == "/mnt/free"


def test_no_place_left_is_said_with_the_way_out() -> None:
    with pytest.raises(Conflict, match=r"cannot be mounted at /mnt/free .*is there") as caught:
        plan("free:/data", where=around(mounts=(mounted("/mnt/free", CACHE),)))

    assert "--mount-point" in caught.value.hint


def test_an_attached_volume_that_is_not_mounted_gets_mounted() -> None:
    (attachment,) = plan("datasets:/data", where=around(mounts=(ROOT,))).attachments

    assert attachment.attached
    assert attachment.mount_point == "/mnt/datasets"


def test_a_path_where_the_instance_expects_a_volume_gets_it_mounted() -> None:
    expecting = an_instance(volumes=(AttachedVolume(VolumeId(DATASETS), "/dev/sdf", "/mnt/data"),))

    found = plan("/mnt/data/set:/data", where=around(mounts=(ROOT,), instance=expecting))

    assert [(attachment.mount_point, attachment.attached) for attachment in found.attachments] == [
        ("/mnt/data", True)
    ]
    assert shown(found) == [("/mnt/data/set", "/data", DATASETS)]


def test_a_volume_that_runctl_did_not_make_is_never_formatted() -> None:
    theirs = a_volume(FREE, "free", attached_to=None, state=VolumeState.AVAILABLE, tags={})

    assert not plan("free:/data", where=around(theirs)).attachments[0].formats_if_blank


def test_what_everybody_only_reads_is_mounted_read_only_on_the_machine_too() -> None:
    only_read, mixed = plan("free:/data:ro"), plan("free:/data:ro", "free:/out")

    assert [item.read_only for item in (*only_read.attachments, *mixed.attachments)] == [True, False]
    assert not only_read.attachments[0].formats_if_blank


def test_ebs_volume_shows_the_volume_at_its_mount_point() -> None:
    found = plan(volumes=(a_volume_request("free", "/mnt/here"),))

    assert shown(found) == [("/mnt/here", "/mnt/here", FREE)]
    assert (found.mounts[0].spec.origin, found.attachments[0].reason) == (VOLUME_FLAG, "--mount-point")


@pytest.mark.parametrize("text", ["free:/data", f"{FREE}:/data", "/mnt/here:/data", "/mnt/here/sub:/data"])
def test_ebs_volume_is_seen_where_ebs_mount_says_otherwise(text: str) -> None:
    found = plan(text, volumes=(a_volume_request("free", "/mnt/here"),))

    assert [(spec.target, spec.origin) for spec in found.specs] == [("/data", FLAG)]
    assert [attachment.mount_point for attachment in found.attachments] == ["/mnt/here"]


def test_ebs_volume_that_is_mounted_stays_where_it_is_or_is_refused() -> None:
    assert shown(plan(volumes=(a_volume_request("datasets"),))) == [("/mnt/data", "/mnt/data", DATASETS)]
    assert plan(volumes=(a_volume_request("datasets", "/mnt/data"),)).attachments == ()

    with pytest.raises(Conflict, match=r"is mounted at /mnt/data .* not at /mnt/x") as caught:
        plan(volumes=(a_volume_request("datasets", "/mnt/x"),))

    assert caught.value.code == "mounted-elsewhere"


def test_two_volumes_do_not_get_one_mount_point() -> None:
    tags = {**OURS, tag.MOUNT_POINT: "/mnt/same"}
    both = [
        a_volume(identifier, name, attached_to=None, state=VolumeState.AVAILABLE, tags=tags)
        for identifier, name in ((FREE, "one"), (CACHE, "two"))
    ]

    found = plan("one:/a", "two:/b", where=around(*both, mounts=()))

    assert [attachment.mount_point for attachment in found.attachments] == ["/mnt/same", "/mnt/two"]


def test_targets_of_volumes_are_checked_like_all_others() -> None:
    with pytest.raises(UsageError, match="two mounts want /mnt/here"):
        plan("/mnt/data:/mnt/here", volumes=(a_volume_request("free", "/mnt/here"),))
    with pytest.raises(UsageError, match="hide the project"):
        plan(volumes=(a_volume_request("free", "/workspace"),), workdir="/workspace")


def test_another_zone_is_refused_before_anything_happens() -> None:
    there = a_volume(FREE, "free", attached_to=None, state=VolumeState.AVAILABLE, zone="us-east-1b")

    with pytest.raises(ZoneMismatch) as caught:
        plan("free:/data", where=around(there))

    assert "us-east-1b" in caught.value.message
    assert "--availability-zone us-east-1a" in caught.value.hint


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (VolumeState.CREATING, None),
        (VolumeState.IN_USE, None),
        (VolumeState.ERROR, "volume-state"),
        (VolumeState.DELETING, "volume-state"),
    ],
)
def test_a_volume_in_another_state_is_waited_for_or_refused(state: VolumeState, code: str | None) -> None:
    found = around(a_volume(FREE, "free", attached_to=None, state=state))
    if code is None:
        ready = plan("free:/data", where=found)
        assert ready.attachments
        assert "that is waited for" in ready.notes[-1]
        return

    with pytest.raises(Conflict) as caught:
        plan("free:/data", where=found)

    assert caught.value.code == code


def test_whoever_has_the_volume_is_named_with_its_run_and_the_ways_out() -> None:
    taken = a_volume(FREE, "free", attached_to=OTHER)
    run = Sharer("run-abc", "train.py", frozenset({FREE}), frozenset({FREE}))
    holder = Holder(OTHER, an_instance(OTHER, project="vision", tags={**OURS, "Name": "big"}), (run,))

    with pytest.raises(Conflict) as caught:
        plan("free:/data", where=around(taken, holders={FREE: holder}))

    assert caught.value.code == "volume-in-use"
    for fact in (OTHER, "big", "project vision", "run-abc (train.py)"):
        assert fact in caught.value.message
    for way in ("runctl runs stop run-abc", f"runctl aws ebs detach {FREE}", f"runctl aws ebs clone {FREE}"):
        assert way in caught.value.hint


def test_a_multi_attach_volume_can_be_read_beside_others() -> None:
    shared = a_volume(FREE, "free", attached_to=OTHER, instances=(OTHER,), type="io2", multi_attach=True)
    here = replace(shared, instances=(OTHER, INSTANCE.id))

    assert plan("free:/data:ro", where=around(shared)).attachments[0].read_only
    assert plan("free:/data:ro", where=around(here)).attachments[0].attached
    with pytest.raises(Conflict) as caught:
        plan("free:/data", where=around(shared))

    assert caught.value.code == "volume-in-use"
    assert ":ro" in caught.value.hint


def test_a_volume_that_is_being_changed_is_said_to_be_slower() -> None:
    found = plan("datasets:/data", where=around(changing={DATASETS: "optimizing"}))

    assert "datasets" in found.notes[-1]
    assert "is optimizing" in found.notes[-1]


def test_an_instance_that_is_ending_is_waited_for() -> None:
    taken = replace(a_volume(FREE, "free", attached_to=OTHER), state=VolumeState.IN_USE)
    holder = Holder(OTHER, an_instance(OTHER, state=InstanceState.SHUTTING_DOWN))

    found = plan("free:/data", where=around(taken, holders={FREE: holder}))

    assert f"{OTHER}, which is shutting down: that is waited for" in found.notes[-1]


def test_a_holder_of_whom_nothing_is_known_is_named_by_its_id() -> None:
    with pytest.raises(Conflict, match=OTHER):
        plan("free:/data", where=around(a_volume(FREE, "free", attached_to=OTHER)))


def test_a_read_only_file_system_is_not_mounted_read_write() -> None:
    frozen = around(mounts=(mounted("/mnt/data", DATASETS, read_only=True),))

    with pytest.raises(Conflict, match="mounted read-only") as caught:
        plan("/mnt/data:/data", where=frozen)

    assert "/mnt/data:/data:ro" in caught.value.hint
    assert plan("/mnt/data:/data:ro", where=frozen).specs[0].read_only


def test_what_was_taken_by_force_and_is_still_mounted_is_not_used() -> None:
    lost = around(gone=frozenset({DATASETS}))

    with pytest.raises(Conflict, match=r"taken from .* by force") as caught:
        plan("datasets:/data", where=lost)

    assert (caught.value.code, "umount" in caught.value.hint) == ("volume-lost", True)
    found = plan(automatic=True, where=lost)
    assert shown(found) == [("/mnt/cache", "/mnt/cache", CACHE)]
    assert "/mnt/data is left out" in found.notes[0]


def test_automatic_mounts_add_what_no_rule_named() -> None:
    found = plan("/mnt/data:/data", automatic=True)

    assert [(spec.source, spec.target, spec.origin) for spec in found.specs] == [
        ("/mnt/data", "/data", FLAG),
        ("/mnt/cache", "/mnt/cache", AUTOMATIC),
    ]
    assert plan(automatic=True, where=around(mounts=(ROOT,))).mounts == ()


@pytest.mark.parametrize("point", ["/workspace", "/runctl/output"])
def test_an_automatic_mount_that_would_hide_something_is_left_out_and_said(point: str) -> None:
    found = plan(automatic=True, workdir="/workspace", where=around(mounts=(mounted(point, DATASETS),)))

    assert found.mounts == ()
    assert point in found.notes[0]


def test_results_go_to_the_first_volume_asked_for_that_may_be_written() -> None:
    found = plan("datasets:/in:ro", "cache:/deep/below/out", automatic=True)

    assert (found.data_target, found.saves and found.saves.spec.target) == ("/in", "/deep/below/out")
    deep_first = plan("cache:/deep/below/out", "datasets:/in")
    assert (deep_first.data_target, deep_first.saves and deep_first.saves.spec.target) == (
        "/deep/below/out",
        "/deep/below/out",
    )


def test_little_room_for_checkpoints_is_warned_of() -> None:
    tight = around(mounts=(mounted("/mnt/data", DATASETS, free_bytes=GIB),))

    (warning,) = plan("/mnt/data:/data", where=tight).warnings

    assert "1.0 GiB free of 100.0 GiB" in warning
    assert f"runctl aws ebs resize {DATASETS}" in warning
    assert plan("/mnt/data:/data:ro", where=tight).warnings == ()
    assert plan("/mnt/data:/data").warnings == ()


@pytest.mark.parametrize(
    ("size", "free", "little"),
    [
        (GIB, GIB // 2, False),
        (GIB, GIB // 11, True),
        (1000 * GIB, 6 * GIB, False),
        (1000 * GIB, 4 * GIB, True),
    ],
)
def test_what_little_room_is(size: int, free: int, little: bool) -> None:
    assert little_room(size, free) is little


def test_runs_that_share_a_volume_read_write_are_said() -> None:
    run = Sharer("run-abc", "other.py", frozenset({DATASETS}), frozenset({DATASETS}))
    reader = Sharer("run-def", "reader.py", frozenset({DATASETS}))

    both = plan("/mnt/data:/data", where=around(sharers=(run, reader)))
    reading = plan("/mnt/data:/data:ro", where=around(sharers=(run, reader)))

    assert [item.run_id for item in both.mounts[0].shared_with] == ["run-abc", "run-def"]
    assert "run-abc (other.py)" in both.notes[0]
    assert "run-def" not in both.notes[0]
    assert reading.notes == ()


SOURCES = st.sampled_from(
    ["/mnt/data", "/mnt/data/a/b", "/mnt/cache", "datasets", "cache", "free", FREE, "/opt"]
)


TARGETS = st.sampled_from(["/a", "/a/b", "/a/b/c", "/workspace/data", "/workspace", "/mnt/cache", "/z"])


TEXTS = st.builds(lambda s, t, m: f"{s}:{t}{m}", SOURCES, TARGETS, st.sampled_from([":ro", ":rw", ""]))


VOLUME_REQUESTS = st.lists(
    st.builds(
        a_volume_request,
        st.sampled_from(["datasets", "cache", "free"]),
        st.sampled_from([None, "/mnt/data", "/w"]),
    ),
    max_size=2,
    unique_by=lambda request: request.source,
)


@given(
    st.lists(TEXTS, max_size=4),
    VOLUME_REQUESTS,
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, "/workspace"]),
)
def test_whatever_is_asked_for_the_plan_is_sound(
    texts: list[str], volumes: list[MountRequest], automatic: bool, frozen: bool, workdir: str | None
) -> None:
    where = around(mounts=(ROOT, mounted("/mnt/data", DATASETS, read_only=frozen), CACHE_MOUNT))
    requests = [parse_mount(text, CONFIG) for text in texts]
    try:
        found = plan_mounts([*requests, *volumes], where, automatic=automatic, workdir=workdir)
    except RunctlError as error:
        assert error.hint
        return

    targets = [spec.target for spec in found.specs]
    assert len(set(targets)) == len(targets)
    assert [target.count("/") for target in targets] == sorted(target.count("/") for target in targets)
    for spec in found.specs:
        mount = next((item for item in where.mounted if item.volume_id == spec.volume_id), None)
        planned = next((entry for entry in found.attachments if entry.volume.id == spec.volume_id), None)
        assert (mount is None) != (planned is None)
        # Read-only is never widened: neither what was asked for, nor what the machine has.
        assert spec.read_only or not (mount.read_only if mount else planned and planned.read_only)
        point = mount.mount_point if mount else planned.mount_point if planned else ""
        assert spec.source == point or spec.source.startswith(point + "/")
    for request in requests:
        (spec,) = [spec for spec in found.specs if spec.target == request.target]
        assert spec.read_only == request.read_only
    if workdir is not None:
        assert not any(target == workdir or workdir.startswith(target + "/") for target in targets)
    points = [attachment.mount_point for attachment in found.attachments]
    assert not set(points) & {candidate.mount_point for candidate in where.mounted}
    if found.saves is not None:
        assert not found.saves.spec.read_only
