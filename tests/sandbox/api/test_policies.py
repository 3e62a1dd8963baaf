"""What IAM policies allow."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.object_store import Source
from runctl.agent.object_store import policy as filling_policy
from runctl.sandbox.api.policies import Verdict, verdict

BUCKET = "arn:aws:s3:::data"
OBJECT = f"{BUCKET}/train/a"


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(action: object, resource: object = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: object, resource: object = "*", **more: Any) -> dict[str, Any]:
    return {**allow(action, resource, **more), "Effect": "Deny"}


def test_what_no_statement_is_about_is_not_allowed() -> None:
    assert verdict([], "s3:GetObject", OBJECT) is Verdict.NOT_ALLOWED
    assert verdict([policy(allow("s3:PutObject"))], "s3:GetObject", OBJECT) is Verdict.NOT_ALLOWED


@pytest.mark.parametrize(
    ("action", "resource", "allowed"),
    [
        ("s3:GetObject", OBJECT, True),
        ("s3:getobject", "*", True),
        ("s3:Get*", f"{BUCKET}/*", True),
        ("s3:GetObjec?", f"{BUCKET}/train/?", True),
        ("*", "*", True),
        (["s3:ListBucket", "s3:GetObject"], [BUCKET, f"{BUCKET}/train/*"], True),
        ("s3:GetObject", BUCKET, False),
        ("s3:GetObject", f"{BUCKET}/TRAIN/*", False),
        ("s3:GetObject", f"{BUCKET}/other/*", False),
        ("s3:GetObject", "arn:aws:s3:::dat./train/a", False),
        ("s3:GetObjectAcl", "*", False),
        ("s3:List*", "*", False),
    ],
)
def test_wildcards_match_as_iam_has_them(action: object, resource: object, allowed: bool) -> None:
    found = verdict([policy(allow(action, resource))], "s3:GetObject", OBJECT)

    assert (found is Verdict.ALLOWED) is allowed


def test_a_denial_ends_it_wherever_it_stands() -> None:
    forbids, permits = policy(deny("s3:*", f"{BUCKET}/train/*")), policy(allow("s3:*"))

    for documents in ([forbids, permits], [permits, forbids]):
        assert verdict(documents, "s3:GetObject", OBJECT) is Verdict.DENIED
        assert verdict(documents, "s3:GetObject", f"{BUCKET}/other") is Verdict.ALLOWED


def test_what_a_statement_excepts_it_is_not_about() -> None:
    statement = {"Effect": "Allow", "NotAction": "iam:*", "NotResource": f"{BUCKET}/secret/*"}

    assert verdict([policy(statement)], "s3:GetObject", OBJECT) is Verdict.ALLOWED
    assert verdict([policy(statement)], "iam:GetRole", OBJECT) is Verdict.NOT_ALLOWED
    assert verdict([policy(statement)], "s3:GetObject", f"{BUCKET}/secret/a") is Verdict.NOT_ALLOWED


@pytest.mark.parametrize(
    ("condition", "prefix", "allowed"),
    [
        ({"StringLike": {"s3:prefix": ["train/*"]}}, "train/x", True),
        ({"StringLike": {"S3:Prefix": "train/*"}}, "train/x", True),
        ({"StringLike": {"s3:prefix": "train/*"}}, "other", False),
        ({"StringLike": {"s3:prefix": "train/*"}}, None, False),
        ({"StringEquals": {"s3:prefix": ["", "train"]}}, "train", True),
        ({"StringNotEquals": {"s3:prefix": "secret"}}, "train", True),
        ({"StringNotEquals": {"s3:prefix": "secret"}}, "secret", False),
        ({"StringNotLike": {"s3:prefix": "secret*"}}, None, True),
        ({"StringLikeIfExists": {"s3:prefix": "train/*"}}, None, True),
        ({"StringEqualsIgnoreCase": {"s3:prefix": "TRAIN"}}, "train", True),
        ({"Null": {"s3:prefix": "true"}}, None, True),
        ({"Null": {"s3:prefix": True}}, "x", False),
        ({"NumericLessThan": {"s3:max-keys": "10"}}, "x", False),
        ({"StringLike": {"s3:prefix": "t*"}, "StringEquals": {"aws:other": "x"}}, "train", False),
    ],
)
def test_conditions_hold_or_the_statement_does_not_count(
    condition: dict[str, Any], prefix: str | None, allowed: bool
) -> None:
    context = {} if prefix is None else {"s3:prefix": prefix}
    document = policy(allow("s3:ListBucket", BUCKET, Condition=condition))

    assert (verdict([document], "s3:ListBucket", BUCKET, context) is Verdict.ALLOWED) is allowed


@pytest.mark.parametrize(
    ("keys", "all_values", "any_value"),
    [
        (("a",), True, True),
        (("a", "b"), True, True),
        (("a", "c"), False, True),
        (("c",), False, False),
        (None, True, False),
    ],
)
def test_each_value_of_a_key_that_has_several_is_compared(
    keys: tuple[str, ...] | None, all_values: bool, any_value: bool
) -> None:
    context = {} if keys is None else {"aws:TagKeys": keys}

    for kind, allowed in (("ForAllValues", all_values), ("ForAnyValue", any_value)):
        condition = {f"{kind}:StringEquals": {"aws:TagKeys": ["a", "b"]}}
        document = policy(allow("ec2:DeleteTags", Condition=condition))
        assert (verdict([document], "ec2:DeleteTags", "x", context) is Verdict.ALLOWED) is allowed


def test_a_resource_that_is_not_known_is_allowed_where_any_is() -> None:
    some = policy(allow("ec2:StartInstances", "arn:aws:ec2:*:*:instance/*"))

    assert verdict([some], "ec2:StartInstances", None) is Verdict.ALLOWED
    assert (
        verdict([some, policy(deny("ec2:*", "arn:aws:ec2:x"))], "ec2:StartInstances", None) is Verdict.ALLOWED
    )
    assert verdict([some, policy(deny("ec2:*"))], "ec2:StartInstances", None) is Verdict.DENIED


@pytest.mark.parametrize(
    "document", ["{", "[]", "1", {}, {"Statement": []}, {"Statement": {"Effect": "Allow"}}]
)
def test_a_document_that_says_nothing_allows_nothing(document: Any) -> None:
    assert verdict([document], "s3:GetObject", OBJECT) is Verdict.NOT_ALLOWED


def test_a_document_may_be_text_with_one_statement() -> None:
    text = json.dumps({"Statement": allow("s3:*")})

    assert verdict([text], "s3:GetObject", OBJECT) is Verdict.ALLOWED


@given(st.text("ab*?.[", max_size=6), st.text("ab*?.[", max_size=6))
def test_a_text_without_wildcards_matches_only_itself(pattern: str, text: str) -> None:
    literal = pattern.replace("*", "").replace("?", "")

    found = verdict([policy(allow("a:b", literal))], "a:b", text)

    assert (found is Verdict.ALLOWED) == (literal == text)


def test_a_policy_about_a_folder_with_a_star_in_its_name_is_about_that_folder() -> None:
    document = filling_policy(Source("data", "a*/b?$"))
    listing = {"s3:prefix": "a*/b?$/"}

    assert verdict([document], "s3:GetObject", f"{BUCKET}/a*/b?$/x") is Verdict.ALLOWED
    assert verdict([document], "s3:GetObject", f"{BUCKET}/anything/bx$/x") is Verdict.NOT_ALLOWED
    assert verdict([document], "s3:ListBucket", BUCKET, listing) is Verdict.ALLOWED
    assert verdict([document], "s3:ListBucket", BUCKET, {"s3:prefix": "any/bx$/"}) is Verdict.NOT_ALLOWED
