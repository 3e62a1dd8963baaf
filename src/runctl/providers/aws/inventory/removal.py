"""One resource is looked at once more, and removed if it is still ours: a table of how, by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runctl._dataclasses import dataclass
from runctl.core import tags as tag
from runctl.core.errors import Conflict, NotFound, PermissionDenied, RunctlError
from runctl.providers.abilities.inventory import Resource, ResourceKind
from runctl.providers.aws.calls.errors import error_code, our_errors
from runctl.providers.aws.calls.filters import describe
from runctl.providers.aws.calls.parse import tag_list, tags_of
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.inventory.account import bucket_tags

Sessions = Callable[[], Sequence[AwsSession]]
_BATCH = 1000
"""Keys that one DeleteObjects takes."""


@dataclass(frozen=True)
class Seen:
    """A resource that exists."""

    tags: Mapping[str, str]
    state: str = ""


@dataclass(frozen=True)
class _Way:
    find: Callable[[AwsSession, Resource], Seen | None]
    """``None``: it does not exist any more, and is not billed."""
    remove: Callable[[AwsSession, Resource], None]


def find(session: AwsSession, resource: Resource) -> Seen | None:
    """It as it is now. ``None``: it does not exist any more, and is not billed."""
    try:
        with our_errors(session.endpoint):
            return _WAYS[resource.kind].find(session, resource)
    except NotFound:
        return None


def state(session: AwsSession, resource: Resource) -> str | None:
    """The state that it is in now; ``None``: it is gone."""
    seen = find(session, resource)
    return None if seen is None else seen.state


def remove(session: AwsSession, resource: Resource, all_sessions: Sessions) -> None:
    """See `runctl.providers.abilities.inventory.Inventory.remove`; ``all_sessions`` are those of all regions."""
    seen = find(session, resource)
    if seen is None:
        return
    _check_ours(resource, seen)
    if resource.kind is ResourceKind.INSTANCE_PROFILE:
        _check_unused(resource, all_sessions())
    try:
        with our_errors(session.endpoint):
            _WAYS[resource.kind].remove(session, resource)
    except NotFound:
        return


def stop(session: AwsSession, resource: Resource) -> None:
    """StopInstances, for what is ours and runs. Raises `Conflict` for what can only be ended."""
    seen = find(session, resource)
    if seen is None or seen.state in {"stopping", "stopped"}:
        return
    _check_ours(resource, seen)
    if resource.market == "spot":
        raise Conflict(f"{resource.id} is a one-time spot instance, which cannot be stopped")
    with our_errors(session.endpoint):
        session.ec2.stop_instances(InstanceIds=[resource.id])


def take_over(session: AwsSession, resource: Resource, user: str) -> None:
    """Its tags say so. Raises `NotFound`, and `PermissionDenied` for what is not runctl's any more."""
    seen = find(session, resource)
    if seen is None:
        raise NotFound(f"{resource.label} does not exist any more")
    if tag.is_ours(resource.tags) and not tag.is_ours(seen.tags):
        raise PermissionDenied(f"{resource.label} no longer has runctl's tag", code="not-ours")
    with our_errors(session.endpoint):
        if resource.kind is ResourceKind.GROUP:
            owner = {"Key": tag.OWNER, "Value": user, "PropagateAtLaunch": True}
            session.autoscaling.create_or_update_tags(
                Tags=[{"ResourceId": resource.id, "ResourceType": "auto-scaling-group", **owner}]
            )
        else:
            tags: Any = tag_list({tag.OWNED: tag.OWNED_VALUE, tag.OWNER: user})
            session.ec2.create_tags(Resources=[resource.id], Tags=tags)


def _check_ours(resource: Resource, seen: Seen) -> None:
    if not tag.is_ours(seen.tags):
        raise PermissionDenied(
            f"{resource.id} no longer has runctl's tag, and is left alone", code="not-ours"
        )
    if seen.tags.get(tag.OWNER) != resource.tags.get(tag.OWNER):
        raise PermissionDenied(
            f"{resource.id} belongs to {seen.tags.get(tag.OWNER)} now, and is left alone", code="not-yours"
        )
    if seen.tags.get(tag.PERSISTENT) == "true":
        raise Conflict(f"{resource.id} is persistent now, and is left alone", code="protected")


def _check_unused(resource: Resource, sessions: Sequence[AwsSession]) -> None:
    """An instance without its profile can neither be reached nor hand over its volumes, whoever rented it."""
    account = sessions[0].identity
    arn = f"arn:{account.partition}:iam::{account.account}:instance-profile/{resource.id}"
    alive = {"instance-state-name": ["pending", "running", "stopping", "stopped"]}
    for session in sessions:
        with our_errors(session.endpoint):
            found = describe(session.ec2, "describe_instances", alive)
        users = [each["InstanceId"] for each in found if each.get("IamInstanceProfile", {}).get("Arn") == arn]
        if users:
            raise Conflict(
                f"{resource.id} is used by {', '.join(users)} in {session.region}", code="profile-in-use"
            )


def _described(
    call: Callable[[], Any], key: str, state_of: Callable[[Any], str] = lambda _: ""
) -> Seen | None:
    items = call()[key]
    return Seen(tags_of(items[0].get("Tags")), state_of(items[0])) if items else None


def _unless_over(seen: Seen | None, *over: str) -> Seen | None:
    return None if seen is None or seen.state in over else seen


def _instance(session: AwsSession, resource: Resource) -> Seen | None:
    found: Any = session.ec2.describe_instances(InstanceIds=[resource.id])["Reservations"]
    items = [item for each in found for item in each["Instances"]]
    if not items:
        return None
    return _unless_over(Seen(tags_of(items[0].get("Tags")), items[0]["State"]["Name"]), "terminated")


def _volume(session: AwsSession, resource: Resource) -> Seen | None:
    seen = _described(
        lambda: session.ec2.describe_volumes(VolumeIds=[resource.id]), "Volumes", lambda item: item["State"]
    )
    return _unless_over(seen, "deleted")


def _snapshot(session: AwsSession, resource: Resource) -> Seen | None:
    return _described(lambda: session.ec2.describe_snapshots(SnapshotIds=[resource.id]), "Snapshots")


def _spot_request(session: AwsSession, resource: Resource) -> Seen | None:
    seen = _described(
        lambda: session.ec2.describe_spot_instance_requests(SpotInstanceRequestIds=[resource.id]),
        "SpotInstanceRequests",
        lambda item: item["State"],
    )
    return _unless_over(seen, "closed", "cancelled", "failed")


def _fleet(session: AwsSession, resource: Resource) -> Seen | None:
    seen = _described(
        lambda: session.ec2.describe_fleets(FleetIds=[resource.id]), "Fleets", lambda item: item["FleetState"]
    )
    return _unless_over(seen, "deleted", "failed", "deleted-terminating")


def _delete_fleet(session: AwsSession, resource: Resource) -> None:
    session.ec2.delete_fleets(FleetIds=[resource.id], TerminateInstances=True)


def _template(session: AwsSession, resource: Resource) -> Seen | None:
    return _described(
        lambda: session.ec2.describe_launch_templates(LaunchTemplateIds=[resource.id]), "LaunchTemplates"
    )


def _group(session: AwsSession, resource: Resource) -> Seen | None:
    return _described(
        lambda: session.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[resource.id]),
        "AutoScalingGroups",
    )


def _delete_group(session: AwsSession, resource: Resource) -> None:
    session.autoscaling.delete_auto_scaling_group(AutoScalingGroupName=resource.id, ForceDelete=True)


def _key_pair(session: AwsSession, resource: Resource) -> Seen | None:
    return _described(lambda: session.ec2.describe_key_pairs(KeyPairIds=[resource.id]), "KeyPairs")


def _security_group(session: AwsSession, resource: Resource) -> Seen | None:
    return _described(lambda: session.ec2.describe_security_groups(GroupIds=[resource.id]), "SecurityGroups")


def _placement_group(session: AwsSession, resource: Resource) -> Seen | None:
    try:
        return _described(
            lambda: session.ec2.describe_placement_groups(GroupNames=[resource.id]), "PlacementGroups"
        )
    except Exception as error:
        if error_code(error) == "InvalidPlacementGroup.Unknown":
            return None
        raise


def _repository(session: AwsSession, resource: Resource) -> Seen | None:
    name = resource.source or resource.id
    described = session.ecr.describe_repositories(repositoryNames=[name])["repositories"]
    answer = session.ecr.list_tags_for_resource(resourceArn=described[0]["repositoryArn"])
    return Seen(tags_of(answer["tags"]))  # type: ignore[arg-type]


def _image(session: AwsSession, resource: Resource) -> Seen | None:
    repository, _, digest = resource.id.rpartition("@")
    seen = _repository(session, resource)
    found = session.ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageDigest": digest}])
    return seen if found["images"] else None


def _delete_image(session: AwsSession, resource: Resource) -> None:
    repository, _, digest = resource.id.rpartition("@")
    answer = session.ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageDigest": digest}])
    refused = [each for each in answer.get("failures", ()) if each.get("failureCode") != "ImageNotFound"]
    if refused:
        raise Conflict(f"ECR did not delete {resource.id}: {refused[0].get('failureReason')}")


def _role(session: AwsSession, resource: Resource) -> Seen | None:
    return Seen(tags_of(session.iam.get_role(RoleName=resource.id)["Role"].get("Tags")))  # type: ignore[arg-type]


def _delete_role(session: AwsSession, resource: Resource) -> None:
    iam, name = session.iam, resource.id
    # Without its policies it gives no rights any more: none is taken while machines may have them.
    _check_uncarried(iam, name)
    for page in iam.get_paginator("list_role_policies").paginate(RoleName=name):
        for policy in page["PolicyNames"]:
            _unless_gone(lambda p=policy: iam.delete_role_policy(RoleName=name, PolicyName=p))  # type: ignore[misc]
    for attached in iam.get_paginator("list_attached_role_policies").paginate(RoleName=name):
        for item in attached["AttachedPolicies"]:
            _unless_gone(lambda i=item: iam.detach_role_policy(RoleName=name, PolicyArn=i["PolicyArn"]))  # type: ignore[misc]
    iam.delete_role(RoleName=name)


def _check_uncarried(iam: Any, name: str) -> None:
    """A role's own profile is called as the role is. IAM itself refuses only after the policies are gone."""
    try:
        profile = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    except Exception as error:
        if error_code(error) == "NoSuchEntity":
            return
        raise
    if any(role["RoleName"] == name for role in profile["Roles"]):
        raise Conflict(
            f"the role {name} is in the instance profile {name}, by which machines have its rights"
        )


def _profile(session: AwsSession, resource: Resource) -> Seen | None:
    found = session.iam.get_instance_profile(InstanceProfileName=resource.id)["InstanceProfile"]
    return Seen(tags_of(found.get("Tags")))  # type: ignore[arg-type]


def _delete_profile(session: AwsSession, resource: Resource) -> None:
    iam, name = session.iam, resource.id
    for role in iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]:
        _unless_gone(
            lambda r=role: iam.remove_role_from_instance_profile(  # type: ignore[misc]
                InstanceProfileName=name, RoleName=r["RoleName"]
            )
        )
    iam.delete_instance_profile(InstanceProfileName=name)


def _bucket(session: AwsSession, resource: Resource) -> Seen | None:
    return Seen(bucket_tags(session, resource.id))


def address_of(resource: Resource) -> tuple[str, str]:
    """Bucket and key, or prefix, of an object's address. Pure."""
    bucket, _, key = resource.id.removeprefix("s3://").partition("/")
    return bucket, key


def _objects(session: AwsSession, resource: Resource) -> Seen | None:
    bucket, key = address_of(resource)
    if not key.endswith("/"):
        session.s3.head_object(Bucket=bucket, Key=key)
        return Seen(bucket_tags(session, bucket))
    # A run's own folder: its name says whose it is.
    found = session.s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("KeyCount", 0)
    return Seen(resource.tags) if found else None


def _delete_objects(session: AwsSession, resource: Resource) -> None:
    bucket, key = address_of(resource)
    if not key.endswith("/"):
        session.s3.delete_object(Bucket=bucket, Key=key)
        return
    pages = session.s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=key, PaginationConfig={"PageSize": _BATCH}
    )
    for page in pages:
        keys: Any = [{"Key": item["Key"]} for item in page.get("Contents", ())]
        if keys:
            answer = session.s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
            errors = answer.get("Errors", ())
            if errors:
                raise RunctlError(
                    f"{len(errors)} objects of {resource.id} were not deleted: {errors[0].get('Message')}"
                )


def _upload(session: AwsSession, resource: Resource) -> Seen | None:
    bucket, key, upload = _upload_of(resource)
    session.s3.list_parts(Bucket=bucket, Key=key, UploadId=upload, MaxParts=1)
    return Seen(resource.tags)


def _abort(session: AwsSession, resource: Resource) -> None:
    bucket, key, upload = _upload_of(resource)
    session.s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)


def _upload_of(resource: Resource) -> tuple[str, str, str]:
    bucket, rest = address_of(resource)
    key, _, upload = rest.rpartition("?uploadId=")
    return bucket, key, upload


def _unless_gone(call: Callable[[], Any]) -> None:
    try:
        call()
    except Exception as error:
        if error_code(error) != "NoSuchEntity":
            raise


_WAYS: Mapping[ResourceKind, _Way] = {
    ResourceKind.GROUP: _Way(_group, _delete_group),
    ResourceKind.FLEET: _Way(_fleet, _delete_fleet),
    ResourceKind.SPOT_REQUEST: _Way(
        _spot_request, lambda s, r: _call(s.ec2.cancel_spot_instance_requests, SpotInstanceRequestIds=[r.id])
    ),
    ResourceKind.INSTANCE: _Way(_instance, lambda s, r: _call(s.ec2.terminate_instances, InstanceIds=[r.id])),
    ResourceKind.VOLUME: _Way(_volume, lambda s, r: _call(s.ec2.delete_volume, VolumeId=r.id)),
    ResourceKind.SNAPSHOT: _Way(_snapshot, lambda s, r: _call(s.ec2.delete_snapshot, SnapshotId=r.id)),
    ResourceKind.LAUNCH_TEMPLATE: _Way(
        _template, lambda s, r: _call(s.ec2.delete_launch_template, LaunchTemplateId=r.id)
    ),
    # Its id was just looked at; moto knows the call by the name alone.
    ResourceKind.KEY_PAIR: _Way(_key_pair, lambda s, r: _call(s.ec2.delete_key_pair, KeyName=r.name or r.id)),
    ResourceKind.SECURITY_GROUP: _Way(
        _security_group, lambda s, r: _call(s.ec2.delete_security_group, GroupId=r.id)
    ),
    ResourceKind.PLACEMENT_GROUP: _Way(
        _placement_group, lambda s, r: _call(s.ec2.delete_placement_group, GroupName=r.id)
    ),
    ResourceKind.IMAGE: _Way(_image, _delete_image),
    ResourceKind.REPOSITORY: _Way(
        _repository, lambda s, r: _call(s.ecr.delete_repository, repositoryName=r.id)
    ),
    ResourceKind.ROLE: _Way(_role, _delete_role),
    ResourceKind.INSTANCE_PROFILE: _Way(_profile, _delete_profile),
    ResourceKind.BUCKET: _Way(_bucket, lambda s, r: _call(s.s3.delete_bucket, Bucket=r.id)),
    ResourceKind.OBJECTS: _Way(_objects, _delete_objects),
    ResourceKind.UPLOAD: _Way(_upload, _abort),
}


def _call(call: Callable[..., Any], **arguments: Any) -> None:
    call(**arguments)
