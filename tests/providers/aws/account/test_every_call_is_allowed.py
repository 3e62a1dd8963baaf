"""Every call that the AWS provider makes has its right in the printed policies, so that a new one is not forgotten."""

from __future__ import annotations

import re
from pathlib import Path

import botocore.session
from botocore import xform_name

import runctl.providers.aws
from runctl.providers.aws.iam.rights import RIGHTS

SERVICES = {
    "ec2": "ec2",
    "s3": "s3",
    "iam": "iam",
    "ecr": "ecr",
    "autoscaling": "autoscaling",
    "ssm": "ssm",
    "pricing": "pricing",
    "service-quotas": "servicequotas",
    "budgets": "budgets",
    "ce": "ce",
    "cloudwatch": "cloudwatch",
    "ec2-instance-connect": "ec2-instance-connect",
}
"""botocore's name of each, and that of its actions."""
RENAMED = {
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3:GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "s3:GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:ListBuckets": "s3:ListAllMyBuckets",
    "s3:ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:ListParts": "s3:ListMultipartUploadParts",
    "s3:PutBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "budgets:CreateBudget": "budgets:ModifyBudget",
    "budgets:CreateNotification": "budgets:ModifyBudget",
    "budgets:CreateSubscriber": "budgets:ModifyBudget",
    "budgets:DeleteBudget": "budgets:ModifyBudget",
    "budgets:UpdateBudget": "budgets:ModifyBudget",
    "budgets:DescribeBudget": "budgets:ViewBudget",
    "budgets:DescribeSubscribersForNotification": "budgets:ViewBudget",
}
"""Calls whose actions have other names (Service Authorization Reference)."""
_WORD = re.compile(r"[.\"]([a-z]+_[a-z_0-9]+)\b")


def named() -> set[str]:
    """Whatever the modules call, pass on, or name in a text."""
    (folder,) = runctl.providers.aws.__path__
    return {name for file in Path(folder).rglob("*.py") for name in _WORD.findall(file.read_text())}


def test_every_call_has_its_right() -> None:
    session, found = botocore.session.get_session(), named()
    allowed = {action for right in RIGHTS for action in right.actions}
    asked: dict[str, set[str]] = {}
    for service, prefix in SERVICES.items():
        for operation in session.get_service_model(service).operation_names:
            if xform_name(operation) in found:
                action = f"{prefix}:{operation}"
                asked.setdefault(xform_name(operation), set()).add(RENAMED.get(action, action))

    # Of two services with a call of one name, one is asked.
    assert {name: actions for name, actions in asked.items() if not actions & allowed} == {}
    assert len(asked) > 80
