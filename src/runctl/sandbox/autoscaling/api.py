"""The Auto Scaling API over `Group`s, in place of moto's, whose groups know no market, no replacement and no clock.

What this sandbox does not make (lifecycle hooks, scaling policies, warm pools, launch configurations, weights,
recurrence) is refused, not ignored.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult

from runctl.sandbox.autoscaling.groups import PROCESSES, Activity, Group, ScheduledAction
from runctl.sandbox.autoscaling.keeper import keeper, note, resize
from runctl.sandbox.ec2 import backend
from runctl.sandbox.ec2.fleets import REFUSED_IN_TEMPLATE
from runctl.sandbox.world import ACCOUNT, current

_NAME = re.compile(r"[^:]{1,255}")
_UNSUPPORTED = (
    "LaunchConfigurationName",
    "InstanceId",
    "LifecycleHookSpecificationList",
    "LoadBalancerNames",
    "TargetGroupARNs",
    "TrafficSources",
    "AvailabilityZoneDistribution",
    "InstanceMaintenancePolicy",
    "NewInstancesProtectedFromScaleIn",
    "MaxInstanceLifetime",
)
GRACE_SECONDS = 300
COOLDOWN_SECONDS = 300


def install() -> None:
    """moto answers with these from now on, and refuses the rest of the service."""
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
            setattr(AutoScalingResponse, name, _method(ours.get(name) or _refusal(name)))


def _method(handle: Callable[[dict[str, Any]], Any]) -> Callable[[Any], ActionResult]:
    def respond(self: Any) -> ActionResult:
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
    if not _NAME.fullmatch(name):
        raise ValidationError(
            "AutoScalingGroupName is missing, or longer than 255 characters, or has a colon"
        )
    if name in current().groups:
        raise AutoscalingClientError(
            "AlreadyExists",
            f"AutoScalingGroup by this name already exists - A group with the name {name} already exists",
        )
    _refuse_unsupported(request)
    least, most = _size(request, "MinSize"), _size(request, "MaxSize")
    if least is None or most is None:
        raise ValidationError("MinSize and MaxSize are required")
    desired = _size(request, "DesiredCapacity")
    template, overrides, distribution = _launches(request)
    subnets = _subnets(request)
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
        capacity_rebalance=_is_true(request.get("CapacityRebalance")),
        tags=[_group_tag(name, tag) for tag in request.get("Tags", [])],
    )
    _check_sizes(group.desired, least, most)
    current().groups[name] = group


def _refuse_unsupported(request: Mapping[str, Any]) -> None:
    for name in _UNSUPPORTED:
        if request.get(name) not in (None, [], {}, False, "false"):
            raise AutoscalingClientError("UnsupportedOperation", f"This sandbox knows no {name}.")


def _launches(
    request: Mapping[str, Any],
) -> tuple[Mapping[str, Any], list[Mapping[str, Any]], Mapping[str, Any] | None]:
    """Template, overrides and distribution. The template's version is settled at each launch, as AWS does it."""
    policy = request.get("MixedInstancesPolicy")
    if bool(policy) == bool(request.get("LaunchTemplate")):
        raise ValidationError(
            "Valid requests must contain either LaunchTemplate, LaunchConfigurationName, InstanceId or"
            " MixedInstancesPolicy parameter."
        )
    named = policy["LaunchTemplate"]["LaunchTemplateSpecification"] if policy else request["LaunchTemplate"]
    overrides = list(policy["LaunchTemplate"].get("Overrides", [])) if policy else []
    if len(overrides) > 40:
        raise ValidationError("The number of launch template overrides must not exceed 40.")
    for override in overrides:
        for part in override:
            if part != "InstanceType":
                raise AutoscalingClientError(
                    "UnsupportedOperation", f"This sandbox knows no {part} in an override."
                )
    region_backend = backend()
    template = (
        region_backend.get_launch_template(named["LaunchTemplateId"])
        if "LaunchTemplateId" in named
        else region_backend.get_launch_template_by_name(named.get("LaunchTemplateName", ""))
    )
    version = str(named.get("Version") or "$Default")
    if REFUSED_IN_TEMPLATE in template.get_version(version).data:
        if policy:
            raise ValidationError(
                "Incompatible launch template: You cannot use a launch template that is set to request Spot Instances"
                " (InstanceMarketOptions) when you configure an Auto Scaling group with a mixed instances policy."
            )
        raise AutoscalingClientError(
            "UnsupportedOperation",
            "This sandbox knows no group whose template says the market: mix instances.",
        )
    specification = {"LaunchTemplateId": template.id, "Version": version}
    return specification, overrides, dict(policy.get("InstancesDistribution") or {}) if policy else None


def _subnets(request: Mapping[str, Any]) -> tuple[str, ...]:
    text = str(request.get("VPCZoneIdentifier") or "")
    ids = tuple(part.strip() for part in text.split(",") if part.strip())
    if not ids:
        raise ValidationError("At least one VPC Subnet is required in this sandbox (VPCZoneIdentifier).")
    zones = [backend().get_subnet(subnet).availability_zone for subnet in ids]
    if len(set(zones)) < len(zones):
        raise ValidationError(
            "The subnets are in the same Availability Zone; this sandbox takes one for each."
        )
    return ids


def _check_sizes(desired: int, least: int, most: int) -> None:
    if least > most:
        raise ValidationError(f"Max bound, {most}, must be greater than or equal to min bound, {least}")
    if not least <= desired <= most:
        raise ValidationError(
            f"Desired capacity:{desired} must be between the specified min size:{least} and max size:{most}"
        )


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
        "SuspendedProcesses": [
            {"ProcessName": name, "SuspensionReason": "User suspended"} for name in sorted(group.suspended)
        ],
        "VPCZoneIdentifier": ",".join(group.subnets),
        "Tags": group.tags,
        "TerminationPolicies": ["Default"],
        "NewInstancesProtectedFromScaleIn": False,
        "CapacityRebalance": group.capacity_rebalance,
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
    group = _group(request)
    _refuse_unsupported(request)
    least, most, desired = (_size(request, name) for name in ("MinSize", "MaxSize", "DesiredCapacity"))
    bounds = (group.least if least is None else least, group.most if most is None else most)
    within = min(max(group.desired, bounds[0]), bounds[1]) if desired is None else desired
    _check_sizes(within, *bounds)
    if request.get("MixedInstancesPolicy") or request.get("LaunchTemplate"):
        group.template, group.overrides, group.distribution = _launches(request)
    if request.get("VPCZoneIdentifier"):
        group.subnets = _subnets(request)
    if "CapacityRebalance" in request:
        group.capacity_rebalance = _is_true(request["CapacityRebalance"])
    resize(group, within, *bounds)


def _set_desired(request: dict[str, Any]) -> None:
    group = _group(request)
    desired = _size(request, "DesiredCapacity")
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
    group = _group(request)
    if (group.members or group.desired) and not _is_true(request.get("ForceDelete")):
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
    smaller = _is_true(request.get("ShouldDecrementDesiredCapacity"))
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
    if _is_true(request.get("IncludeDeletedGroups")):
        groups += current().deleted_groups
    elif name and name not in current().groups:
        raise _not_found(str(name))
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
    _group(request).suspended |= set(_processes(request))


def _resume(request: dict[str, Any]) -> None:
    _group(request).suspended -= set(_processes(request))


def _processes(request: Mapping[str, Any]) -> list[str]:
    names = [str(name) for name in request.get("ScalingProcesses") or PROCESSES]
    for name in names:
        if name not in PROCESSES:
            raise ValidationError(f"Invalid scaling process {name!r}")
    return names


def _schedule(request: dict[str, Any]) -> None:
    group = _group(request)
    for name in ("Recurrence", "EndTime", "TimeZone"):
        if request.get(name):
            raise AutoscalingClientError("UnsupportedOperation", f"This sandbox knows no {name}.")
    start = _moment(request.get("StartTime") or request.get("Time"))
    if start is None:
        raise ValidationError("StartTime is required in this sandbox.")
    if start <= datetime.now(UTC):
        raise ValidationError("Given start time is in the past")
    desired, least, most = (_size(request, size) for size in ("DesiredCapacity", "MinSize", "MaxSize"))
    if desired is least is most is None:
        raise ValidationError("At least one of DesiredCapacity, MinSize and MaxSize is required")
    bounds = (group.least if least is None else least, group.most if most is None else most)
    _check_sizes(min(max(group.desired, bounds[0]), bounds[1]) if desired is None else desired, *bounds)
    action = ScheduledAction(str(request.get("ScheduledActionName", "")), start, desired, least, most)
    others = [each for each in group.scheduled.values() if each.name != action.name]
    if any(each.start == start for each in others):
        raise AutoscalingClientError(
            "AlreadyExists", "A scheduled action with this start time already exists for the group"
        )
    group.scheduled[action.name] = action


def _scheduled(request: dict[str, Any]) -> dict[str, Any]:
    wanted = request.get("ScheduledActionNames") or []
    groups = [_group(request)] if request.get("AutoScalingGroupName") else list(current().groups.values())
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
    if _group(request).scheduled.pop(name, None) is None:
        raise ValidationError("Scheduled action name not found")


def _tag(request: dict[str, Any]) -> None:
    for tag in request.get("Tags", []):
        group = _group({"AutoScalingGroupName": tag.get("ResourceId")})
        group.tags = [each for each in group.tags if each["Key"] != tag["Key"]] + [
            _group_tag(group.name, tag)
        ]


def _tags(request: dict[str, Any]) -> dict[str, Any]:
    found = [tag for group in current().groups.values() for tag in group.tags]
    for wanted in request.get("Filters") or []:
        key = {"auto-scaling-group": "ResourceId", "key": "Key", "value": "Value"}.get(wanted["Name"])
        if key is None:
            raise ValidationError(f"Unknown filter name {wanted['Name']!r}")
        found = [tag for tag in found if tag.get(key) in wanted.get("Values", [])]
    return {"Tags": found}


def _group(request: Mapping[str, Any]) -> Group:
    """Raises ValidationError where there is none, or where it is being deleted."""
    name = str(request.get("AutoScalingGroupName", ""))
    group = current().groups.get(name)
    if group is None:
        raise _not_found(name)
    if group.deleting:
        raise AutoscalingClientError("ScalingActivityInProgress", f"The group {name} is being deleted")
    return group


def _not_found(name: str) -> ValidationError:
    return ValidationError(f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")


def _group_tag(name: str, tag: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "ResourceId": name,
        "ResourceType": "auto-scaling-group",
        "Key": tag["Key"],
        "Value": tag.get("Value", ""),
        "PropagateAtLaunch": _is_true(tag.get("PropagateAtLaunch")),
    }


def _size(request: Mapping[str, Any], name: str) -> int | None:
    value = request.get(name)
    if value is None:
        return None
    if int(value) < 0:
        raise ValidationError(f"{name} must not be negative")
    return int(value)


def _moment(value: Any) -> datetime | None:
    if value is None or isinstance(value, datetime):
        moment = value
    else:
        moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _is_true(value: Any) -> bool:
    return value is True or str(value).lower() == "true"
