"""Everything that runctl has made in an account is listed with its tags, and removed only while it is ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from runctl.core import tags as tag
from runctl.core.errors import Conflict, CredentialsError, PermissionDenied
from runctl.providers.abilities.inventory import Listing, Resource, ResourceKind
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.iam.roles import DEFAULT_PROFILE, reach_policy, trust_policy
from runctl.providers.aws.inventory.account import folder_of
from runctl.providers.aws.inventory.inventory import AwsInventory, used_by
from runctl.providers.aws.inventory.regional import resource as made
from tests.aws_fixtures import REGION, Refuse

OTHER = "eu-west-1"
REGIONS = (REGION, OTHER)
OURS = {tag.OWNED: tag.OWNED_VALUE, tag.OWNER: "ada", tag.NAME: "data"}
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
K = ResourceKind


@pytest.fixture
def inventory(provider: AwsProvider) -> AwsInventory:
    return provider.inventory


def listed(inventory: AwsInventory, **more: Any) -> dict[K, list[Resource]]:
    found: dict[K, list[Resource]] = {}
    listing = inventory.list(regions=REGIONS, **more)
    assert listing.unread == ()
    for each in listing.resources:
        found.setdefault(each.kind, []).append(each)
    return found


def pairs(tags: dict[str, str]) -> Any:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def specification(kind: str, tags: dict[str, str]) -> Any:
    return [{"ResourceType": kind, "Tags": pairs(tags)}] if tags else []


def a_volume(session: AwsSession, tags: dict[str, str], region: str = REGION) -> str:
    ec2 = session.ec2 if region == REGION else session.in_region(region).ec2
    made = ec2.create_volume(
        AvailabilityZone=f"{region}a", Size=1, TagSpecifications=specification("volume", tags)
    )
    return made["VolumeId"]


def a_machine(session: AwsSession, tags: dict[str, str], **more: Any) -> str:
    both = [*specification("instance", tags), *specification("volume", tags)]
    made = session.ec2.run_instances(
        ImageId="ami-12c6146b",
        InstanceType="m5.large",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=both,
        **more,
    )
    return made["Instances"][0]["InstanceId"]


def a_role(session: AwsSession, name: str, tags: dict[str, str]) -> None:
    session.iam.create_role(
        RoleName=name, AssumeRolePolicyDocument=json.dumps(trust_policy()), Tags=pairs(tags)
    )
    session.iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps(reach_policy()))
    session.iam.create_instance_profile(InstanceProfileName=name, Tags=pairs(tags))
    session.iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)


def a_bucket(session: AwsSession, name: str, tags: dict[str, str]) -> None:
    session.s3.create_bucket(Bucket=name)
    if tags:
        session.s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": pairs(tags)})


def a_repository(session: AwsSession, name: str, tags: dict[str, str]) -> None:
    session.ecr.create_repository(repositoryName=name, tags=pairs(tags))
    media = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": media,
        "config": {"digest": f"sha256:{'0' * 64}", "size": 7},
        "layers": [],
    }
    session.ecr.put_image(repositoryName=name, imageManifest=json.dumps(manifest), imageTag="v1")


def everything(session: AwsSession, tags: dict[str, str]) -> None:
    """One of each kind, with these tags."""
    volume = a_volume(session, tags)
    session.ec2.create_snapshot(VolumeId=volume, TagSpecifications=specification("snapshot", tags))
    a_machine(session, tags)
    session.ec2.create_launch_template(
        LaunchTemplateName="runctl-fleet-1",
        LaunchTemplateData={"InstanceType": "m5.large"},
        TagSpecifications=specification("launch-template", tags),
    )
    session.ec2.create_key_pair(KeyName="runctl", TagSpecifications=specification("key-pair", tags))
    session.ec2.create_security_group(
        GroupName="runctl", Description="x", TagSpecifications=specification("security-group", tags)
    )
    a_role(session, "runctl-writes-1", tags)
    a_repository(session, "runctl/digits", tags)
    a_bucket(session, "runctl-staging-1", tags)
    session.s3.put_object(Bucket="runctl-staging-1", Key="staging/i-1/c/in", Body=b"12345")
    session.s3.create_multipart_upload(Bucket="runctl-staging-1", Key="staging/i-1/d/in")


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


def _in_order(listing: Listing) -> list[Resource]:
    last = [K.BUCKET, K.REPOSITORY, K.ROLE, K.SECURITY_GROUP]
    return sorted(listing.resources, key=lambda each: (each.kind in last, each.kind is not K.INSTANCE))


def test_everything_that_is_listed_can_be_removed_and_is_seen_to_be_gone(
    session: AwsSession, inventory: AwsInventory
) -> None:
    everything(session, OURS)
    resources = _in_order(inventory.list(regions=[REGION]))

    for resource in resources:
        inventory.remove(resource)

    assert [each for each in resources if not inventory.is_gone(each)] == []
    assert inventory.list(regions=[REGION]).resources == ()
    # Again, it is fine.
    for resource in resources:
        inventory.remove(resource)


def test_what_lost_our_tag_since_it_was_listed_is_left_alone(
    session: AwsSession, inventory: AwsInventory
) -> None:
    volume = a_volume(session, OURS)
    (resource,) = inventory.list(regions=[REGION]).resources
    changes: Sequence[Callable[[], Any]] = (
        lambda: session.ec2.delete_tags(Resources=[volume], Tags=[{"Key": tag.OWNED}]),
        lambda: session.ec2.create_tags(
            Resources=[volume], Tags=pairs({tag.OWNED: "true", tag.OWNER: "bob"})
        ),
        lambda: session.ec2.create_tags(
            Resources=[volume], Tags=pairs({tag.OWNER: "ada", tag.PERSISTENT: "true"})
        ),
    )

    for change, code in zip(changes, ("not-ours", "not-yours", "protected"), strict=True):
        change()
        with pytest.raises((PermissionDenied, Conflict)) as refused:
            inventory.remove(resource)
        assert refused.value.code == code

    assert session.ec2.describe_volumes(VolumeIds=[volume])["Volumes"]


def test_what_is_taken_over_has_the_caller_as_its_owner(session: AwsSession, inventory: AwsInventory) -> None:
    theirs = a_volume(session, {**OURS, tag.OWNER: "bob"})
    foreign = a_volume(session, {tag.OWNER: "bob"})
    (resource,) = listed(inventory)[K.VOLUME]

    inventory.take_over(resource)
    with pytest.raises(PermissionDenied):
        inventory.take_over(replace(resource, id=foreign))

    (taken,) = listed(inventory)[K.VOLUME]
    assert (taken.id, taken.owner) == (theirs, inventory.user())


def test_a_profile_that_somebody_elses_machine_has_is_left(
    session: AwsSession, inventory: AwsInventory, provider: AwsProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_role(session, "runctl-writes-1", OURS)
    machine = a_machine(session, {}, IamInstanceProfile={"Name": "runctl-writes-1"})
    profile = next(
        each for each in inventory.list(regions=[REGION]).resources if each.kind is K.INSTANCE_PROFILE
    )
    # It is not ours, and so in no list.
    assert profile.attached_to == ()
    monkeypatch.setattr(inventory, "_used_regions", lambda: ((REGION,), ()))

    with pytest.raises(Conflict, match=machine):
        inventory.remove(profile)

    assert not inventory.is_gone(profile)


def test_a_role_that_its_profile_carries_keeps_its_rights(
    session: AwsSession, inventory: AwsInventory
) -> None:
    a_role(session, "runctl-writes-1", OURS)
    role = next(each for each in inventory.list(regions=[REGION]).resources if each.kind is K.ROLE)

    with pytest.raises(Conflict, match="instance profile"):
        inventory.remove(role)

    assert session.iam.list_role_policies(RoleName="runctl-writes-1")["PolicyNames"] == ["own"]


def test_the_protection_from_termination_is_known(session: AwsSession, inventory: AwsInventory) -> None:
    a_machine(session, OURS)
    protected = a_machine(session, OURS)
    session.ec2.modify_instance_attribute(InstanceId=protected, DisableApiTermination={"Value": True})
    machines = listed(inventory)[K.INSTANCE]

    assert [each.id for each in machines if inventory.protection(each)] == [protected]


def test_machines_are_stopped_and_spot_machines_are_not(session: AwsSession, inventory: AwsInventory) -> None:
    a_machine(session, OURS)
    (machine,) = listed(inventory)[K.INSTANCE]

    with pytest.raises(Conflict, match="spot"):
        inventory.stop(replace(machine, market="spot"))
    inventory.stop(machine)

    assert inventory.is_stopped(machine)


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
