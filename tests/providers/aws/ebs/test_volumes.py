"""Volumes are made, attached, detached and deleted as asked, and only ours are deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from runctl.core import tags as tag
from runctl.core.errors import Conflict, NotFound, PermissionDenied, Unreachable, UsageError, ZoneMismatch
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.machine_models import Instance, Volume, VolumeState
from runctl.providers.abilities.volume_plans import SnapshotRequest, VolumeRequest
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.parse import mounts_of, read_only_of
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.ebs.mounting import forget_mount, remember_mount
from runctl.providers.aws.ebs.volume_lookup import is_replayed, wait_created
from runctl.providers.instance_plans import InstanceRequest, VolumeMount
from runctl.testing.progress import RecordedProgress
from tests.aws_fixtures import Refuse


def make(provider: AwsProvider, **request: object) -> Volume:
    wanted = VolumeRequest(**{"size_gib": 1, "zone": "us-east-1a", **request})  # type: ignore[arg-type]
    return provider.volumes.create(provider.volumes.plan(wanted))


@pytest.fixture
def instance(provider: AwsProvider) -> Instance:
    return provider.renting.create(provider.renting.plan(InstanceRequest(zone="us-east-1a")))


def test_a_plan_fills_in_zone_performance_and_price(provider: AwsProvider) -> None:
    plan = provider.volumes.plan(VolumeRequest(10, name="datasets"))

    assert (plan.request.iops, plan.request.throughput) == (3000, 125)
    assert plan.request.zone is not None
    assert plan.request.zone.startswith("us-east-1")
    assert plan.price is not None
    assert "price list" in plan.price.source


def test_a_volume_has_what_was_asked_for(provider: AwsProvider) -> None:
    volume = make(
        provider, size_gib=20, iops=4000, throughput=500, name="fast", project="vision", persistent=True
    )

    assert (volume.size_gib, volume.iops, volume.throughput, volume.encrypted) == (20, 4000, 500, True)
    assert (volume.name, volume.zone, volume.persistent) == ("fast", "us-east-1a", True)
    assert volume.tags[tag.PROJECT] == "vision"
    assert tag.is_ours(volume.tags)


@pytest.mark.parametrize("name", ["", "vol-1", "/mnt/data", "a:b", "x" * 256])
def test_a_name_that_would_be_taken_for_something_else_is_refused(provider: AwsProvider, name: str) -> None:
    if name:
        with pytest.raises(UsageError):
            provider.volumes.plan(VolumeRequest(1, name=name))


def test_a_volume_says_whether_anything_can_be_on_it(provider: AwsProvider, instance: Instance) -> None:
    new = make(provider)
    snapshot = provider.snapshots.create(provider.snapshots.plan(SnapshotRequest(new.id)))
    assert new.tags[tag.UNUSED] == "true"
    restored = make(provider, size_gib=None, snapshot_id=snapshot.id)
    assert (restored.tags.get(tag.CREATED_FROM), restored.tags.get(tag.UNUSED)) == (snapshot.id, None)

    assert provider.volumes.attach(new.id, instance.id).tags[tag.UNUSED] == instance.id
    assert tag.UNUSED not in provider.volumes.detach(new.id).tags
    assert tag.UNUSED not in provider.volumes.attach(new.id, instance.id).tags


def test_what_happened_since_an_attachment_that_was_cut_short_is_not_known(
    provider: AwsProvider, instance: Instance, session: AwsSession
) -> None:
    volume = make(provider)
    session.ec2.create_tags(Resources=[volume.id], Tags=[{"Key": tag.UNUSED, "Value": instance.id}])

    assert tag.UNUSED not in provider.volumes.attach(volume.id, instance.id).tags


def test_a_detachment_that_was_cut_short_anywhere_does_not_come_back(
    provider: AwsProvider, instance: Instance, session: AwsSession, refuse: Refuse
) -> None:
    volume = make(provider)
    provider.volumes.attach(volume.id, instance.id)
    provider.volumes.remember_mount(volume.id, instance.id, "/mnt/data", read_only=False)
    refuse(session.ec2, "DetachVolume", "UnauthorizedOperation", times=1)
    with pytest.raises(PermissionDenied):
        provider.volumes.detach(volume.id)
    assert mounts_of(provider.instance(instance.id).tags) == {}

    provider.volumes.remember_mount(volume.id, instance.id, "/mnt/data", read_only=False)
    session.ec2.detach_volume(VolumeId=volume.id, InstanceId=instance.id)
    provider.volumes.detach(volume.id)
    assert mounts_of(provider.instance(instance.id).tags) == {}


def test_an_unknown_zone_names_the_known_ones(provider: AwsProvider) -> None:
    with pytest.raises(NotFound) as caught:
        provider.volumes.plan(VolumeRequest(1, zone="us-east-1z"))

    assert "us-east-1a" in caught.value.hint


def test_an_unknown_snapshot_is_not_found(provider: AwsProvider) -> None:
    with pytest.raises(NotFound):
        provider.volumes.plan(VolumeRequest(1, snapshot_id="snap-0123456789abcdef0"))


def test_a_volume_smaller_than_its_snapshot_is_refused(provider: AwsProvider, session: AwsSession) -> None:
    snapshot = session.ec2.create_snapshot(VolumeId=make(provider, size_gib=5).id)["SnapshotId"]

    with pytest.raises(UsageError, match="5 GiB"):
        provider.volumes.plan(VolumeRequest(4, snapshot_id=snapshot))


def test_two_volumes_of_one_name_must_be_told_apart_by_id(provider: AwsProvider, session: AwsSession) -> None:
    for _ in range(2):
        session.ec2.create_volume(
            AvailabilityZone="us-east-1a",
            Size=1,
            TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "twins"}]}],
        )

    with pytest.raises(Conflict) as caught:
        provider.volumes.find("twins")

    assert caught.value.code == "ambiguous-name"


def test_the_zone_of_volume_and_machine_must_be_the_same(provider: AwsProvider, instance: Instance) -> None:
    with pytest.raises(ZoneMismatch, match="us-east-1b"):
        provider.volumes.attach(make(provider, zone="us-east-1b").id, instance.id)


def test_a_volume_of_another_machine_is_not_taken_away(provider: AwsProvider, instance: Instance) -> None:
    volume = make(provider)
    provider.volumes.attach(volume.id, instance.id)
    other = provider.renting.create(provider.renting.plan(InstanceRequest(zone="us-east-1a")))

    with pytest.raises(Conflict, match=instance.id):
        provider.volumes.attach(volume.id, other.id)


def test_attaching_to_an_unknown_machine_is_not_found(provider: AwsProvider) -> None:
    with pytest.raises(NotFound):
        provider.volumes.attach(make(provider).id, InstanceId("i-0123456789abcdef0"))


def test_an_attached_volume_says_where_the_machine_finds_it(
    provider: AwsProvider, instance: Instance
) -> None:
    volume = provider.volumes.attach(make(provider).id, instance.id)

    assert volume.device == f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume.id.replace('-', '')}"


def test_a_root_disk_is_not_detached(provider: AwsProvider, instance: Instance) -> None:
    root = instance.volumes[0].volume_id

    with pytest.raises(Conflict) as caught:
        provider.volumes.detach(root)

    assert caught.value.code == "root-disk"


def test_a_machine_no_longer_expects_what_was_detached_from_it(provider: AwsProvider) -> None:
    volume = make(provider, name="datasets")
    plan = provider.renting.plan(InstanceRequest(volumes=(VolumeMount("datasets", "/mnt/data"),)))
    instance = provider.renting.create(plan)

    provider.volumes.detach(volume.id)

    assert mounts_of(provider.instance(instance.id).tags) == {}


def test_what_two_commands_mount_or_detach_at_once_is_remembered_of_both(provider: AwsProvider) -> None:
    launched = [make(provider, name=name) for name in ("one", "two")]
    mounts = tuple(VolumeMount(str(each.name), f"/mnt/{each.name}", True) for each in launched)
    before = provider.renting.create(provider.renting.plan(InstanceRequest(volumes=mounts)))
    later = [make(provider, zone=before.zone, name=name) for name in ("three", "four")]
    context = provider.volumes._context

    # Each of them has seen the machine as it was before the other one did anything.
    for each in later:
        remember_mount(context, each, before, f"/mnt/{each.name}", read_only=False)
    for each in launched:
        forget_mount(context, each, before)

    tags = provider.instance(before.id).tags
    assert mounts_of(tags) == {each.id: f"/mnt/{each.name}" for each in later}
    assert read_only_of(tags) == set()


def test_a_mount_made_later_is_remembered_on_both_sides(provider: AwsProvider, instance: Instance) -> None:
    volume = make(provider)
    provider.volumes.attach(volume.id, instance.id)

    provider.volumes.remember_mount(volume.id, instance.id, "/mnt/later", read_only=False)

    assert provider.volumes.find(volume.id).mount_point == "/mnt/later"
    mounted = {v.volume_id: v.mount_point for v in provider.instance(instance.id).volumes}
    assert mounted[volume.id] == "/mnt/later"


@pytest.mark.parametrize("launched_read_only", [True, False])
def test_whether_a_mount_is_read_only_is_remembered_until_it_is_mounted_otherwise(
    provider: AwsProvider, launched_read_only: bool
) -> None:
    volume = make(provider, name="shared")
    mounts = (VolumeMount("shared", "/mnt/shared", read_only=launched_read_only),)
    machine = provider.renting.create(provider.renting.plan(InstanceRequest(volumes=mounts)))

    for read_only in (True, False, True):
        provider.volumes.remember_mount(volume.id, machine.id, "/mnt/shared", read_only=read_only)
        tags = provider.instance(machine.id).tags
        assert mounts_of(tags) == {volume.id: "/mnt/shared"}
        assert (volume.id in read_only_of(tags)) is read_only


def test_others_volumes_keep_their_tags(
    provider: AwsProvider, session: AwsSession, instance: Instance
) -> None:
    theirs = VolumeId(session.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"])
    provider.volumes.attach(theirs, instance.id)

    provider.volumes.remember_mount(theirs, instance.id, "/mnt/theirs", read_only=False)

    assert provider.volumes.find(theirs).tags == {}


def test_others_volumes_are_not_deleted(provider: AwsProvider, session: AwsSession) -> None:
    theirs = VolumeId(session.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"])

    with pytest.raises(PermissionDenied) as caught:
        provider.volumes.delete(theirs)

    assert caught.value.code == "not-ours"
    assert provider.volumes.find(theirs).state is VolumeState.AVAILABLE


def test_others_volumes_are_listed_only_when_asked_for(provider: AwsProvider, session: AwsSession) -> None:
    theirs = session.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
    ours = make(provider).id

    assert {volume.id for volume in provider.volumes.list()} == {ours}
    assert {volume.id for volume in provider.volumes.list(everyone=True)} == {ours, theirs}


def test_a_detachment_that_never_ends_says_what_keeps_it(
    provider: AwsProvider, session: AwsSession, instance: Instance, refuse: Refuse
) -> None:
    volume = make(provider)
    provider.volumes.attach(volume.id, instance.id)
    refuse(session.ec2, "DetachVolume", "IncorrectState", "is being detached")

    with pytest.raises(Unreachable, match="in-use") as caught:
        provider.volumes.detach(volume.id)

    assert "--force" in caught.value.hint


CREATED = datetime(2026, 5, 1, 12, 0, 0, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("answered_at", "created_at", "replayed"),
    [
        ("Fri, 01 May 2026 12:00:00 GMT", CREATED, False),
        ("Fri, 01 May 2026 12:00:02 GMT", CREATED, False),
        ("Fri, 01 May 2026 12:01:00 GMT", CREATED, True),
        ("Fri, 01 May 2026 12:01:00 GMT", None, False),
        ("", CREATED, False),
    ],
)
def test_which_answer_is_that_of_an_earlier_call(
    answered_at: str, created_at: datetime | None, replayed: bool
) -> None:
    assert is_replayed(answered_at, created_at) is replayed


def test_a_volume_that_an_earlier_call_made_and_is_gone_is_not_waited_for(
    provider: AwsProvider, session: AwsSession, progress: RecordedProgress
) -> None:
    created = session.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)
    session.ec2.delete_volume(VolumeId=created["VolumeId"])

    with pytest.raises(Conflict, match=created["VolumeId"]) as caught:
        wait_created(
            provider._context, created, replayed=True, timeout=timedelta(minutes=5), progress=progress
        )

    assert caught.value.code == "token-spent"
