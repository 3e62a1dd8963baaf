"""What an instance's metadata says of it, read from moto's instance, and what its role lets SSM's agent do."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from moto.ec2.models import ec2_backends

from runctl.sandbox.api.policies import Verdict, verdict
from runctl.sandbox.api.rights import policies_of
from runctl.sandbox.world import ACCOUNT

SSM_POLICIES = frozenset(
    {
        "AmazonSSMManagedInstanceCore",
        "AmazonSSMManagedEC2InstanceDefaultPolicy",
        "AmazonEC2RoleforSSM",
        "AdministratorAccess",
    }
)
"""AWS's own policies with which the SSM agent can register."""
SSM_ACTION = "ssm:UpdateInstanceInformation"


@dataclass(frozen=True)
class InstanceRole:
    """An instance's profile and the role in it."""

    profile_arn: str
    profile_id: str
    name: str
    arn: str
    registers_with_ssm: bool


@dataclass(frozen=True)
class InstanceFacts:
    """What an instance's metadata says of it."""

    instance_id: str
    instance_type: str
    image_id: str
    zone: str
    region: str
    private_ip: str
    public_ip: str | None
    mac: str
    architecture: str
    lifecycle: str
    """``spot`` or ``on-demand``."""
    launched: datetime
    role: InstanceRole | None = None
    tags: Mapping[str, str] | None = None
    """``None`` when the instance does not show its tags."""
    block_devices: Mapping[str, str] = field(default_factory=dict)
    """``ami``, ``root``, ``ebs1`` … to device names."""
    security_groups: tuple[str, ...] = ()
    user_data: bytes | None = None
    tokens_required: bool = True
    hop_limit: int = 2
    enabled: bool = True


def facts_of(instance: Any, region: str) -> InstanceFacts:
    """The facts of moto's instance, as they are now."""
    options = instance.metadata_options
    backend = ec2_backends[ACCOUNT][region]
    tags = None
    if options.instance_metadata_tags == "enabled":
        tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
    devices = {"ami": instance.root_device_name, "root": instance.root_device_name}
    extra = sorted(name for name in instance.block_device_mapping if name != instance.root_device_name)
    devices.update({f"ebs{number}": name for number, name in enumerate(extra, 1)})
    nic = next(iter(instance.nics.values()), None)
    return InstanceFacts(
        instance_id=instance.id,
        instance_type=instance.instance_type,
        image_id=instance.image_id,
        zone=instance.availability_zone,
        region=region,
        private_ip=instance.private_ip,
        public_ip=instance.public_ip,
        mac=nic.mac_address if nic is not None else "02:00:00:00:00:00",
        architecture=instance.architecture,
        lifecycle="spot" if instance.lifecycle == "spot" else "on-demand",
        launched=instance.launch_time.replace(tzinfo=UTC),
        role=role_of(backend, instance.id),
        tags=tags,
        block_devices=devices,
        security_groups=tuple(group.name for group in instance.security_groups),
        # moto keeps it as it was sent, encoded; a machine reads what was meant.
        user_data=base64.b64decode(str(instance.user_data)) if instance.user_data else None,
        tokens_required=options.http_tokens == "required",
        hop_limit=options.http_put_response_hop_limit,
        enabled=options.http_endpoint == "enabled",
    )


def role_of(ec2_backend: Any, instance_id: str) -> InstanceRole | None:
    """The role behind the instance's profile in moto's EC2; ``None`` without a profile or with an empty one."""
    association = ec2_backend.iam_instance_profile_associations.get(instance_id)
    if association is None or not association.iam_instance_profile.roles:
        return None
    profile = association.iam_instance_profile
    role = profile.roles[0]
    return InstanceRole(profile.arn, profile.id, role.name, role.arn, _registers(role))


def _registers(role: Any) -> bool:
    if any(arn.rpartition("/")[2] in SSM_POLICIES for arn in role.managed_policies):
        return True
    return verdict(policies_of(role), SSM_ACTION, None) is Verdict.ALLOWED
