"""Where volumes are mounted, remembered in the tags of both sides."""

from __future__ import annotations

from runctl.core import tags as tag
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, Volume
from runctl.providers.aws.calls.filters import describe
from runctl.providers.aws.calls.parse import (
    DATA_DEVICE,
    DATA_VOLUME,
    checked_mount_point,
    instance_of,
    launch_mounts_of,
    mount_tag,
    mounts_of,
    read_only_of,
)
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ec2.instances import LIVE, find_described


def remember_mount(
    context: AwsContext, volume: Volume, instance: Instance, mount_point: str, *, read_only: bool
) -> None:
    """Tag what is ours of the two; what others created keeps its tags."""
    checked_mount_point(mount_point)
    if tag.is_ours(volume.tags) and volume.tags.get(tag.MOUNT_POINT) != mount_point:
        context.session.ec2.create_tags(
            Resources=[volume.id], Tags=[{"Key": tag.MOUNT_POINT, "Value": mount_point}]
        )
    forget_unused(context, volume)
    if tag.is_ours(instance.tags):
        key = _key(volume, instance)
        known = mounts_of(instance.tags).get(key), key in read_only_of(instance.tags)
        if known != (mount_point, read_only):
            _write(context, instance, key, mount_tag(mount_point, read_only=read_only))


def forget_unused(context: AwsContext, volume: Volume) -> None:
    """From now on something may be on the volume."""
    if tag.is_ours(volume.tags) and tag.UNUSED in volume.tags:
        context.session.ec2.delete_tags(Resources=[volume.id], Tags=[{"Key": tag.UNUSED}])


def forget_mounts(context: AwsContext, volume: Volume, instance_id: InstanceId | None = None) -> None:
    """No instance, or not that one, expects the volume: also none that has lost it already."""
    if instance_id is not None:
        left = [found] if (found := find_described(context, instance_id)) else []
    elif volume.instances:
        left = [found for each in volume.instances if (found := find_described(context, each))]
    else:
        filters = {f"tag:{tag.OWNED}": [tag.OWNED_VALUE], "instance-state-name": LIVE}
        left = describe(context.session.ec2, "describe_instances", filters)
    for described in left:
        forget_mount(context, volume, instance_of(described))


def forget_mount(context: AwsContext, volume: Volume, instance: Instance) -> None:
    """The instance no longer expects the volume, once it is detached on purpose."""
    key = _key(volume, instance)
    if not tag.is_ours(instance.tags) or instance.state.is_over or key not in mounts_of(instance.tags):
        return
    if key in launch_mounts_of(instance.tags):
        _write(context, instance, key, "")
    else:
        context.session.ec2.delete_tags(Resources=[instance.id], Tags=[{"Key": tag.MOUNT + key}])


def _key(volume: Volume, instance: Instance) -> str:
    at_data = any(v.volume_id == volume.id and v.device == DATA_DEVICE for v in instance.volumes)
    return DATA_VOLUME if at_data and DATA_VOLUME in mounts_of(instance.tags) else volume.id


def _write(context: AwsContext, instance: Instance, key: str, value: str) -> None:
    context.session.ec2.create_tags(Resources=[instance.id], Tags=[{"Key": tag.MOUNT + key, "Value": value}])
