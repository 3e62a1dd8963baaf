"""The role of a machine that is rented to fill one volume: to be reached, and to read one folder of S3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runctl.core import tags as tag
from runctl.core.clock import Clock
from runctl.core.errors import NotFound, PermissionDenied
from runctl.core.ids import VolumeId
from runctl.core.progress import Progress
from runctl.providers.aws.calls.errors import our_errors
from runctl.providers.aws.calls.parse import tags_of
from runctl.providers.aws.iam.machine_role import MachineRole, ensure_machine_role, unless
from runctl.providers.aws.iam.roles import REACH_POLICY, reach_policy

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

    def check(tags: Mapping[str, str]) -> None:
        if not tag.is_ours(tags):
            raise PermissionDenied(
                f"the IAM role {name} was not created by runctl, and is left alone",
                hint="rename it, or fill the volume on a machine of your own",
                code="not-ours",
            )

    role = MachineRole(
        name,
        "Reads from S3 for a volume that runctl fills; deleted afterwards",
        {tag.OWNED: tag.OWNED_VALUE},
        {POLICY: policy, REACH_POLICY: reach_policy()},
    )
    ensure_machine_role(session, role, clock, check)


def drop(session: AwsSession, name: str) -> None:
    """See `Filling.drop_role`. Each step may have been done before."""
    iam, gone = session.iam, {"NoSuchEntity"}
    with our_errors(session.endpoint):
        try:
            if not _is_ours(session, name):
                return
        except NotFound:
            # The profile may be there without it: a dropping that was cut short.
            unless(gone, lambda: _drop_own_profile(session, name))
            return
        unless(gone, lambda: iam.delete_role_policy(RoleName=name, PolicyName=POLICY))
        unless(gone, lambda: iam.delete_role_policy(RoleName=name, PolicyName=REACH_POLICY))
        # What earlier versions attached in its place.
        arn = f"arn:{session.identity.partition}:iam::aws:policy/AmazonSSMManagedInstanceCore"
        unless(gone, lambda: iam.detach_role_policy(RoleName=name, PolicyArn=arn))
        unless(gone, lambda: iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=name))
        unless(gone, lambda: _drop_own_profile(session, name))
        unless(gone, lambda: iam.delete_role(RoleName=name))


def _drop_own_profile(session: AwsSession, name: str) -> None:
    found = session.iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    if tag.is_ours(tags_of(found.get("Tags"))):  # type: ignore[arg-type]
        session.iam.delete_instance_profile(InstanceProfileName=name)


def _is_ours(session: AwsSession, name: str) -> bool:
    with our_errors(session.endpoint):
        role = session.iam.get_role(RoleName=name)["Role"]
    return tag.is_ours(tags_of(role.get("Tags")))  # type: ignore[arg-type]
