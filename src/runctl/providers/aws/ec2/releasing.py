"""Volumes of instances that are shutting down: EC2 takes them off by itself, after seconds or some minutes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from runctl.core import tags as tag
from runctl.core.errors import NotFound, Unreachable
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, InstanceState, Volume, VolumeState
from runctl.core.progress import Progress
from runctl.core.text import time_span
from runctl.core.waiting import attempts
from runctl.providers.aws.calls.parse import instance_of
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ebs.volume_lookup import find_volume, in_use
from runctl.providers.aws.ec2.instances import describe, find_described, priced
from runctl.providers.instance_plans import VolumeMount

RELEASE_TIMEOUT = timedelta(minutes=15)
"""A machine with much memory or a GPU may take as long to shut down."""


def is_being_released(context: AwsContext, volume: Volume) -> bool:
    """See `Volumes.is_being_released`."""
    if not volume.instances:
        return volume.state is VolumeState.IN_USE
    found = [find_described(context, each) for each in volume.instances]
    return all(each is None or InstanceState(each["State"]["Name"]).is_over for each in found)


def released(context: AwsContext, volume: Volume, progress: Progress) -> Volume:
    """See `Volumes.released`."""
    if volume.state is not VolumeState.IN_USE or not is_being_released(context, volume):
        return volume
    holder = f"{', '.join(volume.instances)}, which is shutting down," if volume.instances else "its machine"
    progress.step(f"waiting until {holder} releases {volume.name or volume.id}")
    for waited in attempts(context.clock, RELEASE_TIMEOUT):
        volume = find_volume(context, volume.id)
        if volume.state is not VolumeState.IN_USE:
            return volume
        progress.update(f"{volume.name or volume.id} is still attached after {waited:.0f} s")
    raise Unreachable(
        f"volume {volume.name or volume.id} is still attached to {', '.join(volume.instances) or 'its machine'}, which"
        f" is shutting down, after {time_span(RELEASE_TIMEOUT)}",
        hint=f"EC2 continues with it: the same command waits again; runctl aws ebs detach {volume.id} --force takes it",
    )


def let_go(context: AwsContext, mounts: Sequence[VolumeMount], progress: Progress) -> None:
    """A machine that is launched now can have the volumes, and nobody goes by what was known of those that it may write
    to. Raises `Conflict` where another machine has one."""
    for mount in mounts:
        # Nothing is billed while an ending machine still has it.
        volume = released(context, find_volume(context, mount.volume), progress)
        if volume.instances:
            raise in_use(volume)
        if not mount.read_only and any(key in volume.tags for key in tag.GONE_WITH_WRITING):
            # From its boot on the machine may write to it.
            forget_content(context, volume)


def forget_content(context: AwsContext, volume: Volume) -> None:
    """From now on its data may be another than that of its replicas, or of what it was filled from."""
    # Not by the tags that it had when it was looked at: somebody may be replicating it.
    if tag.is_ours(volume.tags):
        context.session.ec2.delete_tags(
            Resources=[volume.id], Tags=[{"Key": key} for key in tag.GONE_WITH_WRITING]
        )


def wait_ended(
    context: AwsContext, instance_id: InstanceId, timeout: timedelta, progress: Progress
) -> Instance:
    """See `Renting.wait_ended`."""
    described = describe(context, instance_id)
    volumes = [attached.volume_id for attached in instance_of(described).volumes]
    progress.step(f"waiting until {instance_id} has ended")
    for _ in attempts(context.clock, timeout):
        now = find_described(context, instance_id)
        described = now or described
        if now is None or InstanceState(now["State"]["Name"]) is InstanceState.TERMINATED:
            break
        progress.update(f"{instance_id} is {now['State']['Name']}")
    else:
        raise Unreachable(
            f"{instance_id} is still {described['State']['Name']} after {time_span(timeout)}",
            hint=f"EC2 continues with it: runctl aws terminate {instance_id} --wait waits again",
        )
    for volume_id in volumes:
        try:
            released(context, find_volume(context, volume_id), progress)
        except NotFound:
            continue  # it went with its instance
    return priced(context, described)
