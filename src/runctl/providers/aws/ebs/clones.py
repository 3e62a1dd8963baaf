"""Copies of EBS volumes in their own zone, and how far a new volume has its data."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from runctl.core import tags as tag
from runctl.core.errors import Conflict, UsageError
from runctl.core.ids import VolumeId, new_client_token
from runctl.core.machine_models import Volume, VolumeState
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.volume_plans import (
    ClonePlan,
    CloneRequest,
    DiskShape,
    InitializationStatus,
    ResizeRequest,
)
from runctl.providers.abilities.volumes import Clones
from runctl.providers.aws.calls.errors import raising_our_errors
from runctl.providers.aws.calls.idempotence import call_once
from runctl.providers.aws.calls.parse import tag_list
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ebs.modifications import target_shape
from runctl.providers.aws.ebs.volume_creation import new_tags, of_intent
from runctl.providers.aws.ebs.volume_lookup import (
    check_name,
    find_described,
    find_volume,
    is_replayed,
    wait_created,
)
from runctl.providers.aws.prices.price_list import Group

CLONE_TIMEOUT = timedelta(minutes=15)
COPY_FEE = "once, by the GiB written on the source: see Volume Clones at aws.amazon.com/ebs/pricing"


@raising_our_errors
class EbsClones(Clones):
    """EBS Volume Clones; see `Clones`."""

    def __init__(self, context: AwsContext) -> None:
        self._context = context

    def plan(self, request: CloneRequest) -> ClonePlan:
        """As the source is, where the request says nothing."""
        source = find_volume(self._context, request.volume)
        if source.state not in {VolumeState.AVAILABLE, VolumeState.IN_USE}:
            raise Conflict(f"volume {source.id} is {source.state.value}", hint="wait until it is available")
        if request.size_gib is not None and request.size_gib < source.size_gib:
            raise UsageError(
                f"a copy of {source.name or source.id} needs at least {source.size_gib} GiB",
                hint=f"--size {source.size_gib}, or leave it out",
            )
        # AWS's own default for a copy is gp2, whatever the source is.
        now = DiskShape(source.type, source.size_gib, source.iops, source.throughput)
        shape = target_shape(
            now, ResizeRequest(request.size_gib, request.type, request.iops, request.throughput)
        )
        if request.name is not None:
            check_name(self._context, request.name, request.token)
        persistent = source.persistent if request.persistent is None else request.persistent
        token = request.token or new_client_token()
        base = {**tag.inherited(source.tags), **request.tags}
        base.pop(tag.PERSISTENT, None)
        if persistent:
            base[tag.PERSISTENT] = "true"
        tags = new_tags(self._context, base, name=request.name, project=base.get(tag.PROJECT), token=token)
        tags[tag.CREATED_FROM] = source.id
        if shape.size_gib > source.size_gib:
            tags[tag.GROW] = "true"
        return ClonePlan(
            source=source,
            name=request.name,
            size_gib=shape.size_gib,
            type=shape.type,
            iops=shape.iops,
            throughput=shape.throughput,
            persistent=persistent,
            multi_attach=source.multi_attach and shape.type == source.type,
            tags=tags,
            price=self._context.prices.current_rates(Group.EBS).volume(shape),
            copy_fee=COPY_FEE,
            client_token=token,
        )

    def create(self, plan: ClonePlan, progress: Progress = SILENT) -> Volume:
        """CopyVolumes, once for each plan."""
        arguments: dict[str, Any] = {
            "SourceVolumeId": plan.source.id,
            "VolumeType": plan.type,
            "Size": plan.size_gib,
            "ClientToken": plan.client_token,
            "TagSpecifications": [{"ResourceType": "volume", "Tags": tag_list(plan.tags)}],
        }
        for name, value in (
            ("Iops", plan.iops),
            ("Throughput", plan.throughput),
            ("MultiAttachEnabled", plan.multi_attach or None),
            ("Encrypted", None if plan.source.encrypted else True),
        ):
            if value is not None:
                arguments[name] = value
        replayed = False

        def create() -> Mapping[str, Any]:
            nonlocal replayed
            answer: Any = self._context.session.ec2.copy_volumes(**arguments)
            created: Mapping[str, Any] = answer["Volumes"][0]
            answered_at = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
            replayed = is_replayed(answered_at, created.get("CreateTime"))
            return created

        before = of_intent(self._context, plan.client_token)
        if before is not None and before["State"] != "creating":
            return find_volume(self._context, before["VolumeId"])
        if before is None:
            progress.step(f"copying {plan.source.name or plan.source.id} in {plan.source.zone}")
            before = call_once(
                create,
                lambda: of_intent(self._context, plan.client_token),
                self._context.clock,
            )
        return wait_created(
            self._context, before, replayed=replayed, timeout=CLONE_TIMEOUT, progress=progress
        )


def initialization(context: AwsContext, volume_id: VolumeId) -> InitializationStatus:
    """See `Volumes.initialization`; a volume that was made empty has everything it will have."""
    rate = find_described(context, volume_id).get("VolumeInitializationRate")
    answer: Any = context.session.ec2.describe_volume_status(VolumeIds=[volume_id])
    item: dict[str, Any] = next(iter(answer["VolumeStatuses"]), {})
    details = item.get("InitializationStatusDetails") or {}
    states = {
        detail["Name"]: detail.get("Status", "") for detail in item.get("VolumeStatus", {}).get("Details", ())
    }
    progress = details.get("Progress")
    # EC2 takes up to five minutes to tell; one with a rate is not called complete before it has.
    unsaid = "completed" if rate is None else "initializing"
    complete = (
        progress == 100 if progress is not None else states.get("initialization-state", unsaid) == "completed"
    )
    return InitializationStatus(complete, progress, details.get("EstimatedTimeToCompleteInSeconds"), rate)
