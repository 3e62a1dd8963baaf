"""Instances, volumes, attachments and snapshots: from what EC2 describes to Terraform's arguments. Pure.

Sources: ``aws_instance``, ``aws_ebs_volume``, ``aws_volume_attachment``, ``aws_ebs_snapshot`` in the documentation of
Terraform's AWS provider; DescribeInstances, DescribeVolumes, DescribeSnapshots in EC2's API reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runctl.providers.abilities.inventory import ResourceKind
from runctl.providers.abilities.terraform import Block, TerraformResource
from runctl.providers.aws.calls.parse import tags_of
from runctl.providers.aws.ebs.type_table import TYPES as VOLUME_TYPES
from runctl.providers.aws.terraform.names import TYPES, Names, ignoring, settable

Described = Mapping[str, Any]

IGNORED = ("user_data", "user_data_replace_on_change")
"""Of the first, Terraform's provider knows a checksum after an import; of the second it only remembers what was said.
Both would be changes."""
PROVISIONED = frozenset(name for name, disk in VOLUME_TYPES.items() if disk.iops is not None)
"""Volume types that have IOPS of their own."""


def instance(
    item: Described, disks: Mapping[str, Described], shutdown: str | None, names: Names, region: str
) -> TerraformResource:
    """``disks`` are the described volumes by id; ``shutdown`` is what the instance does when it shuts itself down."""
    body: dict[str, object] = {"ami": item["ImageId"], "instance_type": item["InstanceType"]}
    if item.get("SubnetId"):
        body["subnet_id"] = item["SubnetId"]
    groups = sorted(group["GroupId"] for group in item.get("SecurityGroups", ()))
    if groups:
        body["vpc_security_group_ids"] = [
            names.refer(ResourceKind.SECURITY_GROUP, group, region) for group in groups
        ]
    profile = item.get("IamInstanceProfile", {}).get("Arn", "").rpartition("/")[2]
    if profile:
        body["iam_instance_profile"] = names.refer(ResourceKind.INSTANCE_PROFILE, profile, None, "name")
    placed = item.get("Placement", {}).get("GroupName")
    if placed:
        body["placement_group"] = names.refer(ResourceKind.PLACEMENT_GROUP, placed, region)
    if item.get("KeyName"):
        body["key_name"] = item["KeyName"]
    if shutdown:
        body["instance_initiated_shutdown_behavior"] = shutdown
    if item.get("InstanceLifecycle") == "spot":
        options = {"instance_interruption_behavior": "terminate", "spot_instance_type": "one-time"}
        body["instance_market_options"] = Block({"market_type": "spot", "spot_options": Block(options)})
    metadata = item.get("MetadataOptions")
    if metadata:
        body["metadata_options"] = Block(
            {
                "http_endpoint": metadata["HttpEndpoint"],
                "http_tokens": metadata["HttpTokens"],
                "http_put_response_hop_limit": metadata["HttpPutResponseHopLimit"],
                "instance_metadata_tags": metadata.get("InstanceMetadataTags", "disabled"),
            }
        )
    root = _root(item, disks)
    if root is not None:
        body["root_block_device"] = Block(root)
    body["tags"] = settable(tags_of(item.get("Tags")))
    body["lifecycle"] = Block(ignoring(*IGNORED))
    return TerraformResource(
        TYPES[ResourceKind.INSTANCE],
        names.label(ResourceKind.INSTANCE, item["InstanceId"], region),
        item["InstanceId"],
        body,
        region,
        _about_disks(item),
    )


def _root(item: Described, disks: Mapping[str, Described]) -> dict[str, object] | None:
    for mapping in item.get("BlockDeviceMappings", ()):
        disk = disks.get(mapping.get("Ebs", {}).get("VolumeId", ""))
        if mapping["DeviceName"] == item.get("RootDeviceName") and disk is not None:
            return {
                "delete_on_termination": mapping["Ebs"]["DeleteOnTermination"],
                **_shape(disk, "volume_size", "volume_type"),
                "tags": settable(tags_of(disk.get("Tags"))),
            }
    return None


def _shape(disk: Described, size: str, kind: str) -> dict[str, object]:
    found: dict[str, object] = {size: disk["Size"], kind: disk["VolumeType"], "encrypted": disk["Encrypted"]}
    if disk["VolumeType"] in PROVISIONED and disk.get("Iops"):
        found["iops"] = disk["Iops"]
    if disk.get("Throughput"):
        found["throughput"] = disk["Throughput"]
    return found


def _about_disks(item: Described) -> str:
    others = [
        mapping["DeviceName"]
        for mapping in item.get("BlockDeviceMappings", ())
        if mapping["DeviceName"] != item.get("RootDeviceName")
        and mapping.get("Ebs", {}).get("DeleteOnTermination")
    ]
    return f"It has a disk of its own at {', '.join(others)}, which goes with it." if others else ""


def volume(item: Described, names: Names, region: str) -> TerraformResource:
    """What is on it cannot be made again: Terraform must be told twice to destroy it."""
    body: dict[str, object] = {
        "availability_zone": item["AvailabilityZone"],
        **_shape(item, "size", "type"),
    }
    if item.get("SnapshotId"):
        body["snapshot_id"] = names.refer(ResourceKind.SNAPSHOT, item["SnapshotId"], region)
    if item.get("MultiAttachEnabled"):
        body["multi_attach_enabled"] = True
    body["tags"] = settable(tags_of(item.get("Tags")))
    body["lifecycle"] = Block({"prevent_destroy": True})
    return TerraformResource(
        TYPES[ResourceKind.VOLUME],
        names.label(ResourceKind.VOLUME, item["VolumeId"], region),
        item["VolumeId"],
        body,
        region,
    )


def attachments(item: Described, names: Names, region: str) -> Iterator[TerraformResource]:
    """Those of one described volume to instances that are written too."""
    found = sorted(_lasting(item), key=lambda each: str(each["InstanceId"]))
    for each in found:
        target = names.refer(ResourceKind.INSTANCE, each["InstanceId"], region)
        if isinstance(target, str):
            continue
        label = names.label(ResourceKind.VOLUME, item["VolumeId"], region)
        if len(found) > 1:
            label = f"{label}_{names.label(ResourceKind.INSTANCE, each['InstanceId'], region)}"
        yield TerraformResource(
            "aws_volume_attachment",
            label,
            f"{each['Device']}:{item['VolumeId']}:{each['InstanceId']}",
            {
                "device_name": each["Device"],
                "instance_id": target,
                "volume_id": names.refer(ResourceKind.VOLUME, item["VolumeId"], region),
            },
            region,
        )


def _lasting(item: Described) -> Sequence[Described]:
    return [
        each
        for each in item.get("Attachments", ())
        if each.get("State") in {"attached", "attaching", "busy"} and not each.get("DeleteOnTermination")
    ]


def snapshot(item: Described, names: Names, region: str) -> TerraformResource:
    """A snapshot of runctl's."""
    body: dict[str, object] = {"volume_id": names.refer(ResourceKind.VOLUME, item["VolumeId"], region)}
    if item.get("Description"):
        body["description"] = item["Description"]
    body["tags"] = settable(tags_of(item.get("Tags")))
    body["lifecycle"] = Block({"prevent_destroy": True})
    return TerraformResource(
        TYPES[ResourceKind.SNAPSHOT],
        names.label(ResourceKind.SNAPSHOT, item["SnapshotId"], region),
        item["SnapshotId"],
        body,
        region,
    )
