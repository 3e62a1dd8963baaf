"""Which role an instance has, and what that role lets it do, as far as the sandbox's services ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runctl.sandbox.api.policies import Verdict, verdict
from runctl.sandbox.api.rights import policies_of

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
