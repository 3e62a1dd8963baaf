"""The instance profile that lets Systems Manager reach a machine, and the machine let its volumes go."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from runctl._dataclasses import dataclass
from runctl.agent.object_store import parse_source, to_write
from runctl.core import tags as tag
from runctl.core.clock import Clock
from runctl.core.errors import NotFound, PermissionDenied
from runctl.core.progress import Progress
from runctl.providers.aws.calls.errors import error_code, our_errors
from runctl.providers.aws.iam.machine_role import (
    MachineRole,
    ProfileState,
    ensure_machine_role,
    profile_state,
)

if TYPE_CHECKING:
    from runctl.providers.aws.calls.session import AwsSession


DEFAULT_PROFILE = "runctl-instance"
"""Both the role and the profile that carries it."""

REACH_POLICY = "reach-by-systems-manager"
"""The inline policy of each of runctl's own roles."""

_REACH_ACTIONS = {
    "ssm": (
        "DescribeAssociation",
        "DescribeDocument",
        "GetDocument",
        "GetManifest",
        "ListAssociations",
        "ListInstanceAssociations",
        "PutConfigurePackageResult",
        "UpdateAssociationStatus",
        "UpdateInstanceAssociationStatus",
        "UpdateInstanceInformation",
    ),
    "ssmmessages": ("CreateControlChannel", "CreateDataChannel", "OpenControlChannel", "OpenDataChannel"),
    "ec2messages": (
        "AcknowledgeMessage",
        "DeleteMessage",
        "FailMessage",
        "GetEndpoint",
        "GetMessages",
        "SendReply",
    ),
}
"""What SSM's agent calls for commands and sessions. AWS's own AmazonSSMManagedInstanceCore also lets everything on the
machine read every parameter of the account, which is where many keep passwords."""

HAND_OVER_POLICY = "let-volumes-go"
"""The inline policy with which a machine that is taken back detaches its volumes, for the next one."""

WITHOUT_PROFILE = (
    "the machine gets no instance profile, so Systems Manager cannot reach it: only SSH can"
    " (a key pair or EC2 Instance Connect, with port 22 open to this computer)"
)

STORE_PREFIX = "runctl-writes-"
"""Of the role and the profile of machines that write to an object store; one for each set of addresses."""

STORE_POLICY = "write-to-the-store"

BUCKET_POLICY = "write-runs"
"""The inline policy by which ``aws setup`` lets every machine of runctl's write to the bucket for runs."""


@dataclass(frozen=True)
class ProfilePlan:
    """Which instance profile a machine gets."""

    name: str | None
    will_create: str | None = None
    """In words."""
    warning: str | None = None


def plan_profile(
    session: AwsSession, asked: str | None, *, ssh_works: bool, writes: Sequence[str] = ()
) -> ProfilePlan:
    """The profile asked for, else runctl's own, which `ensure_default_profile` makes when it is missing; for a machine
    that ``writes`` to an object store one that lets it, which `ensure_store_profile` makes.

    Raises `NotFound` for one asked for that does not exist, `PermissionDenied` where neither Systems Manager nor
    SSH would reach the machine.
    """
    for address in writes:
        _check_bucket(session, parse_source(address).bucket)
    if asked is not None:
        state = profile_state(session, asked)
        if state is ProfileState.MISSING:
            raise NotFound(
                f"instance profile {asked!r} does not exist", hint="aws iam list-instance-profiles shows them"
            )
        unchecked = f"instance profile {asked} was not checked: no permission for iam:GetInstanceProfile"
        return ProfilePlan(asked, warning=unchecked if state is ProfileState.UNKNOWN else None)
    if writes and not _has_been_set_up(session, writes):
        name = store_profile(writes)
        where = ", ".join(writes)
        return ProfilePlan(
            name,
            will_create=None
            if profile_state(session, name) is ProfileState.READY
            else f"IAM role and instance profile {name}, with the rights to write to {where}, besides those that let"
            " Systems Manager reach the machine (free; once for this address)",
        )
    state = profile_state(session, DEFAULT_PROFILE)
    if state is ProfileState.READY:
        return ProfilePlan(DEFAULT_PROFILE)
    if state is ProfileState.UNKNOWN:
        if not ssh_works:
            raise unreachable_without_profile("no permission for iam:GetInstanceProfile")
        return ProfilePlan(None, warning=WITHOUT_PROFILE)
    return ProfilePlan(
        DEFAULT_PROFILE,
        will_create=f"IAM role and instance profile {DEFAULT_PROFILE}, with just the rights that let Systems Manager"
        " reach the machine, and the machine detach runctl's volumes (free; once for the account)",
    )


def _has_been_set_up(session: AwsSession, writes: Sequence[str]) -> bool:
    """Whether `DEFAULT_PROFILE` lets machines write to these addresses already, as ``aws setup`` has made it."""
    sources, account = [parse_source(text) for text in writes], session.identity.account
    if any(
        not source.bucket.startswith(f"runctl-{account}-") or source.prefix.split("/")[0] != "runs"
        for source in sources
    ):
        return False
    with suppress(PermissionDenied), our_errors(session.endpoint):
        policy = role_policy(session, DEFAULT_PROFILE, BUCKET_POLICY)
        ready = profile_state(session, DEFAULT_PROFILE) is ProfileState.READY
        return ready and policy == runs_policy(session.identity.partition, account)
    return False


def role_policy(session: AwsSession, role: str, name: str) -> Any:
    """A role's inline policy as IAM has it; ``None`` where the role or the policy is missing."""
    try:
        found = session.iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    except Exception as error:
        if error_code(error) == "NoSuchEntity":
            return None
        raise
    return json.loads(found) if isinstance(found, str) else found


def _check_bucket(session: AwsSession, bucket: str) -> None:
    """Raises `NotFound`. A bucket that only the machine may look at is left to it."""
    try:
        with our_errors(session.endpoint):
            session.s3.head_bucket(Bucket=bucket)
    except PermissionDenied:
        return
    except NotFound as error:
        raise NotFound(
            f"there is no bucket {bucket}",
            hint=f"create it: aws s3 mb s3://{bucket}",
            code="bucket-not-found",
        ) from error


def unreachable_without_profile(why: str) -> PermissionDenied:
    """The error for a machine that nothing could reach."""
    return PermissionDenied(
        f"the machine could not be reached: it would have no instance profile for Systems Manager ({why}), and no"
        " security group lets SSH in",
        hint="name a profile that has AmazonSSMManagedInstanceCore: --instance-profile NAME (ask whoever administers"
        " the account), or a security group that lets port 22 in: --security-group",
    )


def reach_policy() -> dict[str, Any]:
    """A machine with it can be reached by Systems Manager. Pure."""
    actions = [f"{service}:{name}" for service, names in _REACH_ACTIONS.items() for name in names]
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def hand_over_policy() -> dict[str, Any]:
    """A machine with it can detach volumes that runctl created from machines that runctl created. Pure.

    EC2 asks for both, the volume and the instance.
    """
    statement = {
        "Effect": "Allow",
        "Action": "ec2:DetachVolume",
        "Resource": "*",
        "Condition": {"StringEquals": {f"aws:ResourceTag/{tag.OWNED}": tag.OWNED_VALUE}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def runs_policy(partition: str, account: str) -> dict[str, Any]:
    """A machine with it keeps runs in the bucket that ``aws setup`` creates, and nothing beside them. Pure."""
    bucket = f"arn:{partition}:s3:::runctl-{account}-*"
    actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    statements = [
        {
            "Sid": "KeepRuns",
            "Effect": "Allow",
            "Action": [*actions, "s3:ListMultipartUploadParts"],
            "Resource": f"{bucket}/runs/*",
        },
        {
            "Sid": "ListRuns",
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": bucket,
            "Condition": {"StringLike": {"s3:prefix": ["runs/*"]}},
        },
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def _let_volumes_go(session: AwsSession) -> None:
    """A role that an earlier version made has `HAND_OVER_POLICY` too, as far as the account may see to that."""
    with suppress(PermissionDenied), our_errors(session.endpoint):
        try:
            session.iam.get_role_policy(RoleName=DEFAULT_PROFILE, PolicyName=HAND_OVER_POLICY)
        except Exception as error:
            if error_code(error) != "NoSuchEntity":
                raise
            session.iam.put_role_policy(
                RoleName=DEFAULT_PROFILE,
                PolicyName=HAND_OVER_POLICY,
                PolicyDocument=json.dumps(hand_over_policy()),
            )


def ensure_default_profile(session: AwsSession, clock: Clock, progress: Progress) -> None:
    """runctl's own role and profile exist, tagged. Two at the same time are fine.

    Raises `PermissionDenied` when the account may not make them.
    """
    if profile_state(session, DEFAULT_PROFILE) is ProfileState.READY:
        _let_volumes_go(session)
        return
    _make(session, DEFAULT_PROFILE, {}, clock, progress)


def store_profile(writes: Sequence[str]) -> str:
    """The name of the profile that lets a machine write to these addresses. Pure."""
    return STORE_PREFIX + hashlib.sha256("\n".join(sorted(writes)).encode()).hexdigest()[:12]


def store_policy(writes: Sequence[str], partition: str) -> dict[str, Any]:
    """A machine with it can write to these addresses, read and list what is there, and delete what it wrote. Pure."""
    found = [each for text in writes for each in json.loads(to_write(parse_source(text), partition))]
    return {"Version": "2012-10-17", "Statement": found}


def ensure_store_profile(
    session: AwsSession, name: str, writes: Sequence[str], clock: Clock, progress: Progress
) -> None:
    """As `ensure_default_profile`, for a machine that ``writes`` to an object store."""
    if profile_state(session, name) is not ProfileState.READY:
        policies = {STORE_POLICY: store_policy(writes, session.identity.partition)}
        _make(session, name, policies, clock, progress)


def _make(
    session: AwsSession, name: str, policies: Mapping[str, Any], clock: Clock, progress: Progress
) -> None:
    progress.step(f"creating the IAM role and instance profile {name}")
    role = MachineRole(
        name,
        "Lets AWS Systems Manager reach machines that runctl rents",
        {tag.OWNED: tag.OWNED_VALUE},
        {REACH_POLICY: reach_policy(), HAND_OVER_POLICY: hand_over_policy(), **policies},
    )
    ensure_machine_role(session, role, clock)
