"""IAM roles with their policies, and the instance profiles that carry them, in Terraform's arguments.

Sources: ``aws_iam_role``, ``aws_iam_role_policy``, ``aws_iam_role_policy_attachment``, ``aws_iam_instance_profile`` in
the documentation of Terraform's AWS provider.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runctl.providers.abilities.inventory import ResourceKind
from runctl.providers.abilities.terraform import Json, TerraformResource
from runctl.providers.aws.calls.parse import tags_of
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.terraform.names import TYPES, Names, label_of, settable

USUAL_SESSION = 3600
"""Seconds that a role is assumed for at most, where nobody says."""


def role(session: AwsSession, name: str, names: Names) -> Iterator[TerraformResource]:
    """The role, its own policies and those that are attached to it."""
    iam: Any = session.iam
    item = iam.get_role(RoleName=name)["Role"]
    label = names.label(ResourceKind.ROLE, name, None)
    body: dict[str, object] = {"name": name, **_path(item)}
    if item.get("Description"):
        body["description"] = item["Description"]
    if item.get("MaxSessionDuration", USUAL_SESSION) != USUAL_SESSION:
        body["max_session_duration"] = item["MaxSessionDuration"]
    if item.get("PermissionsBoundary"):
        body["permissions_boundary"] = item["PermissionsBoundary"]["PermissionsBoundaryArn"]
    body["assume_role_policy"] = Json(item["AssumeRolePolicyDocument"])
    body["tags"] = settable(tags_of(item.get("Tags")))
    yield TerraformResource(TYPES[ResourceKind.ROLE], label, name, body)
    owner = names.refer(ResourceKind.ROLE, name, None, "name")
    for policy in _every(iam, "list_role_policies", "PolicyNames", name):
        document = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
        yield TerraformResource(
            "aws_iam_role_policy",
            label_of(f"{label}_{policy}"),
            f"{name}:{policy}",
            {"name": policy, "role": owner, "policy": Json(document)},
        )
    for attached in _every(iam, "list_attached_role_policies", "AttachedPolicies", name):
        yield TerraformResource(
            "aws_iam_role_policy_attachment",
            label_of(f"{label}_{attached['PolicyName']}"),
            f"{name}/{attached['PolicyArn']}",
            {"role": owner, "policy_arn": attached["PolicyArn"]},
        )


def _every(iam: Any, operation: str, key: str, name: str) -> list[Any]:
    pages = iam.get_paginator(operation).paginate(RoleName=name)
    return sorted((item for page in pages for item in page[key]), key=str)


def instance_profile(session: AwsSession, name: str, names: Names) -> TerraformResource:
    """The profile, and the role in it."""
    item: Any = session.iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    body: dict[str, object] = {"name": name, **_path(item)}
    for carried in item["Roles"]:
        body["role"] = names.refer(ResourceKind.ROLE, carried["RoleName"], None, "name")
    body["tags"] = settable(tags_of(item.get("Tags")))
    return TerraformResource(
        TYPES[ResourceKind.INSTANCE_PROFILE],
        names.label(ResourceKind.INSTANCE_PROFILE, name, None),
        name,
        body,
    )


def _path(item: Mapping[str, Any]) -> dict[str, object]:
    return {} if item.get("Path", "/") == "/" else {"path": item["Path"]}
