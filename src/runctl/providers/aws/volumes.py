"""EBS volumes: find, create, attach, detach, delete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from runctl.core import tags as tag
from runctl.core.clock import rfc3339
from runctl.core.errors import (
    Conflict,
    NotFound,
    PermissionDenied,
    ProviderError,
    Unreachable,
    UsageError,
    ZoneMismatch,
)
from runctl.core.ids import InstanceId, VolumeId, new_client_token
from runctl.core.models import Volume, VolumeState
from runctl.core.progress import Progress
from runctl.costs.disks import checked_shape, monthly_price
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.errors import error_code, our_errors
from runctl.providers.aws.reading import PLAN, device_in_use, free_device, tag_list, tags_of, utc, volume_of
from runctl.providers.aws.waiting import attempts
from runctl.providers.aws.zones import ZoneChoice, zone_for_volume
from runctl.providers.interface import VolumePlan, VolumeRequest

ATTACH_TIMEOUT = timedelta(minutes=3)
DETACH_TIMEOUT = timedelta(minutes=3)
CREATE_TIMEOUT = timedelta(minutes=5)


def describe_volumes(context: AwsContext, filters: Mapping[str, Iterable[str]]) -> list[Mapping[str, Any]]:
    """Every page of ``DescribeVolumes``."""
    paginator = context.session.ec2.get_paginator("describe_volumes")
    wanted: Any = [{"Name": name, "Values": list(values)} for name, values in filters.items()]
    pages = paginator.paginate(Filters=wanted)
    return [item for page in pages for item in page["Volumes"]]


def list_volumes(context: AwsContext, *, everyone: bool) -> tuple[Volume, ...]:
    """Ours, or all, newest first."""
    items = describe_volumes(context, {} if everyone else {f"tag:{tag.OWNED}": [tag.OWNED_VALUE]})
    items.sort(key=lambda item: (utc(item.get("CreateTime")), item["VolumeId"]), reverse=True)
    types = _instance_types(context, items)
    region = context.session.region
    return tuple(volume_of(item, region, types.get(_attached_to(item) or "")) for item in items)


def find_volume(context: AwsContext, id_or_name: str) -> Volume:
    """By id or by Name tag. Raises `NotFound`, `Conflict` (several of the name)."""
    item = _find(context, id_or_name)
    types = _instance_types(context, [item])
    return volume_of(item, context.session.region, types.get(_attached_to(item) or ""))


def plan_volume(context: AwsContext, request: VolumeRequest, default_type: str) -> VolumePlan:
    """See `VolumeProvider.plan_volume`; ``default_type`` is the machine that the zone is chosen for."""
    session = context.session
    shape = checked_shape(request.type, request.size_gib, request.iops, request.throughput)
    if request.snapshot_id is not None:
        _check_snapshot(context, request.snapshot_id, request.size_gib)
    if request.name:
        _check_name(context, request.name)
    zone = _choose_zone(context, request.zone or context.config.aws.zone, default_type)
    owner = session.identity.name
    tags = {
        **request.tags,
        tag.OWNED: tag.OWNED_VALUE,
        tag.OWNER: owner,
        tag.CREATED_AT: rfc3339(context.clock.now()),
    }
    project = request.project or context.config.project.name
    if request.name:
        tags[tag.NAME] = request.name
    if project:
        tags[tag.PROJECT] = project
    if request.persistent:
        tags[tag.PERSISTENT] = "true"
    token = new_client_token()
    tags[PLAN] = token
    decided = replace(
        request, iops=shape.iops, throughput=shape.throughput, zone=zone.zone, project=project, tags=tags
    )
    return VolumePlan(decided, zone.reason, monthly_price(shape, session.region), token)


def create_volume(context: AwsContext, plan: VolumePlan, progress: Progress) -> Volume:
    """See `VolumeProvider.create_volume`."""
    request = plan.request
    if request.zone is None:
        raise AssertionError("a volume plan has a zone")
    arguments: dict[str, Any] = {
        "AvailabilityZone": request.zone,
        "VolumeType": request.type,
        "Size": request.size_gib,
        "Encrypted": request.encrypted,
        "ClientToken": plan.client_token,
        "TagSpecifications": [{"ResourceType": "volume", "Tags": tag_list(request.tags)}],
    }
    if request.iops is not None:
        arguments["Iops"] = request.iops
    if request.throughput is not None:
        arguments["Throughput"] = request.throughput
    if request.snapshot_id is not None:
        arguments["SnapshotId"] = request.snapshot_id
    # AWS honours the token for a while only, and a plan may be carried out again much later.
    before = describe_volumes(context, {f"tag:{PLAN}": [plan.client_token]})
    if before:
        return find_volume(context, before[0]["VolumeId"])
    progress.step(f"creating a volume of {request.size_gib} GiB in {request.zone}")
    created = context.session.ec2.create_volume(**arguments)
    return _wait_state(
        context, VolumeId(created["VolumeId"]), VolumeState.AVAILABLE, CREATE_TIMEOUT, progress
    )


def attach_volume(
    context: AwsContext, volume_id: VolumeId, instance: Mapping[str, Any], progress: Progress
) -> Volume:
    """Attached to the instance (an item of ``DescribeInstances``) at a free device name."""
    instance_id = InstanceId(instance["InstanceId"])
    volume = find_volume(context, volume_id)
    zone = instance.get("Placement", {}).get("AvailabilityZone", "")
    if volume.zone != zone:
        raise ZoneMismatch(volume.id, volume.zone, zone)
    if volume.state is VolumeState.CREATING:
        volume = _wait_state(context, volume.id, VolumeState.AVAILABLE, CREATE_TIMEOUT, progress)
    progress.step(f"attaching {volume.name or volume.id} to {instance_id}")
    if volume.attached_to is None:
        _attach(context, volume.id, instance, progress)
    elif volume.attached_to != instance_id:
        raise _in_use(volume)
    for _ in attempts(context.clock, ATTACH_TIMEOUT):
        item = _find(context, volume_id)
        for attachment in item["Attachments"]:
            if attachment["InstanceId"] == instance_id and attachment["State"] == "attached":
                return volume_of(item, context.session.region, instance["InstanceType"])
    raise Unreachable(
        f"volume {volume_id} did not become attached to {instance_id} within {ATTACH_TIMEOUT}",
        hint=f"look at it: aws ec2 describe-volumes --volume-ids {volume_id}; or try again",
    )


def detach_volume(context: AwsContext, volume_id: VolumeId, *, force: bool, progress: Progress) -> Volume:
    """See `VolumeProvider.detach_volume`."""
    volume = find_volume(context, volume_id)
    for attachment in _find(context, volume.id)["Attachments"]:
        instance_id = attachment["InstanceId"]
        if _is_root_disk(context, volume.id, instance_id):
            raise Conflict(
                f"volume {volume.id} is the root disk of {instance_id}",
                hint="root disks go with their instance",
                code="root-disk",
            )
        progress.step(f"detaching {volume.name or volume.id}")
        try:
            context.session.ec2.detach_volume(
                VolumeId=volume.id, InstanceId=instance_id, Device=attachment["Device"], Force=force
            )
        except Exception as error:
            # It has become free in the meantime, or is being detached already.
            if error_code(error) not in {"IncorrectState", "InvalidAttachment.NotFound"}:
                raise
    return _wait_state(context, volume.id, VolumeState.AVAILABLE, DETACH_TIMEOUT, progress)


def delete_volume(context: AwsContext, volume_id: VolumeId, progress: Progress) -> None:
    """See `VolumeProvider.delete_volume`."""
    try:
        with our_errors(context.session.endpoint):
            volume = find_volume(context, volume_id)
    except NotFound:
        return
    if volume.state in {VolumeState.DELETING, VolumeState.DELETED}:
        return
    if not tag.is_ours(volume.tags):
        raise PermissionDenied(
            f"volume {volume.id} was not created by runctl and is left alone",
            hint=f"if you are sure: aws ec2 delete-volume --volume-id {volume.id}",
            code="not-ours",
        )
    if volume.persistent:
        raise Conflict(
            f"volume {volume.name or volume.id} is marked persistent",
            hint=f"remove the mark first: aws ec2 delete-tags --resources {volume.id} --tags Key={tag.PERSISTENT}",
            code="protected",
        )
    if volume.attached_to is not None:
        raise _in_use(volume)
    progress.step(f"deleting {volume.name or volume.id}")
    context.session.ec2.delete_volume(VolumeId=volume.id)


def _attach(
    context: AwsContext, volume_id: VolumeId, instance: Mapping[str, Any], progress: Progress
) -> None:
    taken = set(device_in_use(instance))
    while True:
        device = free_device(taken)
        if device is None:
            raise Conflict(
                f"{instance['InstanceId']} has no free device name between /dev/sdf and /dev/sdp",
                hint="detach a volume that is not needed",
            )
        try:
            context.session.ec2.attach_volume(
                VolumeId=volume_id, InstanceId=instance["InstanceId"], Device=device
            )
        except Exception as error:
            # Somebody else took the name since the instance was described.
            if (
                error_code(error) == "InvalidParameterValue"
                and device in str(error)
                and "in use" in str(error)
            ):
                taken.add(device)
                progress.detail(f"{device} is taken; trying the next")
                continue
            if error_code(error) == "VolumeInUse":
                now = find_volume(context, volume_id)
                if now.attached_to == instance["InstanceId"]:
                    return
                raise _in_use(now) from error
            raise
        return


def _in_use(volume: Volume) -> Conflict:
    return Conflict(
        f"volume {volume.name or volume.id} is in use: attached to {volume.attached_to}",
        hint=f"runctl aws ebs detach {volume.id}",
        code="volume-in-use",
    )


def _wait_state(
    context: AwsContext, volume_id: VolumeId, wanted: VolumeState, timeout: timedelta, progress: Progress
) -> Volume:
    volume: Volume | None = None
    for _ in attempts(context.clock, timeout):
        try:
            volume = find_volume(context, volume_id)
        except NotFound:
            # A volume made a moment ago may not be seen yet.
            continue
        if volume.state is wanted:
            return volume
        if volume.state is VolumeState.ERROR:
            raise ProviderError(
                f"volume {volume_id} is in error: EC2 could not make it",
                hint="often its KMS key, or its snapshot, cannot be used; delete it and look at the console",
            )
        progress.update(f"{volume_id} is {volume.state.value}")
    state = volume.state.value if volume else "not visible"
    raise Unreachable(
        f"volume {volume_id} is {state}, not {wanted.value}, after {timeout}",
        hint="a mounted file system keeps a volume from being detached: unmount it, or use --force when the machine"
        " does not answer"
        if wanted is VolumeState.AVAILABLE and state == "in-use"
        else "try again in a minute",
    )


def _find(context: AwsContext, id_or_name: str) -> Mapping[str, Any]:
    if id_or_name.startswith("vol-"):
        try:
            with our_errors(context.session.endpoint):
                found: list[Any] = context.session.ec2.describe_volumes(VolumeIds=[id_or_name])["Volumes"]
        except NotFound as error:
            raise _no_volume(id_or_name, context) from error
        if found:
            item: Mapping[str, Any] = found[0]
            return item
        raise _no_volume(id_or_name, context)
    named = [
        item
        for item in describe_volumes(context, {f"tag:{tag.NAME}": [id_or_name]})
        if item["State"] not in {"deleting", "deleted"}
    ]
    if len(named) > 1:
        raise Conflict(
            f"{len(named)} volumes are named {id_or_name!r}: {', '.join(v['VolumeId'] for v in named)}",
            hint="use the id of the one you mean",
            code="ambiguous-name",
        )
    if not named:
        raise _no_volume(id_or_name, context)
    return named[0]


def _no_volume(id_or_name: str, context: AwsContext) -> NotFound:
    return NotFound(
        f"{context.session.region} has no volume {id_or_name!r}",
        hint="`runctl aws ebs list` shows yours, --region looks elsewhere",
    )


def _attached_to(item: Mapping[str, Any]) -> str | None:
    return next((a["InstanceId"] for a in item.get("Attachments", ()) if a.get("InstanceId")), None)


def _instance_types(context: AwsContext, volumes: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Instance type by instance id, for what the volumes are attached to."""
    ids = sorted({instance for item in volumes if (instance := _attached_to(item))})
    types: dict[str, str] = {}
    paginator = context.session.ec2.get_paginator("describe_instances")
    for start in range(0, len(ids), 200):
        pages = paginator.paginate(Filters=[{"Name": "instance-id", "Values": ids[start : start + 200]}])
        for page in pages:
            for reservation in page["Reservations"]:
                for item in reservation["Instances"]:
                    types[item["InstanceId"]] = item["InstanceType"]
    return types


def _is_root_disk(context: AwsContext, volume_id: str, instance_id: str) -> bool:
    found = context.session.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
    return any(
        mapping["DeviceName"] == item.get("RootDeviceName")
        and mapping.get("Ebs", {}).get("VolumeId") == volume_id
        for reservation in found
        for item in reservation["Instances"]
        for mapping in item.get("BlockDeviceMappings", ())
    )


def _check_name(context: AwsContext, name: str) -> None:
    if name.startswith(("vol-", "/", "snap-")) or ":" in name or not 1 <= len(name) <= 255:
        raise UsageError(f"{name!r} cannot be a volume's name", hint="use a word such as datasets")
    for item in describe_volumes(context, {f"tag:{tag.NAME}": [name]}):
        if item["State"] not in {"deleting", "deleted"}:
            mine = "" if tag.is_ours(tags_of(item.get("Tags"))) else ", which runctl did not create"
            raise Conflict(
                f"there is a volume named {name!r}: {item['VolumeId']}{mine}",
                hint="use it, or choose another --name",
                code="name-taken",
            )


def _check_snapshot(context: AwsContext, snapshot_id: str, size_gib: int) -> None:
    with our_errors(context.session.endpoint):
        found = context.session.ec2.describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"]
    if found and found[0]["VolumeSize"] > size_gib:
        least = found[0]["VolumeSize"]
        raise UsageError(f"snapshot {snapshot_id} needs {least} GiB at least", hint=f"--size {least}")


def _choose_zone(context: AwsContext, asked: str | None, instance_type: str) -> ZoneChoice:
    answer = context.session.ec2.describe_availability_zones(
        Filters=[
            {"Name": "zone-type", "Values": ["availability-zone"]},
            {"Name": "state", "Values": ["available"]},
        ]
    )
    zones = sorted(zone["ZoneName"] for zone in answer["AvailabilityZones"])
    if asked is not None:
        if asked not in zones:
            raise NotFound(
                f"{context.session.region} has no availability zone {asked!r}",
                hint=f"it has {', '.join(zones)}",
            )
        return ZoneChoice(asked, "asked for")
    if not zones:
        raise NotFound(f"{context.session.region} has no availability zone that this account may use")
    return zone_for_volume(zones, context.prices.spot_quotes([instance_type]), instance_type)
