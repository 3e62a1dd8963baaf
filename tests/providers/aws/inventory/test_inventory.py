"""Everything that runctl has made in an account is listed with its tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from runctl.core import tags as tag
from runctl.core.errors import CredentialsError
from runctl.providers.abilities.inventory import Resource
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.iam.roles import DEFAULT_PROFILE
from runctl.providers.aws.inventory.account import folder_of
from runctl.providers.aws.inventory.inventory import AwsInventory, used_by
from runctl.providers.aws.inventory.regional import resource as made
from tests.aws_fixtures import REGION, Refuse
from tests.providers.aws.inventory.sample_resources import (
    OTHER,
    OURS,
    REGIONS,
    K,
    a_bucket,
    a_machine,
    a_volume,
    everything,
    listed,
    pairs,
)

LOOKS_ALIKE: Sequence[dict[str, str]] = (
    {},
    {"runctl:managed": "false"},
    {"runctl:managed": "True"},
    {"runctl:managed": ""},
    {"Runctl:managed": "true"},
    {"runctl:managed-by": "true"},
    {"runctl": "true", "managed": "true"},
    {"Name": "runctl", "runctl:owner": "ada"},
)
"""Tags that are not ours, however much they look like it."""


def test_every_kind_is_listed_with_what_its_tags_say(session: AwsSession, inventory: AwsInventory) -> None:
    everything(session, OURS)

    found = listed(inventory)

    assert {kind: len(each) for kind, each in found.items()} == {
        K.INSTANCE: 1,
        # One of them is the machine's own disk.
        K.VOLUME: 2,
        K.SNAPSHOT: 1,
        K.LAUNCH_TEMPLATE: 1,
        K.KEY_PAIR: 1,
        K.SECURITY_GROUP: 1,
        K.ROLE: 1,
        K.INSTANCE_PROFILE: 1,
        K.REPOSITORY: 1,
        K.IMAGE: 1,
        K.BUCKET: 1,
        K.OBJECTS: 1,
        K.UPLOAD: 1,
    }
    assert {each.owner for several in found.values() for each in several} == {"ada"}
    machine = found[K.INSTANCE][0]
    disk = next(each for each in found[K.VOLUME] if each.attached_to)
    assert disk.attached_to == (machine.id,)
    (role,), (profile,) = found[K.ROLE], found[K.INSTANCE_PROFILE]
    assert (role.attached_to, profile.source, role.region) == (("runctl-writes-1",), "runctl-writes-1", None)
    (image,), (repository,) = found[K.IMAGE], found[K.REPOSITORY]
    assert repository.attached_to == (image.id,)
    session.ec2.associate_iam_instance_profile(
        InstanceId=machine.id, IamInstanceProfile={"Name": "runctl-writes-1"}
    )
    assert machine.id in next(iter(listed(inventory)[K.INSTANCE_PROFILE])).attached_to
    (objects,), (upload,), (bucket,) = found[K.OBJECTS], found[K.UPLOAD], found[K.BUCKET]
    assert (objects.state, objects.size_bytes) == ("staged", 5)
    assert set(bucket.attached_to) == {objects.id, upload.id}


@pytest.mark.parametrize("tags", LOOKS_ALIKE, ids=str)
def test_what_only_looks_like_ours_is_not_listed(
    session: AwsSession, inventory: AwsInventory, tags: dict[str, str]
) -> None:
    everything(session, tags)

    assert listed(inventory) == {}


def test_other_regions_are_asked_too(session: AwsSession, inventory: AwsInventory) -> None:
    here, there = a_volume(session, OURS), a_volume(session, OURS, OTHER)

    (volumes,) = listed(inventory).values()

    assert {(each.id, each.region) for each in volumes} == {(here, REGION), (there, OTHER)}


def test_what_has_ended_is_not_listed(session: AwsSession, inventory: AwsInventory) -> None:
    machine = a_machine(session, OURS)
    session.ec2.terminate_instances(InstanceIds=[machine])

    assert listed(inventory) == {}


def test_a_kind_that_may_not_be_read_is_said(
    session: AwsSession, inventory: AwsInventory, refuse: Refuse
) -> None:
    volume = a_volume(session, OURS)
    refuse(session.ec2, "DescribeSnapshots", "UnauthorizedOperation")
    refuse(session.iam, "ListRoles", "AccessDenied")

    found = inventory.list(regions=[REGION])

    assert [each.id for each in found.resources] == [volume]
    assert [(each.region, each.what, each.code) for each in found.unread] == [
        (None, "roles", "permission"),
        (REGION, "snapshots", "permission"),
    ]
    assert "DescribeSnapshots" in found.unread[1].reason
    assert [each.kinds for each in found.unread] == [(K.INSTANCE_PROFILE, K.ROLE), (K.SNAPSHOT,)]


def test_tags_that_may_not_be_read_are_not_taken_for_none(
    session: AwsSession, inventory: AwsInventory, refuse: Refuse
) -> None:
    everything(session, OURS)
    refuse(session.iam, "GetRole", "AccessDenied")
    refuse(session.ecr, "ListTagsForResource", "AccessDeniedException")
    refuse(session.s3, "GetBucketTagging", "AccessDenied")

    unread = inventory.list(regions=[REGION]).unread

    told = ", ".join(each.what for each in unread)
    assert "role runctl-writes-1" in told
    assert "bucket runctl-staging-1" in told
    assert "image repository runctl/digits" in told


def test_a_dead_region_is_said_once_and_the_others_are_listed(
    session: AwsSession, inventory: AwsInventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = a_volume(session, OURS)
    dead = inventory.session_in(OTHER)
    for name in ("ec2", "ecr", "autoscaling"):
        dead._client(name).meta.events.register("before-send.*.*", _nobody_answers)

    found = inventory.list(regions=REGIONS)

    assert [each.id for each in found.resources] == [volume]
    (unread,) = found.unread
    assert (unread.region, unread.code) == (OTHER, "unreachable")
    assert {"instances", "volumes", "snapshots", "images"} <= set(unread.what.split(", "))
    assert {K.INSTANCE, K.VOLUME, K.GROUP, K.IMAGE, K.REPOSITORY} <= set(unread.kinds)


def _nobody_answers(**_: Any) -> None:
    from botocore.exceptions import EndpointConnectionError

    raise EndpointConnectionError(endpoint_url="https://ec2.eu-west-1.amazonaws.com")


def test_throttling_that_does_not_end_is_said(
    session: AwsSession, inventory: AwsInventory, refuse: Refuse
) -> None:
    refuse(session.ec2, "DescribeVolumes", "RequestLimitExceeded")

    (unread,) = inventory.list(regions=[REGION]).unread

    assert (unread.what, unread.code) == ("volumes", "throttled")


def test_regions_that_cannot_be_listed_are_said(
    session: AwsSession, inventory: AwsInventory, refuse: Refuse
) -> None:
    volume = a_volume(session, OURS)
    refuse(session.ec2, "DescribeRegions", "UnauthorizedOperation")

    found = inventory.list()

    assert [each.id for each in found.resources] == [volume]
    assert [each.what for each in found.unread] == [f"every region but {REGION}"]


def test_nobody_is_told_an_empty_list_for_expired_credentials(
    session: AwsSession, inventory: AwsInventory, refuse: Refuse
) -> None:
    refuse(session.ec2, "DescribeVolumes", "ExpiredToken")

    with pytest.raises(CredentialsError):
        inventory.list(regions=[REGION])


def test_a_runs_own_folder_in_a_bucket_of_the_users_is_one_resource(
    session: AwsSession, inventory: AwsInventory
) -> None:
    a_bucket(session, "mine", {})
    run = "run-0123456789"
    for key in (f"work/{run}/data/1", f"work/{run}/data/2", f"work/{run}0/data/1", "work/other"):
        session.s3.put_object(Bucket="mine", Key=key, Body=b"123")
    session.s3.create_multipart_upload(Bucket="mine", Key=f"work/{run}/data/3")
    session.s3.create_multipart_upload(Bucket="mine", Key="work/theirs")

    found = listed(inventory, stores={f"s3://mine/work/{run}": run})

    (objects,), (upload,) = found[K.OBJECTS], found[K.UPLOAD]
    assert (objects.id, objects.size_bytes, objects.name) == (f"s3://mine/work/{run}/", 6, run)
    assert upload.id.startswith(f"s3://mine/work/{run}/data/3?uploadId=")
    inventory.remove(objects)
    inventory.remove(upload)
    assert inventory.is_gone(objects)
    assert inventory.is_gone(upload)
    left = [item["Key"] for item in session.s3.list_objects_v2(Bucket="mine")["Contents"]]
    assert sorted(left) == ["work/other", f"work/{run}0/data/1"]
    assert len(session.s3.list_multipart_uploads(Bucket="mine")["Uploads"]) == 1


def test_a_runs_own_folder_in_a_bucket_of_ours_is_listed_once(
    session: AwsSession, inventory: AwsInventory
) -> None:
    a_bucket(session, "runctl-runs", {tag.OWNED: tag.OWNED_VALUE})
    run = "run-0123456789"
    session.s3.put_object(Bucket="runctl-runs", Key=f"runs/{run}/data/1", Body=b"123")

    (objects,) = listed(inventory, stores={f"s3://runctl-runs/runs/{run}": run})[K.OBJECTS]

    assert (objects.id, objects.size_bytes) == (f"s3://runctl-runs/runs/{run}/", 3)


def test_an_address_that_does_not_end_in_the_run_is_not_looked_at(
    session: AwsSession, inventory: AwsInventory
) -> None:
    a_bucket(session, "mine", {})
    session.s3.put_object(Bucket="mine", Key="work/other", Body=b"123")

    assert listed(inventory, stores={"s3://mine/work": "run-0123456789"}) == {}


@pytest.mark.parametrize(
    ("key", "folder"),
    [
        ("staging/i-1/c/in", "staging/i-1/c/in"),
        ("run-0123456789/data/1", "run-0123456789/"),
        ("a/b/run-0123456789/data/1", "a/b/run-0123456789/"),
        ("a/b/c", "a/"),
        ("a", "a"),
    ],
)
def test_objects_are_shown_by_the_folder_that_belongs_together(key: str, folder: str) -> None:
    assert folder_of(key) == folder


def test_the_protection_from_termination_is_known(session: AwsSession, inventory: AwsInventory) -> None:
    a_machine(session, OURS)
    protected = a_machine(session, OURS)
    session.ec2.modify_instance_attribute(InstanceId=protected, DisableApiTermination={"Value": True})
    machines = listed(inventory)[K.INSTANCE]

    assert [each.id for each in machines if inventory.protection(each)] == [protected]


def test_the_role_that_every_machine_has_is_listed_where_runctl_made_it(
    session: AwsSession, inventory: AwsInventory
) -> None:
    assert listed(inventory) == {}
    session.iam.tag_role(RoleName=DEFAULT_PROFILE, Tags=pairs({tag.OWNED: "true"}))

    (role,) = listed(inventory)[K.ROLE]

    assert (role.id, role.owner) == (DEFAULT_PROFILE, None)


def test_a_group_without_a_machine_uses_the_network_that_its_next_ones_are_rented_into() -> None:
    def of(kind: K, identifier: str, token: str) -> Resource:
        return made(kind, identifier, {tag.INTENT: token}, REGION)

    own, placement = of(K.SECURITY_GROUP, "sg-1", "one"), of(K.PLACEMENT_GROUP, "close", "one")
    other = of(K.SECURITY_GROUP, "sg-2", "two")
    found = {
        each.id: each.attached_to for each in used_by([own, placement, other, of(K.GROUP, "runs", "one")])
    }
    assert found == {"sg-1": ("runs",), "close": ("runs",), "sg-2": (), "runs": ()}
