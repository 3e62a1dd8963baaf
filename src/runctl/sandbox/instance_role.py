"""Which role an instance has, and what that role lets it do, as far as the sandbox's services ask."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

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
    documents: list[Any] = list(role.policies.values())
    documents += [policy.default_version.document for policy in role.managed_policies.values()]
    return any(_allows(document, SSM_ACTION) for document in documents)


def _allows(document: Any, action: str) -> bool:
    """Whether a policy's statements allow the action to everything; denials are not looked at."""
    try:
        statements = (json.loads(document) if isinstance(document, str) else document)["Statement"]
    except (ValueError, KeyError, TypeError):
        return False
    for statement in [statements] if isinstance(statements, dict) else statements:
        if statement.get("Effect") == "Allow" and any(
            fnmatchcase(action.lower(), pattern.lower()) for pattern in _words(statement.get("Action", []))
        ):
            return True
    return False


def _words(value: str | Iterable[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
