"""What is printed for an administrator: short enough for IAM, and as docs/aws-setup.md says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runctl.core.errors import UsageError
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.iam.policies import MOST_IN_A_POLICY, in_parts, policy_for
from runctl.providers.aws.iam.rights import Whose
from runctl.sandbox.api.policies import Verdict, verdict
from tests.docs.pages import blocks

ACCOUNT = "123456789012"
EC2, IAM = f"arn:aws:ec2:us-east-1:{ACCOUNT}", f"arn:aws:iam::{ACCOUNT}"
PAGE = Path(__file__).parents[4] / "docs" / "aws-setup.md"


def policy(whose: Whose = Whose.USER, without: tuple[str, ...] = ()) -> dict[str, Any]:
    return policy_for(whose, partition="aws", account=ACCOUNT, without=without)


def size(document: Mapping[str, Any]) -> int:
    """As IAM counts: without blanks."""
    return len("".join(json.dumps(document).split()))


@pytest.mark.parametrize("whose", list(Whose))
def test_the_parts_fit_into_managed_policies_and_are_the_whole_in_its_order(whose: Whose) -> None:
    whole = policy(whose)
    parts = in_parts(whole)
    assert [each for part in parts for each in part["Statement"]] == whole["Statement"]
    assert all(size(part) <= MOST_IN_A_POLICY for part in parts)
    assert {part["Version"] for part in parts} == {whole["Version"]}


def test_the_page_tells_how_many_parts_there_are_and_who_takes_it_whole(session: AwsSession) -> None:
    quotas: Any = session.iam.get_account_summary()["SummaryMap"]
    assert quotas["PolicySizeQuota"] == MOST_IN_A_POLICY
    for whose in (Whose.USER, Whose.UNATTENDED):
        assert len(in_parts(policy(whose))) == 2
        assert quotas["UserPolicySizeQuota"] < size(policy(whose)) <= quotas["RolePolicySizeQuota"]


def test_a_statement_that_is_longer_than_a_part_has_one_of_its_own() -> None:
    assert [len(part["Statement"]) for part in in_parts({"Statement": [{"Sid": "a" * 90}, {}, {}]}, 99)] == [
        1,
        2,
    ]


def test_statements_are_left_out_by_their_names() -> None:
    names = [each["Sid"] for each in policy()["Statement"]]
    left = policy(without=("MakeRoles", "KeepAlarm"))
    assert [each["Sid"] for each in left["Statement"]] == [
        name for name in names if name not in {"MakeRoles", "KeepAlarm"}
    ]
    assert "PullImages" not in [each["Sid"] for each in policy(Whose.MACHINE, ("PullImages",))["Statement"]]
    with pytest.raises(UsageError, match="no statement 'MakeRole'") as caught:
        policy(without=("MakeRole",))
    assert "MakeRoles" in (caught.value.hint or "")


def test_without_making_roles_none_can_be_changed() -> None:
    def allowed(found: Mapping[str, Any]) -> set[str]:
        actions = {action for each in found["Statement"] for action in each["Action"]}
        return {
            action
            for action in actions
            if action.startswith("iam:") and not action.startswith(("iam:Get", "iam:List"))
        }

    assert allowed(policy(without=("MakeRoles",))) == {"iam:PassRole"}
    assert {"iam:CreateRole", "iam:PutRolePolicy"} <= allowed(policy())


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("ec2:AttachVolume", f"{EC2}:volume/vol-1", {"aws:ResourceTag/Name": "tf-datasets"}),
        ("ec2:DetachVolume", f"{EC2}:volume/vol-1", {"aws:ResourceTag/Name": "tf-datasets"}),
        ("iam:PassRole", f"{IAM}:role/tf-machine", {"iam:PassedToService": "ec2.amazonaws.com"}),
        ("iam:GetInstanceProfile", f"{IAM}:instance-profile/tf-machine", {}),
        ("s3:ListBucket", "arn:aws:s3:::mine", {}),
        ("s3:PutObject", "arn:aws:s3:::mine/runs/a", {}),
        ("ec2:CreateTags", f"{EC2}:volume/vol-0123456789abcdef0", {}),
    ],
)
def test_what_is_not_runctls_is_refused_and_allowed_by_what_the_page_adds(
    action: str, resource: str, context: dict[str, str]
) -> None:
    (own,) = (block.body for block in blocks(PAGE.read_text()) if block.options.get("file") == "own.json")

    assert verdict([policy()], action, resource, context) is Verdict.NOT_ALLOWED
    assert verdict([policy(), own], action, resource, context) is Verdict.ALLOWED
