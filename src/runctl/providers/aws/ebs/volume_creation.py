"""New EBS volumes: planned, and created once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from runctl.core import tags as tag
from runctl.core.clock import rfc3339
from runctl.core.errors import NotFound, UsageError
from runctl.core.ids import new_client_token
from runctl.core.machine_models import Snapshot, Volume
from runctl.core.progress import Progress
from runctl.providers.abilities.volume_plans import VolumePlan, VolumeRequest
from runctl.providers.aws.calls.idempotence import call_once
from runctl.providers.aws.calls.parse import tag_list
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ebs.initialization import initialization
from runctl.providers.aws.ebs.snapshots import find_snapshot
from runctl.providers.aws.ebs.types import USUAL_TYPE, checked_multi_attach, checked_shape
from runctl.providers.aws.ebs.volume_lookup import (
    OVER,
    check_name,
    describe_volumes,
    find_volume,
    is_replayed,
    wait_created,
)
from runctl.providers.aws.ec2.zones import ZoneChoice, zone_for_volume
from runctl.providers.aws.prices.price_list import Group

CREATE_TIMEOUT = timedelta(minutes=5)


def plan_volume(context: AwsContext, request: VolumeRequest) -> VolumePlan:
    """See `Volumes.plan`. The zone is chosen for the machine that the configuration names."""
    rates = context.prices.current_rates(Group.EBS)
    snapshot = None if request.snapshot_id is None else find_snapshot(context, request.snapshot_id)
    size = _size(request, snapshot)
    shape = checked_shape(request.type or USUAL_TYPE, size, request.iops, request.throughput)
    if request.multi_attach:
        checked_multi_attach(shape.type)
    if request.initialization_rate is not None and snapshot is None:
        raise UsageError(
            "an empty volume needs no --initialization-rate",
            hint="it is for volumes created with --from-snapshot",
        )
    filling = (
        None
        if snapshot is None
        else initialization(request.initialization_rate, snapshot.data_gib, snapshot.volume_size_gib, rates)
    )
    if request.name is not None:
        check_name(context, request.name, request.token)
    zone = _choose_zone(context, request.zone or context.settings.zone, context.instance_type)
    token = request.token or new_client_token()
    # What a snapshot was protected by and belonged to, its volumes are and do too.
    handed_down = {} if snapshot is None else tag.inherited(snapshot.tags)
    project = request.project or context.config.project.name
    tags = new_tags(context, {**handed_down, **request.tags}, name=request.name, project=project, token=token)
    tags |= {tag.UNUSED: "true"} if snapshot is None else {tag.CREATED_FROM: snapshot.id}
    if snapshot is not None and size > snapshot.volume_size_gib:
        tags[tag.GROW] = "true"
    persistent = request.persistent or handed_down.get(tag.PERSISTENT) == "true"
    if persistent:
        tags[tag.PERSISTENT] = "true"
    decided = replace(
        request,
        size_gib=size,
        type=shape.type,
        iops=shape.iops,
        throughput=shape.throughput,
        zone=zone.zone,
        persistent=persistent,
        project=project,
        snapshot_id=None if snapshot is None else snapshot.id,
        tags=tags,
    )
    return VolumePlan(decided, zone.reason, rates.volume(shape), token, filling)


def new_tags(
    context: AwsContext, base: dict[str, str], *, name: str | None, project: str | None, token: str
) -> dict[str, str]:
    """The tags of a new volume or snapshot: what it inherits or was given, and that it is ours."""
    tags = {
        **base,
        tag.OWNED: tag.OWNED_VALUE,
        tag.OWNER: context.session.identity.name,
        tag.CREATED_AT: rfc3339(context.clock.now()),
        tag.INTENT: token,
    }
    if name:
        tags[tag.NAME] = name
    if project:
        tags[tag.PROJECT] = project
    return tags


def create_volume(context: AwsContext, plan: VolumePlan, progress: Progress) -> Volume:
    """See `Volumes.create`."""
    request = plan.request
    if request.zone is None:
        raise AssertionError("a volume plan has a zone")
    arguments: dict[str, Any] = {
        "AvailabilityZone": request.zone,
        "VolumeType": request.type,
        "Size": plan.size_gib,
        "Encrypted": request.encrypted,
        "ClientToken": plan.client_token,
        "TagSpecifications": [{"ResourceType": "volume", "Tags": tag_list(request.tags)}],
    }
    for name, value in (
        ("Iops", request.iops),
        ("Throughput", request.throughput),
        ("SnapshotId", request.snapshot_id),
        ("VolumeInitializationRate", request.initialization_rate),
        ("MultiAttachEnabled", request.multi_attach or None),
    ):
        if value is not None:
            arguments[name] = value
    replayed = False

    def create() -> Mapping[str, Any]:
        nonlocal replayed
        answer: Any = context.session.ec2.create_volume(**arguments)
        created: Mapping[str, Any] = answer
        answered_at = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
        replayed = is_replayed(answered_at, created.get("CreateTime"))
        return created

    # AWS honours the token for a while only, and a plan may be carried out again much later.
    before = of_intent(context, plan.client_token)
    if before is not None and before["State"] != "creating":
        return find_volume(context, before["VolumeId"])
    if before is None:
        progress.step(f"creating a volume of {plan.size_gib} GiB in {request.zone}")
        before = call_once(
            create,
            lambda: of_intent(context, plan.client_token),
            context.clock,
        )
    return wait_created(context, before, replayed=replayed, timeout=CREATE_TIMEOUT, progress=progress)


def of_intent(context: AwsContext, token: str) -> Mapping[str, Any] | None:
    """The volume that this token has made, as EC2 describes it."""
    found = describe_volumes(context, {f"tag:{tag.INTENT}": [token]})
    return next((item for item in found if item["State"] not in OVER), None)


def _size(request: VolumeRequest, snapshot: Snapshot | None) -> int:
    if snapshot is None:
        if request.size_gib is None:
            raise UsageError("a new volume needs a size", hint="--size GIB, or --from-snapshot")
        return request.size_gib
    size = snapshot.volume_size_gib if request.size_gib is None else request.size_gib
    if size < snapshot.volume_size_gib:
        least = snapshot.volume_size_gib
        raise UsageError(f"snapshot {snapshot.id} needs at least {least} GiB", hint=f"--size {least}")
    return size


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
