"""The ability to write what runctl has in an account as Terraform's configuration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from runctl.core.errors import NotFound, RunctlError
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.inventory import Resource, ResourceKind, Unread
from runctl.providers.abilities.terraform import LeftOut, TerraformExport, TerraformModule, TerraformResource
from runctl.providers.aws.calls.errors import our_errors
from runctl.providers.aws.calls.filters import describe
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.inventory.regional import GROUP_TAG
from runctl.providers.aws.terraform import groups, machines, network, rights, storage
from runctl.providers.aws.terraform.names import TYPES, Names

SOURCE, VERSION = "hashicorp/aws", "~> 5.100"
_BATCH = 200
"""Values that a filter of EC2 takes."""
_BY_FILTER = frozenset(
    {ResourceKind.INSTANCE, ResourceKind.VOLUME, ResourceKind.SNAPSHOT, ResourceKind.SECURITY_GROUP}
)
"""Kinds that are read many at once: the others' calls fail where one of them is gone since it was listed."""
_PASSING: Mapping[ResourceKind, str] = {
    ResourceKind.SPOT_REQUEST: "a request goes with its instance",
    ResourceKind.FLEET: "a fleet rents once",
    ResourceKind.IMAGE: "images are content of their repository",
    ResourceKind.OBJECTS: "objects are content of their bucket",
    ResourceKind.UPLOAD: "objects are content of their bucket",
    ResourceKind.INTENT: "it is known on this computer only",
}

_ID = {"instance-id": "InstanceId", "volume-id": "VolumeId", "snapshot-id": "SnapshotId"}
"""What EC2 calls in an answer what its filters have by another name."""

Resources = Iterable[TerraformResource]
Read = Callable[[AwsSession, Sequence[str], Names, str], Resources]


def reason_against(resource: Resource) -> str:
    """Why Terraform is not told of it; empty where it is. Pure."""
    if resource.kind not in TYPES:
        return _PASSING.get(resource.kind, "runctl cannot write this kind for Terraform")
    if GROUP_TAG in resource.tags:
        return f"the Auto Scaling group {resource.tags[GROUP_TAG]} rents and ends it"
    if resource.helper_for:
        return f"it is there only while {resource.helper_for} is filled"
    if resource.kind is ResourceKind.VOLUME and resource.ends_with:
        return f"it is a disk of {resource.ends_with}, and ends with it"
    if resource.state in {"shutting-down", "deleting"}:
        return "it is ending"
    return ""


def _order(resource: Resource) -> int:
    kinds = list(TYPES)
    return kinds.index(resource.kind) if resource.kind in TYPES else len(kinds)


class AwsTerraform(TerraformExport):
    """Terraform's ``hashicorp/aws``, by the calls that describe each resource as it is now."""

    def __init__(self, context: AwsContext) -> None:
        self._context = context

    def module(self, resources: Sequence[Resource], progress: Progress = SILENT) -> TerraformModule:
        """See `TerraformExport.module`."""
        home = self._context.session
        ordered = sorted(resources, key=lambda each: (_order(each), each.region or "", each.id))
        reasons = {id(each): reason_against(each) for each in ordered}
        written = [each for each in ordered if not reasons[id(each)]]
        names = Names(written)
        by_region: dict[tuple[ResourceKind, str | None], list[str]] = defaultdict(list)
        for each in written:
            by_region[each.kind, each.region].append(each.id)
        found: list[TerraformResource] = []
        unread: list[Unread] = []
        for (kind, region), ids in by_region.items():
            progress.step(f"describing {kind.label} resources" + (f" in {region}" if region else ""))
            session = home if region is None else home.in_region(region)
            for asked in [ids] if kind in _BY_FILTER else [[each] for each in ids]:
                try:
                    with our_errors(home.endpoint):
                        found += _READ[kind](session, asked, names, region or home.region)
                except NotFound:
                    continue  # gone since it was listed
                except RunctlError as error:
                    what = f"{kind.label} {', '.join(asked)}"
                    unread.append(Unread("aws", region, what, error.message, error.code))
        return TerraformModule(
            name="aws",
            source=SOURCE,
            version=VERSION,
            region=home.region,
            resources=tuple(found),
            left_out=tuple(LeftOut(each.label, reasons[id(each)]) for each in ordered if reasons[id(each)]),
            unread=tuple(unread),
        )


def _instances(session: AwsSession, ids: Sequence[str], names: Names, region: str) -> Resources:
    found = _described(session, "describe_instances", "instance-id", ids)
    roots = [
        mapping["Ebs"]["VolumeId"]
        for item in found
        for mapping in item.get("BlockDeviceMappings", ())
        if "Ebs" in mapping and mapping["DeviceName"] == item.get("RootDeviceName")
    ]
    disks = {disk["VolumeId"]: disk for disk in _described(session, "describe_volumes", "volume-id", roots)}
    for item in found:
        answer: Any = session.ec2.describe_instance_attribute(
            InstanceId=item["InstanceId"], Attribute="instanceInitiatedShutdownBehavior"
        )
        shutdown = answer.get("InstanceInitiatedShutdownBehavior", {}).get("Value")
        yield machines.instance(item, disks, shutdown, names, region)


def _volumes(session: AwsSession, ids: Sequence[str], names: Names, region: str) -> Resources:
    for item in _described(session, "describe_volumes", "volume-id", ids):
        yield machines.volume(item, names, region)
        yield from machines.attachments(item, names, region)


def _snapshots(session: AwsSession, ids: Sequence[str], names: Names, region: str) -> Resources:
    for item in _described(session, "describe_snapshots", "snapshot-id", ids):
        yield machines.snapshot(item, names, region)


def _described(session: AwsSession, operation: str, name: str, ids: Sequence[str]) -> list[Mapping[str, Any]]:
    """In the ids' order. By a filter: an id that is gone since it was listed is no error then."""
    found = (item for batch in _batches(ids) for item in describe(session.ec2, operation, {name: batch}))
    return sorted(found, key=lambda item: ids.index(item[_ID[name]]))


def _security_groups(session: AwsSession, ids: Sequence[str], names: Names, region: str) -> Resources:
    ec2: Any = session.ec2
    for batch in _batches(ids):
        filters = [{"Name": "group-id", "Values": batch}]
        pages = ec2.get_paginator("describe_security_groups").paginate(Filters=filters)
        found = [item for page in pages for item in page["SecurityGroups"]]
        for item in sorted(found, key=lambda item: str(item["GroupId"])):
            yield network.security_group(item, names, region)


def _placement_groups(session: AwsSession, ids: Sequence[str], names: Names, region: str) -> Resources:
    for item in session.ec2.describe_placement_groups(GroupNames=list(ids))["PlacementGroups"]:
        yield network.placement_group(item, names, region)


def _key_pairs(session: AwsSession, ids: Sequence[str], names: Names, region: str) -> Resources:
    for item in session.ec2.describe_key_pairs(KeyPairIds=list(ids), IncludePublicKey=True)["KeyPairs"]:
        yield network.key_pair(item, names, region)


def _roles(session: AwsSession, ids: Sequence[str], names: Names, _: str) -> Resources:
    for each in ids:
        yield from rights.role(session, each, names)


def _profiles(session: AwsSession, ids: Sequence[str], names: Names, _: str) -> Resources:
    for each in ids:
        yield rights.instance_profile(session, each, names)


def _buckets(session: AwsSession, ids: Sequence[str], names: Names, _: str) -> Resources:
    for each in ids:
        yield from storage.bucket(session, each, names)


def _repositories(session: AwsSession, ids: Sequence[str], names: Names, region: str) -> Resources:
    for each in ids:
        yield from storage.repository(session, each, names, region)


def _launch_templates(session: AwsSession, ids: Sequence[str], names: Names, region: str) -> Resources:
    ec2: Any = session.ec2
    for item in ec2.describe_launch_templates(LaunchTemplateIds=list(ids))["LaunchTemplates"]:
        (version,) = ec2.describe_launch_template_versions(
            LaunchTemplateId=item["LaunchTemplateId"], Versions=["$Latest"]
        )["LaunchTemplateVersions"]
        yield groups.launch_template(item, version, names, region)


def _groups(session: AwsSession, ids: Sequence[str], names: Names, region: str) -> Resources:
    scaling: Any = session.autoscaling
    pages = scaling.get_paginator("describe_auto_scaling_groups").paginate(AutoScalingGroupNames=list(ids))
    found = [item for page in pages for item in page["AutoScalingGroups"]]
    for item in sorted(found, key=lambda item: str(item["AutoScalingGroupName"])):
        yield groups.group(item, names, region)
        planned = scaling.get_paginator("describe_scheduled_actions").paginate(
            AutoScalingGroupName=item["AutoScalingGroupName"]
        )
        actions = [action for page in planned for action in page["ScheduledUpdateGroupActions"]]
        yield from groups.schedules(actions, names, region)


_READ: Mapping[ResourceKind, Read] = {
    ResourceKind.INSTANCE: _instances,
    ResourceKind.VOLUME: _volumes,
    ResourceKind.SNAPSHOT: _snapshots,
    ResourceKind.SECURITY_GROUP: _security_groups,
    ResourceKind.PLACEMENT_GROUP: _placement_groups,
    ResourceKind.KEY_PAIR: _key_pairs,
    ResourceKind.ROLE: _roles,
    ResourceKind.INSTANCE_PROFILE: _profiles,
    ResourceKind.BUCKET: _buckets,
    ResourceKind.REPOSITORY: _repositories,
    ResourceKind.LAUNCH_TEMPLATE: _launch_templates,
    ResourceKind.GROUP: _groups,
}
"""By kind, as `runctl.providers.aws.terraform.names.TYPES` has them."""


def _batches(ids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), _BATCH):
        yield list(ids[start : start + _BATCH])
