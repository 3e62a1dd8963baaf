"""Launch templates and Auto Scaling groups with their schedules, in Terraform's arguments.

Sources: ``aws_launch_template``, ``aws_autoscaling_group``, ``aws_autoscaling_schedule`` in the documentation of
Terraform's AWS provider.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runctl.core.clock import rfc3339
from runctl.providers.abilities.inventory import ResourceKind
from runctl.providers.abilities.terraform import Block, TerraformResource
from runctl.providers.aws.calls.parse import tags_of, utc
from runctl.providers.aws.terraform.names import TYPES, Names, ignoring, label_of, settable

Described = Mapping[str, Any]


def launch_template(item: Described, version: Described, names: Names, region: str) -> TerraformResource:
    """``version`` is the template's latest one, which is what Terraform reads."""
    data = version["LaunchTemplateData"]
    body: dict[str, object] = {"name": item["LaunchTemplateName"]}
    for argument, key in (
        ("image_id", "ImageId"),
        ("instance_type", "InstanceType"),
        ("key_name", "KeyName"),
        ("instance_initiated_shutdown_behavior", "InstanceInitiatedShutdownBehavior"),
    ):
        if data.get(key):
            body[argument] = data[key]
    if data.get("SecurityGroupIds"):
        body["vpc_security_group_ids"] = [
            names.refer(ResourceKind.SECURITY_GROUP, group, region) for group in data["SecurityGroupIds"]
        ]
    if data.get("UserData"):
        body["user_data"] = data["UserData"]
    profile = data.get("IamInstanceProfile", {})
    if profile.get("Name"):
        named = names.refer(ResourceKind.INSTANCE_PROFILE, profile["Name"], None, "name")
        body["iam_instance_profile"] = Block({"name": named})
    elif profile.get("Arn"):
        body["iam_instance_profile"] = Block({"arn": profile["Arn"]})
    metadata = data.get("MetadataOptions")
    if metadata:
        body["metadata_options"] = Block(
            {
                argument: metadata[key]
                for argument, key in (
                    ("http_endpoint", "HttpEndpoint"),
                    ("http_tokens", "HttpTokens"),
                    ("http_put_response_hop_limit", "HttpPutResponseHopLimit"),
                    ("instance_metadata_tags", "InstanceMetadataTags"),
                )
                if key in metadata
            }
        )
    body["block_device_mappings"] = tuple(
        Block({"device_name": mapping["DeviceName"], "ebs": Block(_disk(mapping["Ebs"]))})
        for mapping in data.get("BlockDeviceMappings", ())
        if mapping.get("Ebs")
    )
    body["tag_specifications"] = tuple(
        Block({"resource_type": each["ResourceType"], "tags": settable(tags_of(each.get("Tags")))})
        for each in data.get("TagSpecifications", ())
    )
    body["tags"] = settable(tags_of(item.get("Tags")))
    return TerraformResource(
        TYPES[ResourceKind.LAUNCH_TEMPLATE],
        names.label(ResourceKind.LAUNCH_TEMPLATE, item["LaunchTemplateId"], region),
        item["LaunchTemplateId"],
        {name: value for name, value in body.items() if value != ()},
        region,
    )


def _disk(ebs: Described) -> dict[str, object]:
    found: dict[str, object] = {
        argument: ebs[key]
        for argument, key in (
            ("volume_size", "VolumeSize"),
            ("volume_type", "VolumeType"),
            ("iops", "Iops"),
            ("throughput", "Throughput"),
            ("snapshot_id", "SnapshotId"),
            ("kms_key_id", "KmsKeyId"),
        )
        if ebs.get(key)
    }
    # Of these two the provider takes texts, as "not said" is another thing than "false".
    for argument, key in (("encrypted", "Encrypted"), ("delete_on_termination", "DeleteOnTermination")):
        if key in ebs:
            found[argument] = "true" if ebs[key] else "false"
    return found


SIZES = ("min_size", "max_size", "desired_capacity")
"""The group's machine, its schedule and runctl change these while the run lasts."""
NOT_READ = (
    "force_delete",
    "force_delete_warm_pool",
    "ignore_failed_scaling_activities",
    "wait_for_capacity_timeout",
)
"""What Terraform's provider only remembers, so that its defaults would be changes after an import."""


def group(item: Described, names: Names, region: str) -> TerraformResource:
    """Its size is left to the run."""
    body: dict[str, object] = {
        "name": item["AutoScalingGroupName"],
        "min_size": item["MinSize"],
        "max_size": item["MaxSize"],
        "desired_capacity": item["DesiredCapacity"],
    }
    if item.get("VPCZoneIdentifier"):
        body["vpc_zone_identifier"] = sorted(item["VPCZoneIdentifier"].split(","))
    elif item.get("AvailabilityZones"):
        body["availability_zones"] = sorted(item["AvailabilityZones"])
    if item.get("PlacementGroup"):
        body["placement_group"] = item["PlacementGroup"]
    if item.get("CapacityRebalance"):
        body["capacity_rebalance"] = True
    suspended = sorted(each["ProcessName"] for each in item.get("SuspendedProcesses", ()))
    if suspended:
        body["suspended_processes"] = suspended
    preference = item.get("CapacityReservationSpecification", {}).get("CapacityReservationPreference")
    if preference:
        body["capacity_reservation_specification"] = Block({"capacity_reservation_preference": preference})
    policy = item.get("MixedInstancesPolicy")
    if policy:
        body["mixed_instances_policy"] = Block(_mixed(policy, names, region))
    elif item.get("LaunchTemplate"):
        body["launch_template"] = Block(_template(item["LaunchTemplate"], names, region, "id"))
    at_launch = {each["Key"]: each.get("PropagateAtLaunch", False) for each in item.get("Tags", ())}
    body["tag"] = tuple(
        Block({"key": key, "value": value, "propagate_at_launch": at_launch[key]})
        for key, value in settable(tags_of(item.get("Tags"))).items()
    )
    body["lifecycle"] = Block(ignoring(*SIZES, *NOT_READ))
    return TerraformResource(
        TYPES[ResourceKind.GROUP],
        names.label(ResourceKind.GROUP, item["AutoScalingGroupName"], region),
        item["AutoScalingGroupName"],
        body,
        region,
    )


def _template(specification: Described, names: Names, region: str, argument: str) -> dict[str, object]:
    template = specification["LaunchTemplateId"]
    return {
        argument: names.refer(ResourceKind.LAUNCH_TEMPLATE, template, region),
        "version": specification.get("Version", "$Default"),
    }


def _mixed(policy: Described, names: Names, region: str) -> dict[str, object]:
    template, distribution = policy["LaunchTemplate"], policy.get("InstancesDistribution", {})
    of_template: dict[str, object] = {
        "launch_template_specification": Block(
            _template(template["LaunchTemplateSpecification"], names, region, "launch_template_id")
        )
    }
    overrides = tuple(
        Block({"instance_type": each["InstanceType"]}) for each in template.get("Overrides", ())
    )
    if overrides:
        of_template["override"] = overrides
    found: dict[str, object] = {}
    if distribution:
        found["instances_distribution"] = Block(
            {
                argument: distribution[key]
                for argument, key in (
                    ("on_demand_allocation_strategy", "OnDemandAllocationStrategy"),
                    ("on_demand_base_capacity", "OnDemandBaseCapacity"),
                    ("on_demand_percentage_above_base_capacity", "OnDemandPercentageAboveBaseCapacity"),
                    ("spot_allocation_strategy", "SpotAllocationStrategy"),
                    ("spot_max_price", "SpotMaxPrice"),
                )
                if distribution.get(key) not in (None, "")
            }
        )
    return {**found, "launch_template": Block(of_template)}


def schedules(items: list[Described], names: Names, region: str) -> Iterator[TerraformResource]:
    """What the groups do at a time, from DescribeScheduledActions."""
    for item in sorted(items, key=lambda each: (each["AutoScalingGroupName"], each["ScheduledActionName"])):
        name, action = item["AutoScalingGroupName"], item["ScheduledActionName"]
        body: dict[str, object] = {
            "autoscaling_group_name": names.refer(ResourceKind.GROUP, name, region, "name"),
            "scheduled_action_name": action,
        }
        for argument, key in (("start_time", "StartTime"), ("end_time", "EndTime")):
            if item.get(key):
                body[argument] = rfc3339(utc(item[key]))
        for argument, key in (
            ("min_size", "MinSize"),
            ("max_size", "MaxSize"),
            ("desired_capacity", "DesiredCapacity"),
        ):
            body[argument] = item.get(key, -1)
        if item.get("Recurrence"):
            body["recurrence"] = item["Recurrence"]
        label = label_of(f"{names.label(ResourceKind.GROUP, name, region)}_{action}")
        yield TerraformResource("aws_autoscaling_schedule", label, f"{name}/{action}", body, region)
