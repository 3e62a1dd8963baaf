"""The role of a machine that is rented to fill one volume: to be reached, and to read one folder of S3."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from runctl.core import tags as tag
from runctl.core.clock import Clock
from runctl.core.errors import NotFound, PermissionDenied
from runctl.core.ids import VolumeId
from runctl.core.progress import Progress
from runctl.core.waiting import attempts
from runctl.providers.aws.calls.errors import error_code, our_errors
from runctl.providers.aws.calls.parse import tag_list, tags_of
from runctl.providers.aws.iam.roles import (
    REACH_POLICY,
    ProfileState,
    profile_state,
    reach_policy,
    trust_policy,
)

if TYPE_CHECKING:
    from runctl.providers.aws.calls.session import AwsSession

PREFIX = "runctl-prewarm-"
POLICY = "read-the-source"


def role_name(volume_id: VolumeId) -> str:
    """Of the role and its profile: one for each volume, so that no two jobs share rights, or take each other's."""
    return PREFIX + volume_id


def ensure(
    session: AwsSession, name: str, policy: Mapping[str, Any], clock: Clock, progress: Progress
) -> None:
    """See `Filling.ensure_role`."""
    progress.step(f"giving the helper machine's role {name} its rights")
    iam, tags = session.iam, tag_list({tag.OWNED: tag.OWNED_VALUE})
    with our_errors(session.endpoint):
        _unless(
            {"EntityAlreadyExists"},
            lambda: iam.create_role(
                RoleName=name,
                AssumeRolePolicyDocument=json.dumps(trust_policy()),
                Description="Reads from S3 for a volume that runctl fills; deleted afterwards",
                Tags=tags,  # type: ignore[arg-type]
            ),
        )
        if not _is_ours(session, name):
            raise PermissionDenied(
                f"the IAM role {name} was not created by runctl, and is left alone",
                hint="rename it, or fill the volume on a machine of your own",
                code="not-ours",
            )
        iam.put_role_policy(RoleName=name, PolicyName=POLICY, PolicyDocument=json.dumps(policy))
        iam.put_role_policy(RoleName=name, PolicyName=REACH_POLICY, PolicyDocument=json.dumps(reach_policy()))
        _unless(
            {"EntityAlreadyExists"},
            lambda: iam.create_instance_profile(InstanceProfileName=name, Tags=tags),  # type: ignore[arg-type]
        )
        # A profile holds one role: LimitExceeded means that it has it already.
        _unless(
            {"EntityAlreadyExists", "LimitExceeded"},
            lambda: iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name),
        )
    for _ in attempts(clock, timedelta(seconds=30)):
        if profile_state(session, name) is ProfileState.READY:
            return


def drop(session: AwsSession, name: str) -> None:
    """See `Filling.drop_role`. Each step may have been done before."""
    iam, gone = session.iam, {"NoSuchEntity"}
    with our_errors(session.endpoint):
        try:
            if not _is_ours(session, name):
                return
        except NotFound:
            # The profile may be there without it: a dropping that was cut short.
            _unless(gone, lambda: _drop_own_profile(session, name))
            return
        _unless(gone, lambda: iam.delete_role_policy(RoleName=name, PolicyName=POLICY))
        _unless(gone, lambda: iam.delete_role_policy(RoleName=name, PolicyName=REACH_POLICY))
        # What earlier versions attached in its place.
        arn = f"arn:{session.identity.partition}:iam::aws:policy/AmazonSSMManagedInstanceCore"
        _unless(gone, lambda: iam.detach_role_policy(RoleName=name, PolicyArn=arn))
        _unless(gone, lambda: iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=name))
        _unless(gone, lambda: _drop_own_profile(session, name))
        _unless(gone, lambda: iam.delete_role(RoleName=name))


def _drop_own_profile(session: AwsSession, name: str) -> None:
    found = session.iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    if tag.is_ours(tags_of(found.get("Tags"))):  # type: ignore[arg-type]
        session.iam.delete_instance_profile(InstanceProfileName=name)


def _is_ours(session: AwsSession, name: str) -> bool:
    with our_errors(session.endpoint):
        role = session.iam.get_role(RoleName=name)["Role"]
    return tag.is_ours(tags_of(role.get("Tags")))  # type: ignore[arg-type]


def _unless(codes: set[str], call: Callable[[], Any]) -> None:
    """Do it; these error codes mean that it is so already."""
    try:
        call()
    except Exception as error:
        if error_code(error) not in codes:
            raise
