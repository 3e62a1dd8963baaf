"""A role for machines, and the instance profile that carries it: made in one way, whatever it allows."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from runctl._dataclasses import dataclass
from runctl.core.clock import Clock
from runctl.core.errors import NotFound, PermissionDenied
from runctl.core.waiting import attempts
from runctl.providers.aws.calls.errors import error_code, our_errors
from runctl.providers.aws.calls.parse import tag_list, tags_of

if TYPE_CHECKING:
    from runctl.providers.aws.calls.session import AwsSession


class ProfileState(StrEnum):
    """What is known of an instance profile."""

    READY = "ready"
    MISSING = "missing"
    INCOMPLETE = "incomplete"
    """It is there without a role: a creation was cut short."""
    UNKNOWN = "unknown"
    """The account may not look."""


def profile_state(session: AwsSession, name: str) -> ProfileState:
    """``name`` may be an ARN."""
    try:
        with our_errors(session.endpoint):
            answer = session.iam.get_instance_profile(InstanceProfileName=_name_of(name))
    except NotFound:
        return ProfileState.MISSING
    except PermissionDenied:
        return ProfileState.UNKNOWN
    return ProfileState.READY if answer["InstanceProfile"]["Roles"] else ProfileState.INCOMPLETE


def _name_of(name_or_arn: str) -> str:
    """Only an ARN has a path before the name."""
    return name_or_arn.rsplit("/", 1)[-1] if name_or_arn.startswith("arn:") else name_or_arn


def trust_policy() -> dict[str, Any]:
    """EC2's machines may have the role. Pure.

    The service's name is the same in every partition (aws/aws-cli#8709): it is not an address.
    """
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "ec2.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


@dataclass(frozen=True)
class MachineRole:
    """What a role is to be."""

    name: str
    """Of the profile, too."""
    description: str
    tags: Mapping[str, str]
    policies: Mapping[str, Any]
    """Its inline policies, by their names."""


def ensure_machine_role(
    session: AwsSession,
    role: MachineRole,
    clock: Clock,
    check: Callable[[Mapping[str, str]], None] | None = None,
) -> None:
    """Role and profile exist, with these policies. Two at the same time are fine.

    ``check`` gets the tags that the role has, and raises where it is somebody else's. Raises `PermissionDenied` when
    the account may not make them.
    """
    iam, name, tags = session.iam, role.name, tag_list(role.tags)
    with our_errors(session.endpoint):
        unless(
            {"EntityAlreadyExists"},
            lambda: iam.create_role(
                RoleName=name,
                AssumeRolePolicyDocument=json.dumps(trust_policy()),
                Description=role.description,
                Tags=tags,  # type: ignore[arg-type]
            ),
        )
        if check is not None:
            check(tags_of(iam.get_role(RoleName=name)["Role"].get("Tags")))  # type: ignore[arg-type]
        for title, policy in role.policies.items():
            iam.put_role_policy(RoleName=name, PolicyName=title, PolicyDocument=json.dumps(policy))
        unless(
            {"EntityAlreadyExists"},
            lambda: iam.create_instance_profile(InstanceProfileName=name, Tags=tags),  # type: ignore[arg-type]
        )
        # A profile holds one role: LimitExceeded means that another runctl was quicker.
        unless(
            {"EntityAlreadyExists", "LimitExceeded"},
            lambda: iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name),
        )
    for _ in attempts(clock, timedelta(seconds=30)):
        if profile_state(session, name) is ProfileState.READY:
            return


def unless(codes: Collection[str], call: Callable[[], Any]) -> None:
    """Do it; these error codes mean that it is so already."""
    try:
        call()
    except Exception as error:
        if error_code(error) not in codes:
            raise
