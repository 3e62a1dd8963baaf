"""The Auto Scaling API over `Group`s, in place of moto's, whose groups know no market, no replacement and no clock.

What this sandbox does not make (lifecycle hooks, scaling policies, warm pools, launch configurations, weights,
recurrence) is refused, not ignored.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult

from runctl.sandbox.autoscaling.groups import Activity, Group, ScheduledAction
from runctl.sandbox.autoscaling.keeper import keeper, note, resize
from runctl.sandbox.autoscaling.request import (
    GROUP_NAME,
    check_sizes,
    group_of,
    group_tag,
    is_true,
    launches_of,
    moment_of,
    not_found,
    placement_of,
    processes_of,
    refuse_unsupported,
    size_of,
    subnets_of,
)
from runctl.sandbox.ec2 import backend
from runctl.sandbox.world import ACCOUNT, current

GRACE_SECONDS = 300
COOLDOWN_SECONDS = 300


def install() -> None:
    """From now on moto answers with these, and refuses the rest of the service."""
    ours: dict[str, Callable[[dict[str, Any]], Any]] = {
        "create_auto_scaling_group": _create,
        "describe_auto_scaling_groups": _describe,
        "update_auto_scaling_group": _update,
        "set_desired_capacity": _set_desired,
        "delete_auto_scaling_group": _delete,
        "describe_auto_scaling_instances": _instances,
        "terminate_instance_in_auto_scaling_group": _terminate,
        "describe_scaling_activities": _activities,
        "suspend_processes": _suspend,
        "resume_processes": _resume,
        "put_scheduled_update_group_action": _schedule,
        "describe_scheduled_actions": _scheduled,
        "delete_scheduled_action": _unschedule,
        "create_or_update_tags": _tag,
        "describe_tags": _tags,
    }
    served = [
        name for name in vars(AutoScalingResponse) if not name.startswith("_") and name != "call_action"
    ]
    for name in served:
        if callable(vars(AutoScalingResponse)[name]):
            setattr(AutoScalingResponse, name, _method(name, ours.get(name) or _refusal(name)))


LISTS = {
    "describe_auto_scaling_groups": "AutoScalingGroups",
    "describe_auto_scaling_instances": "AutoScalingInstances",
    "describe_scaling_activities": "Activities",
    "describe_scheduled_actions": "ScheduledUpdateGroupActions",
    "describe_tags": "Tags",
}
"""What is listed, by the operation that lists it."""


def _method(name: str, handle: Callable[[dict[str, Any]], Any]) -> Callable[[Any], ActionResult]:
    def respond(self: Any) -> ActionResult:
        if self.region != current().region:
            # Groups, like their machines, are in the sandbox's own region.
            if name not in LISTS:
                raise not_found(str(self._get_params().get("AutoScalingGroupName")))
            return ActionResult({LISTS[name]: []})
        with current().lock:
            result = handle(self._get_params())
        keeper().wake()
        return EmptyResult() if result is None else ActionResult(result)

    return respond


def _refusal(name: str) -> Callable[[dict[str, Any]], Any]:
    action = "".join(part.title() for part in name.split("_"))

    def refuse(_parameters: dict[str, Any]) -> Any:
        raise AutoscalingClientError("UnsupportedOperation", f"This sandbox has no {action}.")

    return refuse


def _create(request: dict[str, Any]) -> None:
    name = str(request.get("AutoScalingGroupName", ""))
    if not GROUP_NAME.fullmatch(name):
        raise ValidationError(
            "AutoScalingGroupName is missing, or longer than 255 characters, or has a colon"
        )
    if name in current().groups:
        raise AutoscalingClientError(
            "AlreadyExists",
            f"AutoScalingGroup by this name already exists - A group with the name {name} already exists",
        )
    refuse_unsupported(request)
    least, most = size_of(request, "MinSize"), size_of(request, "MaxSize")
    if least is None or most is None:
        raise ValidationError("MinSize and MaxSize are required")
    desired = size_of(request, "DesiredCapacity")
    template, overrides, distribution = launches_of(request)
    subnets = subnets_of(request)
    group = Group(
        name=name,
        arn=f"arn:aws:autoscaling:{current().region}:{ACCOUNT}:autoScalingGroup:{uuid.uuid4()}:autoScalingGroupName/{name}",
        created=datetime.now(UTC),
        subnets=subnets,
        least=least,
        most=most,
        desired=least if desired is None else desired,
        template=template,
        overrides=overrides,
        distribution=distribution,
        capacity_rebalance=is_true(request.get("CapacityRebalance")),
        tags=[group_tag(name, tag) for tag in request.get("Tags", [])],
        placement=placement_of(request, subnets),
    )
    check_sizes(group.desired, least, most)
    current().groups[name] = group


def _describe(request: dict[str, Any]) -> dict[str, Any]:
    names = request.get("AutoScalingGroupNames") or []
    found = [group for group in current().groups.values() if not names or group.name in names]
    for wanted in request.get("Filters") or []:
        found = [group for group in found if _fits(group, wanted["Name"], wanted.get("Values", []))]
    return {"AutoScalingGroups": [_shown(group) for group in found]}


def _fits(group: Group, name: str, values: list[str]) -> bool:
    if name == "tag-key":
        return any(tag["Key"] in values for tag in group.tags)
    if name == "tag-value":
        return any(tag.get("Value") in values for tag in group.tags)
    if name.startswith("tag:"):
        return any(tag["Key"] == name[4:] and tag.get("Value") in values for tag in group.tags)
    raise ValidationError(f"Unknown filter name {name!r}")


def _shown(group: Group) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "AutoScalingGroupName": group.name,
        "AutoScalingGroupARN": group.arn,
        "MinSize": group.least,
        "MaxSize": group.most,
        "DesiredCapacity": group.desired,
        "DefaultCooldown": COOLDOWN_SECONDS,
        "AvailabilityZones": [backend().get_subnet(subnet).availability_zone for subnet in group.subnets],
        "HealthCheckType": "EC2",
        "HealthCheckGracePeriod": GRACE_SECONDS,
        "Instances": _members(group),
        "CreatedTime": group.created,
        **({"PlacementGroup": group.placement} if group.placement else {}),
        "SuspendedProcesses": [
            {"ProcessName": name, "SuspensionReason": "User suspended"} for name in sorted(group.suspended)
        ],
        "VPCZoneIdentifier": ",".join(group.subnets),
        "Tags": group.tags,
        "TerminationPolicies": ["Default"],
        "NewInstancesProtectedFromScaleIn": False,
        "CapacityRebalance": group.capacity_rebalance,
        "CapacityReservationSpecification": {"CapacityReservationPreference": "default"},
    }
    if group.deleting:
        shown["Status"] = "Delete in progress"
    if group.distribution is None:
        shown["LaunchTemplate"] = group.template
    else:
        shown["MixedInstancesPolicy"] = {
            "LaunchTemplate": {"LaunchTemplateSpecification": group.template, "Overrides": group.overrides},
            "InstancesDistribution": group.distribution,
        }
    return shown


def _members(group: Group) -> list[dict[str, Any]]:
    known = {instance.id: instance for instance in backend().all_instances()}
    shown = []
    for instance_id in group.members:
        instance = known.get(instance_id)
        if instance is None:
            continue
        state = instance._state.name
        lifecycle = {"pending": "Pending", "running": "InService"}.get(state, "Terminating")
        shown.append(
            {
                "InstanceId": instance_id,
                "InstanceType": instance.instance_type,
                "AvailabilityZone": instance.availability_zone,
                "LifecycleState": lifecycle,
                "HealthStatus": "Healthy" if state in ("pending", "running") else "Unhealthy",
                "LaunchTemplate": group.template,
                "ProtectedFromScaleIn": False,
            }
        )
    return shown


def _instances(request: dict[str, Any]) -> dict[str, Any]:
    wanted = request.get("InstanceIds") or []
    found = [
        {**member, "AutoScalingGroupName": group.name, "HealthStatus": member["HealthStatus"].upper()}
        for group in current().groups.values()
        for member in _members(group)
        if not wanted or member["InstanceId"] in wanted
    ]
    return {"AutoScalingInstances": found}


def _update(request: dict[str, Any]) -> None:
    group = group_of(request)
    refuse_unsupported(request)
    least, most, desired = (size_of(request, name) for name in ("MinSize", "MaxSize", "DesiredCapacity"))
    bounds = (group.least if least is None else least, group.most if most is None else most)
    within = min(max(group.desired, bounds[0]), bounds[1]) if desired is None else desired
    check_sizes(within, *bounds)
    if request.get("MixedInstancesPolicy") or request.get("LaunchTemplate"):
        group.template, group.overrides, group.distribution = launches_of(request)
    if request.get("VPCZoneIdentifier"):
        group.subnets = subnets_of(request)
    if "CapacityRebalance" in request:
        group.capacity_rebalance = is_true(request["CapacityRebalance"])
    resize(group, within, *bounds)


def _set_desired(request: dict[str, Any]) -> None:
    group = group_of(request)
    desired = size_of(request, "DesiredCapacity")
    if desired is None:
        raise ValidationError("DesiredCapacity is required")
    for bound, verb, beyond in (
        (group.least, "below min", desired < group.least),
        (group.most, "above max", desired > group.most),
    ):
        if beyond:
            raise ValidationError(
                f"New SetDesiredCapacity value {desired} is {verb} value {bound} for the AutoScalingGroup."
            )
    group.desired = desired


def _delete(request: dict[str, Any]) -> None:
    group = group_of(request)
    if (group.members or group.desired) and not is_true(request.get("ForceDelete")):
        raise AutoscalingClientError(
            "ResourceInUse",
            "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) still"
            " in the group.",
        )
    resize(group, 0, 0, 0)
    group.deleting = True
    group.suspended.clear()
    group.scheduled.clear()


def _terminate(request: dict[str, Any]) -> dict[str, Any]:
    instance_id = str(request.get("InstanceId", ""))
    group = next((each for each in current().groups.values() if instance_id in each.members), None)
    if group is None:
        raise ValidationError(
            f"Instance Id not found - No managed instance found for instance ID {instance_id}"
        )
    smaller = is_true(request.get("ShouldDecrementDesiredCapacity"))
    if smaller and group.desired - 1 < group.least:
        raise ValidationError(
            f"Currently, desiredSize equals minSize ({group.least}). Terminating instance without replacement will"
            " violate group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower"
            " group's min size."
        )
    group.desired -= int(smaller)
    del group.members[instance_id]
    backend().terminate_instances([instance_id])
    now = datetime.now(UTC)
    moment = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    cause = f"At {moment} instance {instance_id} was taken out of service in response to a user request."
    activity = note(group, f"Terminating EC2 instance: {instance_id}", cause, "InProgress")
    return {"Activity": _activity(group, activity)}


def _activities(request: dict[str, Any]) -> dict[str, Any]:
    name = request.get("AutoScalingGroupName")
    groups = list(current().groups.values())
    if is_true(request.get("IncludeDeletedGroups")):
        groups += current().deleted_groups
    elif name and name not in current().groups:
        raise not_found(str(name))
    found = [
        _activity(group, activity)
        for group in groups
        if not name or group.name == name
        for activity in reversed(group.activities)
    ]
    return {"Activities": found[: int(request.get("MaxRecords") or 100)]}


def _activity(group: Group, activity: Activity) -> dict[str, Any]:
    return {
        "ActivityId": activity.id,
        "AutoScalingGroupName": group.name,
        "Description": activity.description,
        "Cause": activity.cause,
        "StartTime": activity.started,
        "EndTime": activity.ended,
        "StatusCode": activity.status,
        "StatusMessage": activity.message or None,
        "Progress": 100,
        "Details": "{}",
    }


def _suspend(request: dict[str, Any]) -> None:
    group_of(request).suspended |= set(processes_of(request))


def _resume(request: dict[str, Any]) -> None:
    group_of(request).suspended -= set(processes_of(request))


def _schedule(request: dict[str, Any]) -> None:
    group = group_of(request)
    for name in ("Recurrence", "EndTime", "TimeZone"):
        if request.get(name):
            raise AutoscalingClientError("UnsupportedOperation", f"This sandbox knows no {name}.")
    start = moment_of(request.get("StartTime") or request.get("Time"))
    if start is None:
        raise ValidationError("StartTime is required in this sandbox.")
    if start <= datetime.now(UTC):
        raise ValidationError("Given start time is in the past")
    desired, least, most = (size_of(request, size) for size in ("DesiredCapacity", "MinSize", "MaxSize"))
    if desired is least is most is None:
        raise ValidationError("At least one of DesiredCapacity, MinSize and MaxSize is required")
    bounds = (group.least if least is None else least, group.most if most is None else most)
    check_sizes(min(max(group.desired, bounds[0]), bounds[1]) if desired is None else desired, *bounds)
    action = ScheduledAction(str(request.get("ScheduledActionName", "")), start, desired, least, most)
    others = [each for each in group.scheduled.values() if each.name != action.name]
    if any(each.start == start for each in others):
        raise AutoscalingClientError(
            "AlreadyExists", "A scheduled action with this start time already exists for the group"
        )
    group.scheduled[action.name] = action


def _scheduled(request: dict[str, Any]) -> dict[str, Any]:
    wanted = request.get("ScheduledActionNames") or []
    groups = [group_of(request)] if request.get("AutoScalingGroupName") else list(current().groups.values())
    found = [
        {
            "AutoScalingGroupName": group.name,
            "ScheduledActionName": action.name,
            "Time": action.start,
            "StartTime": action.start,
            "MinSize": action.least,
            "MaxSize": action.most,
            "DesiredCapacity": action.desired,
        }
        for group in groups
        for action in group.scheduled.values()
        if not wanted or action.name in wanted
    ]
    return {"ScheduledUpdateGroupActions": found}


def _unschedule(request: dict[str, Any]) -> None:
    name = str(request.get("ScheduledActionName", ""))
    if group_of(request).scheduled.pop(name, None) is None:
        raise ValidationError("Scheduled action name not found")


def _tag(request: dict[str, Any]) -> None:
    for tag in request.get("Tags", []):
        group = group_of({"AutoScalingGroupName": tag.get("ResourceId")})
        group.tags = [each for each in group.tags if each["Key"] != tag["Key"]] + [group_tag(group.name, tag)]


def _tags(request: dict[str, Any]) -> dict[str, Any]:
    found = [tag for group in current().groups.values() for tag in group.tags]
    for wanted in request.get("Filters") or []:
        key = {"auto-scaling-group": "ResourceId", "key": "Key", "value": "Value"}.get(wanted["Name"])
        if key is None:
            raise ValidationError(f"Unknown filter name {wanted['Name']!r}")
        found = [tag for tag in found if tag.get(key) in wanted.get("Values", [])]
    return {"Tags": found}
