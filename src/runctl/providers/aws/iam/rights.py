"""What runctl, its machines and its groups may do in an account: one table of rights, each tied to the commands that
need it. Pure.

What runctl makes it tags in the call that makes it, so that most rights hold for tagged resources only, and tags can be
put on nothing else. What EC2 cannot limit to resources (``Describe…``) only reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any

from runctl._dataclasses import dataclass
from runctl.core import tags as tag

TAGGED = {"StringEquals": {f"aws:ResourceTag/{tag.OWNED}": tag.OWNED_VALUE}}
TAGGING = {"StringEquals": {f"aws:RequestTag/{tag.OWNED}": tag.OWNED_VALUE}}


class Whose(StrEnum):
    """Whom a policy is for."""

    USER = "user"
    """Whoever calls runctl."""
    MACHINE = "machine"
    """The machines' own role, `runctl.providers.aws.iam.roles.DEFAULT_PROFILE`."""
    UNATTENDED = "unattended"
    """What ``launch --unattended`` needs besides."""


@dataclass(frozen=True)
class Right:
    """One statement, and who needs it."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    """With ``{partition}`` and ``{account}``."""
    commands: tuple[str, ...]
    """Commands that fail with `PermissionDenied` without it."""
    condition: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    whose: Whose = Whose.USER


def _ec2(*kinds: str) -> tuple[str, ...]:
    return tuple(f"arn:{{partition}}:ec2:*:{{account}}:{kind}/*" for kind in kinds)


_ROLES = ("arn:{partition}:iam::{account}:role/runctl-*",)
_PROFILES = ("arn:{partition}:iam::{account}:instance-profile/runctl-*",)
_BUCKETS = ("arn:{partition}:s3:::runctl-*",)
_OBJECTS = ("arn:{partition}:s3:::runctl-*/*",)
REPOSITORIES = ("arn:{partition}:ecr:*:{account}:repository/runctl/*",)
_GROUPS = ("arn:{partition}:autoscaling:*:{account}:autoScalingGroup:*:autoScalingGroupName/runctl-*",)
ALL = ("*",)
RIGHTS: tuple[Right, ...] = (
    Right(
        "LookAtMachines",
        ("ec2:DescribeInstances", "ec2:DescribeInstanceAttribute", "ec2:DescribeRegions"),
        ALL,
        ("aws list",),
    ),
    Right(
        "LookAtDisks",
        (
            "ec2:DescribeVolumes",
            "ec2:DescribeVolumeStatus",
            "ec2:DescribeVolumesModifications",
            "ec2:DescribeSnapshots",
        ),
        ALL,
        ("aws ebs list",),
    ),
    Right(
        "LookAtWhatIsOffered",
        (
            "ec2:DescribeInstanceTypes",
            "ec2:DescribeInstanceTypeOfferings",
            "ec2:DescribeImages",
            "ec2:DescribeSubnets",
            "ec2:DescribeSecurityGroups",
            "ec2:DescribeAvailabilityZones",
            "ec2:DescribeKeyPairs",
            "ec2:DescribeLaunchTemplates",
            "ec2:DescribeLaunchTemplateVersions",
            "ec2:DescribeFleets",
            "ec2:DescribePlacementGroups",
            "ec2:DescribeSpotInstanceRequests",
        ),
        ALL,
        ("aws create --dry-run",),
    ),
    Right(
        "LookAtPrices",
        (
            "ec2:DescribeSpotPriceHistory",
            "ec2:GetSpotPlacementScores",
            "pricing:GetProducts",
            "servicequotas:GetServiceQuota",
        ),
        ALL,
        ("aws spot-prices",),
    ),
    Right(
        "ReadTheBill",
        ("ce:GetCostAndUsage",),
        ALL,
        ("cost reconcile",),
    ),
    Right(
        "ReadMeasurements",
        ("cloudwatch:GetMetricData",),
        ALL,
        ("resources insights",),
    ),
    Right(
        "FindImages",
        ("ssm:GetParameter",),
        ("arn:{partition}:ssm:*::parameter/aws/service/*",),
        ("aws create --dry-run",),
    ),
    Right(
        "Rent",
        ("ec2:RunInstances",),
        _ec2("instance", "volume", "network-interface", "spot-instances-request"),
        ("aws create",),
        TAGGING,
    ),
    Right(
        "RentOf",
        ("ec2:RunInstances",),
        (
            *_ec2("subnet", "security-group", "placement-group", "key-pair", "launch-template"),
            "arn:{partition}:ec2:*::image/*",
            "arn:{partition}:ec2:*::snapshot/*",
        ),
        ("aws create",),
    ),
    Right(
        "RentFromPools",
        ("ec2:CreateFleet", "ec2:CreateLaunchTemplate"),
        ALL,
        ("aws create --spot",),
    ),
    Right(
        "MakeNetworks",
        ("ec2:CreateSecurityGroup", "ec2:CreatePlacementGroup"),
        _ec2("security-group", "placement-group"),
        ("aws launch --nodes",),
        TAGGING,
    ),
    Right("MakeNetworksIn", ("ec2:CreateSecurityGroup",), _ec2("vpc"), ("aws launch --nodes",)),
    Right(
        "KeepNetworks",
        ("ec2:AuthorizeSecurityGroupIngress", "ec2:DeleteSecurityGroup", "ec2:DeletePlacementGroup"),
        _ec2("security-group", "placement-group"),
        ("aws launch --nodes",),
        TAGGED,
    ),
    Right(
        "EndDisksWithMachines",
        ("ec2:ModifyInstanceAttribute",),
        _ec2("instance"),
        ("aws launch --nodes",),
        TAGGED,
    ),
    Right(
        "TagWhatIsMade",
        ("ec2:CreateTags",),
        (*_ec2("*"), "arn:{partition}:ec2:*::snapshot/*"),
        ("aws ebs create",),
        {
            "StringEquals": {
                "ec2:CreateAction": [
                    "RunInstances",
                    "CreateFleet",
                    "CreateLaunchTemplate",
                    "CreateVolume",
                    "CopyVolumes",
                    "CreateSnapshot",
                    "CreateSecurityGroup",
                    "CreatePlacementGroup",
                ]
            }
        },
    ),
    Right(
        "ChangeTags",
        ("ec2:CreateTags", "ec2:DeleteTags"),
        (*_ec2("instance", "volume"), "arn:{partition}:ec2:*::snapshot/*"),
        ("aws ebs attach",),
        TAGGED,
    ),
    Right(
        "StopAndStart", ("ec2:StopInstances", "ec2:StartInstances"), _ec2("instance"), ("aws stop",), TAGGED
    ),
    Right(
        "End",
        (
            "ec2:TerminateInstances",
            "ec2:DeleteLaunchTemplate",
            "ec2:DeleteFleets",
            "ec2:CancelSpotInstanceRequests",
            "ec2:DeleteKeyPair",
        ),
        _ec2("instance", "launch-template", "fleet", "spot-instances-request", "key-pair"),
        ("aws terminate",),
        TAGGED,
    ),
    Right("MakeVolumes", ("ec2:CreateVolume",), _ec2("volume"), ("aws ebs create",), TAGGING),
    Right(
        "CopyVolumes",
        ("ec2:CreateVolume", "ec2:CreateSnapshot", "ec2:CopyVolumes"),
        (*_ec2("volume"), "arn:{partition}:ec2:*::snapshot/*"),
        ("aws ebs snapshot",),
        TAGGED,
    ),
    Right(
        "MakeSnapshots",
        ("ec2:CreateSnapshot", "ec2:CopyVolumes"),
        (*_ec2("volume"), "arn:{partition}:ec2:*::snapshot/*"),
        ("aws ebs snapshot",),
        TAGGING,
    ),
    Right(
        "UseVolumes",
        ("ec2:AttachVolume", "ec2:DetachVolume"),
        _ec2("instance", "volume"),
        ("aws ebs attach",),
        TAGGED,
    ),
    Right("ChangeVolumes", ("ec2:ModifyVolume",), _ec2("volume"), ("aws ebs resize",), TAGGED),
    Right(
        "DeleteDisks",
        ("ec2:DeleteVolume", "ec2:DeleteSnapshot"),
        (*_ec2("volume"), "arn:{partition}:ec2:*::snapshot/*"),
        ("aws ebs delete",),
        TAGGED,
    ),
    Right(
        "ReachMachines",
        ("ssm:SendCommand", "ssm:StartSession"),
        _ec2("instance"),
        ("aws exec",),
        TAGGED,
    ),
    Right(
        "ReachWith",
        ("ssm:SendCommand", "ssm:StartSession"),
        ("arn:{partition}:ssm:*::document/AWS-*",),
        ("aws exec",),
    ),
    Right(
        "ReadAnswers",
        (
            "ssm:DescribeInstanceInformation",
            "ssm:GetCommandInvocation",
            "ssm:ListCommands",
            "ssm:ListCommandInvocations",
            "ssm:CancelCommand",
        ),
        ALL,
        ("aws exec",),
    ),
    Right(
        "ReachBySsh",
        ("ec2-instance-connect:SendSSHPublicKey", "ec2:GetConsoleOutput"),
        _ec2("instance"),
        (),
        TAGGED,
    ),
    Right(
        "GiveRoles",
        ("iam:PassRole",),
        _ROLES,
        ("aws create",),
        {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}},
    ),
    Right(
        "LookAtRoles",
        (
            "iam:GetRole",
            "iam:GetRolePolicy",
            "iam:ListRolePolicies",
            "iam:ListAttachedRolePolicies",
            "iam:GetInstanceProfile",
        ),
        (*_ROLES, *_PROFILES),
        ("aws create",),
    ),
    # Whoever has it can make a role with any rights, and take it: docs/aws-setup.md says so.
    Right(
        "MakeRoles",
        (
            "iam:CreateRole",
            "iam:TagRole",
            "iam:PutRolePolicy",
            "iam:DeleteRolePolicy",
            "iam:DetachRolePolicy",
            "iam:DeleteRole",
            "iam:CreateInstanceProfile",
            "iam:TagInstanceProfile",
            "iam:AddRoleToInstanceProfile",
            "iam:RemoveRoleFromInstanceProfile",
            "iam:DeleteInstanceProfile",
        ),
        (*_ROLES, *_PROFILES),
        ("aws create",),
    ),
    Right(
        "PassFilesOn",
        (
            "s3:CreateBucket",
            "s3:TagResource",
            "s3:ListBucket",
            "s3:ListBucketMultipartUploads",
            "s3:GetBucketTagging",
            "s3:PutBucketTagging",
            "s3:PutBucketPublicAccessBlock",
            "s3:PutEncryptionConfiguration",
            "s3:PutLifecycleConfiguration",
            "s3:GetObject",
            "s3:PutObject",
            "s3:DeleteObject",
            "s3:AbortMultipartUpload",
            "s3:ListMultipartUploadParts",
        ),
        (*_BUCKETS, *_OBJECTS),
        ("cp",),
    ),
    Right(
        "KeepBucket",
        (
            "s3:DeleteBucket",
            "s3:GetBucketPublicAccessBlock",
            "s3:GetEncryptionConfiguration",
            "s3:GetLifecycleConfiguration",
            "s3:GetBucketVersioning",
        ),
        _BUCKETS,
        ("aws setup",),
    ),
    Right(
        "KeepAlarm",
        ("budgets:ViewBudget", "budgets:ModifyBudget"),
        ("arn:{partition}:budgets::{account}:budget/runctl-*",),
        ("aws setup --remove",),
    ),
    Right("LogInToRegistry", ("ecr:GetAuthorizationToken",), ALL, ("docker push",)),
    Right(
        "KeepImages",
        (
            "ecr:CreateRepository",
            "ecr:DeleteRepository",
            "ecr:TagResource",
            "ecr:ListTagsForResource",
            "ecr:DescribeRepositories",
            "ecr:DescribeImages",
            "ecr:BatchGetImage",
            "ecr:BatchCheckLayerAvailability",
            "ecr:GetDownloadUrlForLayer",
            "ecr:InitiateLayerUpload",
            "ecr:UploadLayerPart",
            "ecr:CompleteLayerUpload",
            "ecr:PutImage",
            "ecr:BatchDeleteImage",
            "ecr:GetLifecyclePolicy",
            "ecr:PutLifecyclePolicy",
        ),
        REPOSITORIES,
        ("docker push",),
    ),
    Right(
        "ListTheAccount",
        (
            "iam:ListRoles",
            "iam:ListInstanceProfiles",
            "s3:ListAllMyBuckets",
            "ecr:DescribeRepositories",
            "autoscaling:DescribeAutoScalingGroups",
            "autoscaling:DescribeScalingActivities",
            "autoscaling:DescribeScheduledActions",
        ),
        ALL,
        (),
    ),
    Right(
        "KeepGroups",
        (
            "autoscaling:CreateAutoScalingGroup",
            "autoscaling:SuspendProcesses",
            "autoscaling:ResumeProcesses",
            "autoscaling:SetDesiredCapacity",
            "autoscaling:UpdateAutoScalingGroup",
            "autoscaling:DeleteAutoScalingGroup",
            "autoscaling:CreateOrUpdateTags",
            "autoscaling:PutScheduledUpdateGroupAction",
            "autoscaling:DeleteScheduledAction",
        ),
        _GROUPS,
        ("aws launch --unattended",),
        whose=Whose.UNATTENDED,
    ),
    Right(
        "TellMachinesTheirGroup",
        ("ec2:CreateLaunchTemplateVersion",),
        _ec2("launch-template"),
        (),
        TAGGED,
        Whose.UNATTENDED,
    ),
    Right(
        "MakeServiceRoles",
        ("iam:CreateServiceLinkedRole",),
        ("arn:{partition}:iam::{account}:role/aws-service-role/*",),
        (),
        {"StringEquals": {"iam:AWSServiceName": ["autoscaling.amazonaws.com", "spot.amazonaws.com"]}},
        Whose.UNATTENDED,
    ),
)
"""Every right that runctl uses. Those without a command are asked for where they are there, and done without else."""
