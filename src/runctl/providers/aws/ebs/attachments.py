"""EBS volumes on EC2 instances: attached at a free name, and detached."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from runctl.core import tags as tag
from runctl.core.errors import Conflict, Unreachable, ZoneMismatch
from runctl.core.ids import InstanceId, VolumeId
from runctl.core.machine_models import Volume, VolumeState
from runctl.core.progress import Progress
from runctl.core.text import time_span
from runctl.core.waiting import attempts
from runctl.providers.aws.calls.errors import error_code
from runctl.providers.aws.calls.parse import device_in_use, free_device, volume_of
from runctl.providers.aws.calls.retries import carried_out
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ebs.mounting import forget_unused
from runctl.providers.aws.ebs.volume_creation import CREATE_TIMEOUT
from runctl.providers.aws.ebs.volume_lookup import (
    check_not_moving,
    find_described,
    find_volume,
    in_use,
    wait_state,
)
from runctl.providers.aws.ec2.releasing import released

ATTACH_TIMEOUT = timedelta(minutes=3)
DETACH_TIMEOUT = timedelta(minutes=3)


def attach_volume(
    context: AwsContext, volume_id: VolumeId, instance: Mapping[str, Any], progress: Progress
) -> Volume:
    """Attached to the instance (an item of ``DescribeInstances``) at a free device name."""
    instance_id = InstanceId(instance["InstanceId"])
    volume = find_volume(context, volume_id)
    zone = instance.get("Placement", {}).get("AvailabilityZone", "")
    if volume.zone != zone:
        raise ZoneMismatch(
            volume.id,
            volume.zone,
            zone,
            hint=f"create the instance with --zone {volume.zone}, or move the volume's data:"
            f" runctl aws ebs move {volume.id} --availability-zone {zone}",
        )
    if volume.state is VolumeState.CREATING:
        volume = wait_state(context, volume.id, VolumeState.AVAILABLE, CREATE_TIMEOUT, progress)
    elif instance_id not in volume.instances:
        volume = released(context, volume, progress)
    progress.step(f"attaching {volume.name or volume.id} to {instance_id}")
    if instance_id not in volume.instances:
        check_not_moving(volume)
        if volume.instances and not volume.multi_attach:
            raise in_use(volume)
        _record_first_use(context, volume, instance_id)
        _attach(context, volume.id, instance, progress)
    for _ in attempts(context.clock, ATTACH_TIMEOUT):
        item = find_described(context, volume_id)
        for attachment in item["Attachments"]:
            if attachment["InstanceId"] == instance_id and attachment["State"] == "attached":
                _end_with_instance(context, volume, attachment)
                return volume_of(item, context.prices.rates, instance["InstanceType"], seen_from=instance_id)
    raise Unreachable(
        f"volume {volume_id} did not become attached to {instance_id} within {time_span(ATTACH_TIMEOUT)}",
        hint=f"check it: aws ec2 describe-volumes --volume-ids {volume_id}; or try again",
    )


def detach_volume(
    context: AwsContext,
    volume_id: VolumeId,
    *,
    force: bool,
    progress: Progress,
    instance_id: InstanceId | None = None,
) -> Volume:
    """See `Volumes.detach`."""
    volume = find_volume(context, volume_id)
    attachments = find_described(context, volume.id)["Attachments"]
    if attachments:
        forget_unused(context, volume)
    leaving = [a for a in attachments if instance_id is None or a["InstanceId"] == instance_id]
    for attachment in leaving:
        _detach(context, volume, attachment, force=force, progress=progress)
    if len(leaving) == len(attachments):
        return wait_state(context, volume.id, VolumeState.AVAILABLE, DETACH_TIMEOUT, progress)
    for _ in attempts(context.clock, DETACH_TIMEOUT):
        volume = find_volume(context, volume.id)
        if instance_id not in {a["InstanceId"] for a in find_described(context, volume.id)["Attachments"]}:
            return volume
    raise Unreachable(
        f"volume {volume.id} is still on {instance_id} after {time_span(DETACH_TIMEOUT)}",
        hint="try again in a minute",
    )


def _detach(
    context: AwsContext, volume: Volume, attachment: Mapping[str, Any], *, force: bool, progress: Progress
) -> None:
    instance_id = attachment["InstanceId"]
    if _is_root_disk(context, volume.id, instance_id):
        raise Conflict(
            f"volume {volume.id} is the root disk of {instance_id}",
            hint="root disks are deleted with their instance",
            code="root-disk",
        )
    progress.step(f"detaching {volume.name or volume.id}")

    def detach() -> bool:
        context.session.ec2.detach_volume(
            VolumeId=volume.id, InstanceId=instance_id, Device=attachment["Device"], Force=force
        )
        return True

    def is_leaving() -> bool | None:
        now = find_described(context, volume.id)["Attachments"]
        return (
            all(a["InstanceId"] != instance_id or a["State"] in {"detaching", "detached"} for a in now)
            or None
        )

    try:
        carried_out(detach, is_leaving, context.clock)
    except Exception as error:
        # It has become free in the meantime, or is being detached already.
        if error_code(error) not in {"IncorrectState", "InvalidAttachment.NotFound"}:
            raise


def _record_first_use(context: AwsContext, volume: Volume, instance_id: InstanceId) -> None:
    """A volume that nobody has used yet says which instance is the first to have it.

    Where an earlier attachment was recorded, what happened to the volume since then is not known.
    """
    mark = volume.tags.get(tag.UNUSED)
    if mark == "true":
        context.session.ec2.create_tags(
            Resources=[volume.id], Tags=[{"Key": tag.UNUSED, "Value": instance_id}]
        )
    elif mark is not None:
        forget_unused(context, volume)


def _attach(
    context: AwsContext, volume_id: VolumeId, instance: Mapping[str, Any], progress: Progress
) -> None:
    taken = set(device_in_use(instance))

    def is_attached() -> bool | None:
        return instance["InstanceId"] in find_volume(context, volume_id).instances or None

    while True:
        device = free_device(taken)
        if device is None:
            raise Conflict(
                f"{instance['InstanceId']} has no free device name between /dev/sdf and /dev/sdp",
                hint="detach a volume that is not needed",
            )

        def attach(device: str = device) -> bool:
            context.session.ec2.attach_volume(
                VolumeId=volume_id, InstanceId=instance["InstanceId"], Device=device
            )
            return True

        try:
            carried_out(attach, is_attached, context.clock)
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
                if instance["InstanceId"] in now.instances:
                    return
                raise in_use(now) from error
            raise
        return


def _end_with_instance(context: AwsContext, volume: Volume, attachment: Mapping[str, Any]) -> None:
    """What was copied for one machine is deleted with it, whoever ends it."""
    if tag.NODE in volume.tags and not attachment.get("DeleteOnTermination"):
        disk: Any = {"DeviceName": attachment["Device"], "Ebs": {"DeleteOnTermination": True}}
        context.session.ec2.modify_instance_attribute(
            InstanceId=attachment["InstanceId"], BlockDeviceMappings=[disk]
        )


def _is_root_disk(context: AwsContext, volume_id: str, instance_id: str) -> bool:
    found = context.session.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
    return any(
        mapping["DeviceName"] == item.get("RootDeviceName")
        and mapping.get("Ebs", {}).get("VolumeId") == volume_id
        for reservation in found
        for item in reservation["Instances"]
        for mapping in item.get("BlockDeviceMappings", ())
    )
