"""What runctl has in one region of EC2, Auto Scaling and ECR: each kind by the calls that list it with its tags."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import field
from datetime import datetime
from typing import Any

from runctl._dataclasses import dataclass
from runctl.core import tags as tag
from runctl.core.clock import parse_rfc3339
from runctl.providers.abilities.inventory import Resource, ResourceKind, Unread
from runctl.providers.aws.calls.filters import describe, has_tags
from runctl.providers.aws.calls.parse import tags_of, utc
from runctl.providers.aws.calls.session import AwsSession

OURS = {f"tag:{tag.OWNED}": [tag.OWNED_VALUE]}
_OWNED = {tag.OWNED: [tag.OWNED_VALUE]}
_GIB = 1 << 30
GROUP_TAG = "aws:autoscaling:groupName"
"""Auto Scaling sets it on the instances of a group."""
LIVE_STATES = ("pending", "running", "stopping", "stopped", "shutting-down")
REQUEST_STATES = ("open", "active", "disabled")
FLEET_STATES = frozenset({"submitted", "active", "modifying", "deleted-running"})


@dataclass(frozen=True)
class Found:
    """What reading one kind gave."""

    resources: tuple[Resource, ...]
    unread: tuple[Unread, ...] = field(default=())
    """Single resources whose tags could not be read."""


Read = Callable[[AwsSession], Found]


def resource(
    kind: ResourceKind, identifier: str, tags: Mapping[str, str], region: str | None, **more: Any
) -> Resource:
    """With what its tags say of it."""
    values: dict[str, Any] = {
        "name": tags.get(tag.NAME) or None,
        "zone": None,
        "state": "",
        "created_at": None,
        "size_bytes": None,
        **more,
    }
    return Resource(
        kind=kind,
        id=identifier,
        provider="aws",
        region=region,
        project=tags.get(tag.PROJECT) or None,
        owner=tags.get(tag.OWNER),
        tags=dict(tags),
        **values,
    )


def instances(session: AwsSession) -> Found:
    """DescribeInstances; those that have ended are not billed, and EC2 forgets them by itself."""
    filters = {**OURS, "instance-state-name": LIVE_STATES}
    items = describe(session.ec2, "describe_instances", filters, PaginationConfig={"PageSize": 1000})
    return Found(tuple(_instance(item, session.region) for item in items))


def _instance(item: Mapping[str, Any], region: str) -> Resource:
    tags = tags_of(item.get("Tags"))
    return resource(
        ResourceKind.INSTANCE,
        item["InstanceId"],
        tags,
        region,
        zone=item.get("Placement", {}).get("AvailabilityZone"),
        state=item["State"]["Name"],
        created_at=utc(item["LaunchTime"]) if item.get("LaunchTime") else None,
        ends_with=tags.get(GROUP_TAG),
        type=item["InstanceType"],
        source=item.get("IamInstanceProfile", {}).get("Arn", "").rpartition("/")[2] or None,
        market="spot" if item.get("InstanceLifecycle") == "spot" else "on-demand",
        helper_for=tags.get(tag.HELPER_FOR) or None,
    )


def volumes(session: AwsSession) -> Found:
    """DescribeVolumes."""
    items = describe(session.ec2, "describe_volumes", OURS, PaginationConfig={"PageSize": 500})
    return Found(
        tuple(_volume(item, session.region) for item in items if item["State"] not in {"deleting", "deleted"})
    )


def _volume(item: Mapping[str, Any], region: str) -> Resource:
    attachments = [each for each in item.get("Attachments", ()) if each.get("State") != "detached"]
    going = next((each["InstanceId"] for each in attachments if each.get("DeleteOnTermination")), None)
    return resource(
        ResourceKind.VOLUME,
        item["VolumeId"],
        tags_of(item.get("Tags")),
        region,
        zone=item["AvailabilityZone"],
        state=item["State"],
        created_at=_time(item, "CreateTime"),
        size_bytes=item["Size"] * _GIB,
        attached_to=tuple(each["InstanceId"] for each in attachments),
        ends_with=going,
        type=item.get("VolumeType"),
        iops=item.get("Iops"),
        throughput=item.get("Throughput"),
        source=item.get("SnapshotId") or None,
    )


def snapshots(session: AwsSession) -> Found:
    """DescribeSnapshots."""
    items = describe(
        session.ec2, "describe_snapshots", OURS, OwnerIds=["self"], PaginationConfig={"PageSize": 1000}
    )
    return Found(tuple(_snapshot(item, session.region) for item in items))


def _snapshot(item: Mapping[str, Any], region: str) -> Resource:
    full = item.get("FullSnapshotSizeInBytes")
    return resource(
        ResourceKind.SNAPSHOT,
        item["SnapshotId"],
        tags_of(item.get("Tags")),
        region,
        state=item["State"],
        created_at=_time(item, "StartTime"),
        size_bytes=item["VolumeSize"] * _GIB if full is None else full,
        source=item.get("VolumeId"),
        details="" if full is not None else "size of its volume: EC2 does not say how much is in it",
    )


def spot_requests(session: AwsSession) -> Found:
    """DescribeSpotInstanceRequests; those that ask for nothing any more cost nothing and go by themselves."""
    items = _pages(
        session.ec2,
        "describe_spot_instance_requests",
        "SpotInstanceRequests",
        Filters=_filters({**OURS, "state": REQUEST_STATES}),
    )
    return Found(
        tuple(
            resource(
                ResourceKind.SPOT_REQUEST,
                item["SpotInstanceRequestId"],
                tags_of(item.get("Tags")),
                session.region,
                zone=item.get("LaunchedAvailabilityZone"),
                state=item["State"],
                created_at=_time(item, "CreateTime"),
                attached_to=tuple(filter(None, [item.get("InstanceId")])),
                ends_with=item.get("InstanceId") or None,
            )
            for item in items
            if has_tags(item, _OWNED)
        )
    )


def fleets(session: AwsSession) -> Found:
    """DescribeFleets, which shows those that go on asking for instances; the instant ones hold nothing."""
    items = _pages(session.ec2, "describe_fleets", "Fleets")
    return Found(
        tuple(
            resource(
                ResourceKind.FLEET,
                item["FleetId"],
                tags_of(item.get("Tags")),
                session.region,
                state=item["FleetState"],
                created_at=_time(item, "CreateTime"),
            )
            for item in items
            if has_tags(item, _OWNED) and item.get("Type") != "instant" and item["FleetState"] in FLEET_STATES
        )
    )


def launch_templates(session: AwsSession) -> Found:
    """DescribeLaunchTemplates."""
    items = _pages(
        session.ec2, "describe_launch_templates", "LaunchTemplates", Filters=_filters(OURS), size=200
    )
    return Found(
        tuple(
            resource(
                ResourceKind.LAUNCH_TEMPLATE,
                item["LaunchTemplateId"],
                tags_of(item.get("Tags")),
                session.region,
                name=item["LaunchTemplateName"],
                created_at=_time(item, "CreateTime"),
            )
            for item in items
            if has_tags(item, _OWNED)
        )
    )


def groups(session: AwsSession) -> Found:
    """DescribeAutoScalingGroups. What a group's template is called is in `Resource.source`."""
    items = _pages(
        session.autoscaling,
        "describe_auto_scaling_groups",
        "AutoScalingGroups",
        Filters=_filters(OURS),
        size=100,
    )
    return Found(tuple(_group(item, session.region) for item in items if has_tags(item, _OWNED)))


def _group(item: Mapping[str, Any], region: str) -> Resource:
    policy = item.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {})
    template = item.get("LaunchTemplate") or policy.get("LaunchTemplateSpecification") or {}
    desired = item["DesiredCapacity"]
    return resource(
        ResourceKind.GROUP,
        item["AutoScalingGroupName"],
        tags_of(item.get("Tags")),
        region,
        name=item["AutoScalingGroupName"],
        state="deleting" if item.get("Status") else "active" if desired else "empty",
        created_at=_time(item, "CreatedTime"),
        source=template.get("LaunchTemplateId"),
        details=f"rents {desired} of at most {item['MaxSize']}",
    )


def key_pairs(session: AwsSession) -> Found:
    """DescribeKeyPairs."""
    items: Any = session.ec2.describe_key_pairs(Filters=_filters(OURS))["KeyPairs"]
    return Found(
        tuple(
            resource(
                ResourceKind.KEY_PAIR,
                item["KeyPairId"],
                tags_of(item.get("Tags")),
                session.region,
                name=item.get("KeyName"),
                created_at=_time(item, "CreateTime"),
            )
            for item in items
            if has_tags(item, _OWNED)
        )
    )


def security_groups(session: AwsSession) -> Found:
    """DescribeSecurityGroups; only our tag says since when one exists."""
    items = _pages(
        session.ec2, "describe_security_groups", "SecurityGroups", Filters=_filters(OURS), size=1000
    )
    return Found(tuple(_security_group(item, session.region) for item in items if has_tags(item, _OWNED)))


def _security_group(item: Mapping[str, Any], region: str) -> Resource:
    return resource(
        ResourceKind.SECURITY_GROUP,
        item["GroupId"],
        tags_of(item.get("Tags")),
        region,
        name=item.get("GroupName"),
        created_at=_tagged_time(item),
    )


def placement_groups(session: AwsSession) -> Found:
    """DescribePlacementGroups."""
    items: Any = session.ec2.describe_placement_groups(Filters=_filters(OURS))["PlacementGroups"]
    return Found(
        tuple(
            resource(
                ResourceKind.PLACEMENT_GROUP,
                item["GroupName"],
                tags_of(item.get("Tags")),
                session.region,
                name=item["GroupName"],
                state=item.get("State", ""),
                created_at=_tagged_time(item),
            )
            for item in items
            if has_tags(item, _OWNED)
        )
    )


def foreign(session: AwsSession, identifier: str) -> Resource | None:
    """What has this id and was not made by runctl; what ends, or belongs to a group, stays whose it is."""
    readers: Mapping[str, tuple[str, str, Callable[[Mapping[str, Any], str], Resource]]] = {
        "i-": ("describe_instances", "instance-id", _instance),
        "vol-": ("describe_volumes", "volume-id", _volume),
        "snap-": ("describe_snapshots", "snapshot-id", _snapshot),
    }
    found: list[Resource] = []
    for prefix, (operation, name, read) in readers.items():
        if identifier.startswith(prefix):
            own = {"OwnerIds": ["self"]} if prefix == "snap-" else {}
            found = [
                read(item, session.region)
                for item in describe(session.ec2, operation, {name: [identifier]}, **own)
            ]
    if identifier.startswith("sg-"):
        pages = _pages(
            session.ec2,
            "describe_security_groups",
            "SecurityGroups",
            Filters=_filters({"group-id": [identifier]}),
        )
        found = [_security_group(item, session.region) for item in pages]
    ended = {"shutting-down", "terminated", "deleting", "deleted"}
    left = (each for each in found if each.state not in ended and each.ends_with is None)
    return next((each for each in left if not tag.is_ours(each.tags)), None)


KINDS: Mapping[ResourceKind, tuple[str, Read]] = {
    ResourceKind.INSTANCE: ("instances", instances),
    ResourceKind.VOLUME: ("volumes", volumes),
    ResourceKind.SNAPSHOT: ("snapshots", snapshots),
    ResourceKind.SPOT_REQUEST: ("spot requests", spot_requests),
    ResourceKind.FLEET: ("fleets", fleets),
    ResourceKind.LAUNCH_TEMPLATE: ("launch templates", launch_templates),
    ResourceKind.GROUP: ("instance groups", groups),
    ResourceKind.KEY_PAIR: ("key pairs", key_pairs),
    ResourceKind.SECURITY_GROUP: ("security groups", security_groups),
    ResourceKind.PLACEMENT_GROUP: ("placement groups", placement_groups),
}
"""What is read in each region, with what a person calls it."""


def _filters(wanted: Mapping[str, Any]) -> Any:
    return [{"Name": name, "Values": list(values)} for name, values in wanted.items()]


def _pages(
    client: Any, operation: str, key: str, *, size: int | None = None, **arguments: Any
) -> Iterator[Mapping[str, Any]]:
    if size is not None:
        arguments["PaginationConfig"] = {"PageSize": size}
    for page in client.get_paginator(operation).paginate(**arguments):
        yield from page[key]


def _tagged_time(item: Mapping[str, Any]) -> datetime | None:
    with suppress(ValueError):
        return parse_rfc3339(tags_of(item.get("Tags")).get(tag.CREATED_AT, ""))
    return None


def _time(item: Mapping[str, Any], key: str) -> datetime | None:
    return utc(item[key]) if item.get(key) else None
