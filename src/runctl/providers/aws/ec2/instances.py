"""EC2 instances that exist: find, list, end, stop and start."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from runctl.core import tags as tag
from runctl.core.clock import rfc3339
from runctl.core.errors import Conflict, NotFound, PermissionDenied
from runctl.core.ids import InstanceId
from runctl.core.machine_models import Instance, InstanceState, Market
from runctl.core.progress import SILENT, Progress
from runctl.core.waiting import attempts
from runctl.providers.aws.calls.errors import error_code, raising_our_errors
from runctl.providers.aws.calls.filters import describe as describe_exactly
from runctl.providers.aws.calls.parse import instance_of, tags_of, utc
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.ec2.limits import expiry_after_stop
from runctl.providers.instance_plans import InstanceRequest
from runctl.providers.interface import StopAndStart

LIVE = [state.value for state in InstanceState if not state.is_over]
_ID = re.compile(r"i-[0-9a-f]{8,17}")


def find_described(context: AwsContext, instance_id: InstanceId) -> Mapping[str, Any] | None:
    """The item of ``DescribeInstances``; ``None`` when EC2 does not know the id."""
    if not _ID.fullmatch(instance_id):
        return None
    try:
        answer = context.session.ec2.describe_instances(InstanceIds=[instance_id])
    except Exception as error:
        if error_code(error) in {"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"}:
            return None
        raise
    items = [item for reservation in answer["Reservations"] for item in reservation["Instances"]]
    return items[0] if items else None


def describe(context: AwsContext, instance_id: InstanceId) -> Mapping[str, Any]:
    """Raises `NotFound`."""
    found = find_described(context, instance_id)
    if found is None:
        hint = "`runctl aws list` shows yours; --region searches another region"
        if instance_id.startswith("vol-"):
            hint = "that is a volume's id; " + hint
        raise NotFound(f"{context.session.region} has no instance {instance_id!r}", hint=hint)
    return found


def priced(context: AwsContext, described: Mapping[str, Any]) -> Instance:
    """The instance with its price."""
    return instance_of(described, context.prices.hourly([described])[described["InstanceId"]])


def list_instances(context: AwsContext, *, everyone: bool, include_ended: bool) -> tuple[Instance, ...]:
    """See `Provider.instances`."""
    filters = {} if everyone else {f"tag:{tag.OWNED}": [tag.OWNED_VALUE]}
    if not include_ended:
        filters["instance-state-name"] = LIVE
    items = describe_exactly(
        context.session.ec2, "describe_instances", filters, PaginationConfig={"PageSize": 1000}
    )
    items.sort(key=lambda item: (utc(item.get("LaunchTime")), item["InstanceId"]), reverse=True)
    hourly = context.prices.hourly(items)
    return tuple(instance_of(item, hourly[item["InstanceId"]]) for item in items)


def request_like(context: AwsContext, instance: Instance) -> InstanceRequest:
    """See `Renting.request_like`. The network is left open: another zone has another subnet."""
    described = describe(context, instance.id)
    root = next(
        (
            disk["Ebs"]["VolumeId"]
            for disk in described.get("BlockDeviceMappings", ())
            if disk["DeviceName"] == described.get("RootDeviceName")
        ),
        None,
    )
    size = None
    if root is not None:
        (volume,) = context.session.ec2.describe_volumes(VolumeIds=[root])["Volumes"]
        size = int(volume["Size"])
    profile = described.get("IamInstanceProfile", {}).get("Arn")
    hops = described.get("MetadataOptions", {}).get("HttpPutResponseHopLimit")
    return InstanceRequest(
        instance_type=described["InstanceType"],
        market=instance.market,
        root_volume_size_gib=size,
        image=described["ImageId"],
        key_name=described.get("KeyName"),
        security_groups=tuple(group["GroupId"] for group in described.get("SecurityGroups", ())),
        instance_profile=profile.rpartition("/")[2] if profile else None,
        imds_hop_limit=hops,
        project=instance.project,
        name=instance.tags.get(tag.NAME),
    )


def terminate(context: AwsContext, instance_id: InstanceId, progress: Progress) -> Instance:
    """See `Renting.terminate`."""
    described = _ours(context, instance_id)
    if not InstanceState(described["State"]["Name"]).is_over:
        progress.step(f"terminating {instance_id}")
        context.session.ec2.terminate_instances(InstanceIds=[instance_id])
    return priced(
        context, _settled(context, described, {InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED})
    )


@raising_our_errors
class Ec2StopAndStart(StopAndStart):
    """On-demand machines with an EBS root disk; see `StopAndStart`."""

    def __init__(self, context: AwsContext, close_connections: Callable[[InstanceId], None]) -> None:
        self._context = context
        self._close_connections = close_connections

    def stop(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        """StopInstances, and the connections are closed."""
        described = _ours(self._context, instance_id)
        state = InstanceState(described["State"]["Name"])
        if state in {InstanceState.STOPPING, InstanceState.STOPPED}:
            return priced(self._context, described)
        if state.is_over:
            raise Conflict(
                f"{instance_id} has ended", hint="create another: runctl aws create", code="instance-ended"
            )
        if instance_of(described).market is Market.SPOT:
            raise Conflict(
                f"{instance_id} is a one-time spot instance, which cannot be stopped",
                hint=f"runctl aws terminate {instance_id}; volumes brought along stay",
                code="spot-cannot-stop",
            )
        progress.step(f"stopping {instance_id}")
        self._context.session.ec2.stop_instances(InstanceIds=[instance_id])
        self._close_connections(instance_id)
        return priced(
            self._context, _settled(self._context, described, {InstanceState.STOPPING, InstanceState.STOPPED})
        )

    def start(self, instance_id: InstanceId, progress: Progress = SILENT) -> Instance:
        """StartInstances."""
        described = _ours(self._context, instance_id)
        state = InstanceState(described["State"]["Name"])
        if state in {InstanceState.PENDING, InstanceState.RUNNING}:
            return priced(self._context, described)
        if state.is_over:
            raise Conflict(
                f"{instance_id} has ended", hint="create another: runctl aws create", code="instance-ended"
            )
        if state is InstanceState.STOPPING:
            raise Conflict(
                f"{instance_id} is still stopping",
                hint="wait a minute and try again",
                code="instance-stopping",
            )
        progress.step(f"starting {instance_id}")
        self._context.session.ec2.start_instances(InstanceIds=[instance_id])
        expires = expiry_after_stop(described, self._context.clock.now())
        if expires is not None:
            # Its guard counts the time for which it runs; the tag says what that comes to.
            self._context.session.ec2.create_tags(
                Resources=[instance_id], Tags=[{"Key": tag.EXPIRES_AT, "Value": rfc3339(expires)}]
            )
        return priced(
            self._context, _settled(self._context, described, {InstanceState.PENDING, InstanceState.RUNNING})
        )


def _ours(context: AwsContext, instance_id: InstanceId) -> Mapping[str, Any]:
    described = describe(context, instance_id)
    if not tag.is_ours(tags_of(described.get("Tags"))):
        raise PermissionDenied(
            f"{instance_id} was not created by runctl and is left alone",
            hint="use the AWS console or `aws ec2` for machines that others created",
            code="not-ours",
        )
    return described


def _settled(
    context: AwsContext, described: Mapping[str, Any], wanted: set[InstanceState]
) -> Mapping[str, Any]:
    """The instance as described once EC2's answers show the change; descriptions lag behind calls by a moment."""
    for _ in attempts(context.clock, timedelta(seconds=20)):
        now = find_described(context, InstanceId(described["InstanceId"]))
        if now is not None:
            described = now
        if InstanceState(described["State"]["Name"]) in wanted:
            return described
    return described
