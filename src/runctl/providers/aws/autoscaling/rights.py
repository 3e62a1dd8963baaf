"""The role of the machines of one run's group: what it lets them do, and nothing else. One for each run.

A role for all runs could only say "any run of ours". The machine cannot delete its own role, as it would need the role
for that: whoever sees the run's end from outside does (`runctl.providers.aws.autoscaling.carrying_out.end`). Until then
it costs nothing, and opens nothing that still exists.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from runctl.agent.object_store import parse_source, statements, to_write
from runctl.core import tags as tag
from runctl.core.clock import Clock
from runctl.core.errors import NotFound, PermissionDenied
from runctl.core.ids import RunId
from runctl.core.progress import Progress
from runctl.providers.aws.calls.errors import error_code, our_errors
from runctl.providers.aws.calls.parse import tags_of
from runctl.providers.aws.iam.machine_role import MachineRole, ensure_machine_role, unless
from runctl.providers.aws.iam.policies import PULL
from runctl.providers.aws.iam.roles import REACH_POLICY, reach_policy

if TYPE_CHECKING:
    from runctl.providers.aws.calls.session import AwsSession

POLICY = "keep-one-run"
READ_ONLY = (
    "ec2:DescribeInstances",
    "ec2:DescribeVolumes",
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeAutoScalingInstances",
)
"""What IAM cannot limit to single resources."""
SERVICE_ROLES = {
    "autoscaling.amazonaws.com": "AWSServiceRoleForAutoScaling",
    "spot.amazonaws.com": "AWSServiceRoleForEC2Spot",
}
"""Roles of the account that AWS itself acts by; each must exist before the first group, or the first spot machine."""


def run_policy(
    *,
    run_id: RunId,
    partition: str,
    region: str,
    account: str,
    volumes: Sequence[str],
    writes: Sequence[str],
    reads: Sequence[str] = (),
    pulls: str = "",
    read_only: Collection[str] = (),
) -> dict[str, Any]:
    """The rights, as IAM has them; ``pulls`` is an image in the account's registry, ``read_only`` are those of the
    volumes that the run only reads. Pure.

    By the run's tag where the service knows tags: ``ec2:CreateTags`` is not among them, as whoever may tag would widen
    what they may do.
    """
    ec2, own = (
        f"arn:{partition}:ec2:{region}:{account}",
        {"StringEquals": {f"aws:ResourceTag/{tag.RUN}": run_id}},
    )
    groups = (
        f"arn:{partition}:autoscaling:{region}:{account}:autoScalingGroup:*:autoScalingGroupName/runctl-*"
    )
    found: list[dict[str, Any]] = [
        {
            "Effect": "Allow",
            "Action": [
                "autoscaling:SetDesiredCapacity",
                "autoscaling:DeleteAutoScalingGroup",
                "autoscaling:PutScheduledUpdateGroupAction",
                "autoscaling:DeleteScheduledAction",
            ],
            "Resource": groups,
            "Condition": own,
        },
        {
            "Effect": "Allow",
            "Action": "ec2:DeleteLaunchTemplate",
            "Resource": f"{ec2}:launch-template/*",
            "Condition": own,
        },
        {"Effect": "Allow", "Action": list(READ_ONLY), "Resource": "*"},
    ]
    if volumes:
        # EC2 asks for both: the volume by its id, and the machine by the run's tag.
        attach = ["ec2:AttachVolume", "ec2:DetachVolume"]
        found += [
            {"Effect": "Allow", "Action": attach, "Resource": [f"{ec2}:volume/{each}" for each in volumes]},
            {"Effect": "Allow", "Action": attach, "Resource": f"{ec2}:instance/*", "Condition": own},
        ]
    if written := [each for each in volumes if each not in read_only]:
        found.append(
            {
                "Effect": "Allow",
                "Action": "ec2:DeleteTags",
                "Resource": [f"{ec2}:volume/{each}" for each in written],
                # A request that names no tag deletes all of them.
                "Condition": {
                    "ForAllValues:StringEquals": {"aws:TagKeys": list(tag.GONE_WITH_WRITING)},
                    "Null": {"aws:TagKeys": "false"},
                },
            }
        )
    for address in writes:
        found += json.loads(to_write(parse_source(address), partition))
    for address in reads:
        found += statements(parse_source(address), partition)[:2]
    if pulls:
        repository = pulls.partition("/")[2].partition("@")[0].partition(":")[0]
        found += [
            {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
            {
                "Effect": "Allow",
                "Action": list(PULL),
                "Resource": f"arn:{partition}:ecr:{region}:{account}:repository/{repository}",
            },
        ]
    return {"Version": "2012-10-17", "Statement": found}


def rights_text(
    volumes: Sequence[str], writes: Sequence[str], reads: Sequence[str], read_only: Collection[str] = ()
) -> tuple[str, ...]:
    """The same in words, for a plan. Pure."""
    return (
        "end the run's own group, and delete the group and its template",
        *([f"attach and detach {', '.join(volumes)}, on the run's own machines"] if volumes else []),
        *(
            [
                f"take off the tags by which {', '.join(written)} is known to have the data of a replica, or of S3"
            ]
            if (written := [each for each in volumes if each not in read_only])
            else []
        ),
        *(f"read and write {address}" for address in writes),
        *(f"read {address}" for address in reads),
        "be reached by Systems Manager",
    )


def ensure_role(
    session: AwsSession,
    name: str,
    policy: Mapping[str, Any],
    tags: Mapping[str, str],
    clock: Clock,
    progress: Progress,
) -> None:
    """Role and profile of that name exist, with this policy. Raises `PermissionDenied` where they are not the run's."""
    progress.step(f"giving the machine's role {name} its rights")

    def check(found: Mapping[str, str]) -> None:
        if found.get(tag.RUN) != tags[tag.RUN]:
            raise PermissionDenied(
                f"the IAM role {name} is not this run's, and is left alone",
                hint="run the command again: it takes another name",
                code="not-ours",
            )

    role = MachineRole(
        name,
        "Of the machines of one run of runctl; deleted when the run has ended",
        tags,
        {POLICY: policy, REACH_POLICY: reach_policy()},
    )
    ensure_machine_role(session, role, clock, check)


def delete_role(session: AwsSession, name: str, run_id: RunId) -> bool:
    """Role and profile are gone, if they were the run's; whether there was one. Each step may have been done before."""
    iam, gone = session.iam, {"NoSuchEntity"}
    with our_errors(session.endpoint):
        role = _of_run(lambda: iam.get_role(RoleName=name)["Role"], run_id)
        profile = _of_run(
            lambda: iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"], run_id
        )
        if profile is not None:
            for each in profile["Roles"]:
                of = {"InstanceProfileName": name, "RoleName": each["RoleName"]}
                unless(gone, partial(iam.remove_role_from_instance_profile, **of))
            unless(gone, lambda: iam.delete_instance_profile(InstanceProfileName=name))
        if role is not None:
            for policy in (POLICY, REACH_POLICY):
                unless(gone, partial(iam.delete_role_policy, RoleName=name, PolicyName=policy))
            unless(gone, lambda: iam.delete_role(RoleName=name))
    return role is not None or profile is not None


def ensure_service_roles(session: AwsSession, *, spot: bool) -> None:
    """The account has the roles by which AWS keeps groups, and rents spot machines.

    Whoever may not look, or not make them, is told by the call that needs them.
    """
    iam = session.iam
    for service, name in SERVICE_ROLES.items():
        if service.startswith("spot") and not spot:
            continue
        try:
            with our_errors(session.endpoint):
                iam.get_role(RoleName=name)
        except NotFound:
            # InvalidInput: another command was quicker.
            make = partial(iam.create_service_linked_role, AWSServiceName=service)
            unless({"InvalidInput", "EntityAlreadyExists", "AccessDenied"}, make)
        except PermissionDenied:
            continue


def _of_run(get: Callable[[], Any], run_id: RunId) -> Any:
    """What ``get`` finds, if it is the run's; else ``None``."""
    try:
        found = get()
    except Exception as error:
        if error_code(error) != "NoSuchEntity":
            raise
        return None
    return found if tags_of(found.get("Tags")).get(tag.RUN) == run_id else None
