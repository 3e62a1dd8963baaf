"""What EC2 refuses of attaching and detaching, and in which words: decided over moto's volumes and instances."""

from __future__ import annotations

import re
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instance_types import INSTANCE_TYPES

SHARED_BY = 16
"""So many instances may have one volume with Multi-Attach."""
_DEVICE = re.compile(r"/dev/(sd[a-z]|xvd[a-z]|xvd[b-d][a-z])[1-9]?[0-9]?")


def check_attach(volume: Any, instance: Any, device: str | None) -> None:
    """Raises EC2's own error when that volume cannot be attached to that instance under that name."""
    if not device:
        raise EC2ClientError("MissingParameter", "The request must contain the parameter device")
    if _DEVICE.fullmatch(device) is None:
        raise EC2ClientError(
            "InvalidParameterValue",
            f"Value ({device}) for parameter device is invalid. {device} is not a valid EBS device name.",
        )
    _check_free(volume, instance)
    if not volume.held and volume.status != "available":
        raise EC2ClientError("IncorrectState", f"{volume.id} is not 'available'.")
    if volume.availability_zone != instance.availability_zone:
        raise EC2ClientError(
            "InvalidVolume.ZoneMismatch",
            f"The volume '{volume.id}' is not in the same availability zone as instance '{instance.id}'",
        )
    if instance._state.name not in {"running", "stopped"}:
        raise EC2ClientError("IncorrectState", f"Instance '{instance.id}' is not 'running'.")
    if device in instance.block_device_mapping:
        raise EC2ClientError(
            "InvalidParameterValue",
            f"Invalid value '{device}' for unixDevice. Attachment point {device} is already in use",
        )
    most = attachments_of(instance.instance_type)
    if len(instance.block_device_mapping) >= most:
        raise EC2ClientError(
            "AttachmentLimitExceeded",
            f"The maximum number of {most} EBS volumes of a {instance.instance_type} is attached to '{instance.id}'",
        )


def _check_free(volume: Any, instance: Any) -> None:
    in_use = EC2ClientError("VolumeInUse", f"{volume.id} is already attached to an instance")
    if volume.held and not volume.multi_attach_enabled:
        raise in_use
    if any(attachment.instance is instance for attachment in volume.held):
        raise in_use
    if volume.multi_attach_enabled and not is_nitro(instance.instance_type):
        raise EC2ClientError(
            "UnsupportedOperation",
            f"Multi-Attach enabled volume '{volume.id}' can only be attached to instances built on the Nitro System,"
            f" which {instance.instance_type} is not",
        )
    if len(volume.held) >= SHARED_BY:
        raise EC2ClientError(
            "AttachmentLimitExceeded", f"{volume.id} is attached to {SHARED_BY} instances already"
        )


def attachment_meant(volume: Any, instance_id: str | None, device: str | None) -> Any:
    """The attachment that a DetachVolume means. Raises EC2's own error when there is none, or it is ambiguous."""
    if not volume.held:
        raise EC2ClientError("IncorrectState", f"Volume '{volume.id}' is in the 'available' state.")
    if not instance_id and len(volume.held) > 1:
        raise EC2ClientError(
            "MissingParameter",
            f"The parameter instanceId must be specified: '{volume.id}' is attached to {len(volume.held)} instances",
        )
    found = [attachment for attachment in volume.held if instance_id in {None, "", attachment.instance.id}]
    if not found or device not in {None, "", found[0].device}:
        raise EC2ClientError(
            "InvalidAttachment.NotFound",
            f"The volume '{volume.id}' is not attached to instance '{instance_id}' as device '{device}'.",
        )
    instance = found[0].instance
    if found[0].device == instance.root_device_name and instance._state.name != "stopped":
        raise EC2ClientError(
            "OperationNotPermitted",
            f"Unable to detach root volume '{volume.id}' from instance '{instance.id}'",
        )
    return found[0]


def is_nitro(instance_type: str) -> bool:
    """Whether instances of that type are built on the Nitro System; bare metal is."""
    facts = INSTANCE_TYPES.get(instance_type, {})
    return facts.get("Hypervisor") == "nitro" or bool(facts.get("BareMetal"))


def attachments_of(instance_type: str) -> int:
    """How many EBS volumes such an instance can have, with its root volume."""
    return int(INSTANCE_TYPES.get(instance_type, {}).get("EbsInfo", {}).get("MaximumEbsAttachments", 40))
