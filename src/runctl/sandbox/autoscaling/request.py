"""What a request to the Auto Scaling API says, checked as AWS checks it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError

from runctl.sandbox.autoscaling.groups import PROCESSES, Group
from runctl.sandbox.ec2 import backend
from runctl.sandbox.ec2.fleet_pools import REFUSED_IN_TEMPLATE
from runctl.sandbox.world import current

GROUP_NAME = re.compile(r"[^:]{1,255}")
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


def refuse_unsupported(request: Mapping[str, Any]) -> None:
    """Raises AutoscalingClientError for what this sandbox does not make."""
    for name in _UNSUPPORTED:
        if request.get(name) not in (None, [], {}, False, "false"):
            raise AutoscalingClientError("UnsupportedOperation", f"This sandbox knows no {name}.")


def launches_of(
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


def subnets_of(request: Mapping[str, Any]) -> tuple[str, ...]:
    """One in each zone."""
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


def placement_of(request: Mapping[str, Any], subnets: Sequence[str]) -> str:
    """The placement group, which must be there; one that is a cluster has a single Availability Zone."""
    name = str(request.get("PlacementGroup") or "")
    if not name:
        return ""
    found = [group for group in backend().list_placement_groups([], {}) if group.group_name == name]
    if not found:
        raise ValidationError(f"The placement group {name} does not exist.")
    if found[0].strategy == "cluster" and len(subnets) > 1:
        raise ValidationError("You cannot specify multiple Availability Zones and a cluster placement group.")
    return name


def check_sizes(desired: int, least: int, most: int) -> None:
    """Raises ValidationError where a group cannot have these sizes at once."""
    if least > most:
        raise ValidationError(f"Max bound, {most}, must be greater than or equal to min bound, {least}")
    if not least <= desired <= most:
        raise ValidationError(
            f"Desired capacity:{desired} must be between the specified min size:{least} and max size:{most}"
        )


def size_of(request: Mapping[str, Any], name: str) -> int | None:
    """One of the three sizes; ``None`` where it is not given."""
    value = request.get(name)
    if value is None:
        return None
    if int(value) < 0:
        raise ValidationError(f"{name} must not be negative")
    return int(value)


def moment_of(value: Any) -> datetime | None:
    """A time as a client gives it, in UTC."""
    if value is None or isinstance(value, datetime):
        moment = value
    else:
        moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def is_true(value: Any) -> bool:
    """Whether a flag is set: a client sends text."""
    return value is True or str(value).lower() == "true"


def group_tag(name: str, tag: Mapping[str, Any]) -> dict[str, Any]:
    """A tag as the group has it."""
    return {
        "ResourceId": name,
        "ResourceType": "auto-scaling-group",
        "Key": tag["Key"],
        "Value": tag.get("Value", ""),
        "PropagateAtLaunch": is_true(tag.get("PropagateAtLaunch")),
    }


def processes_of(request: Mapping[str, Any]) -> list[str]:
    """The scaling processes that are named; all where none is."""
    names = [str(name) for name in request.get("ScalingProcesses") or PROCESSES]
    for name in names:
        if name not in PROCESSES:
            raise ValidationError(f"Invalid scaling process {name!r}")
    return names


def group_of(request: Mapping[str, Any]) -> Group:
    """Raises ValidationError where there is none, or where it is being deleted."""
    name = str(request.get("AutoScalingGroupName", ""))
    group = current().groups.get(name)
    if group is None:
        raise not_found(name)
    if group.deleting:
        raise AutoscalingClientError("ScalingActivityInProgress", f"The group {name} is being deleted")
    return group


def not_found(name: str) -> ValidationError:
    """The refusal for a name that no group has."""
    return ValidationError(f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
