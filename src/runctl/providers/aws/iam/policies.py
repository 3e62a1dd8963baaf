"""The least-privilege policies, as IAM's documents, from the table of rights. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from runctl.core.errors import UsageError
from runctl.core.names import did_you_mean
from runctl.providers.aws.iam.rights import REPOSITORIES, RIGHTS, Right, Whose
from runctl.providers.aws.iam.roles import hand_over_policy, reach_policy, runs_policy

MOST_IN_A_POLICY = 6144
"""Characters of a managed policy, blanks not counted ("IAM and AWS STS quotas"). One inside a user may have 2,048."""


def policy_for(whose: Whose, *, partition: str, account: str, without: Sequence[str] = ()) -> dict[str, Any]:
    """The policy's document; ``without`` names statements that are left out. Raises `UsageError` for others."""
    if whose is Whose.MACHINE:
        statements = machine_policy(partition, account)["Statement"]
    else:
        known = {Whose.USER} if whose is Whose.USER else {Whose.USER, Whose.UNATTENDED}
        statements = [_statement(right, partition, account) for right in RIGHTS if right.whose in known]
    names = [statement["Sid"] for statement in statements]
    for name in without:
        if name not in names:
            raise UsageError(
                f"the policy has no statement {name!r}",
                hint=did_you_mean(name, names) or "--explain lists them",
            )
    return _document([statement for statement in statements if statement["Sid"] not in without])


def in_parts(policy: Mapping[str, Any], most: int = MOST_IN_A_POLICY) -> tuple[dict[str, Any], ...]:
    """The same statements, in their order, in as few documents as IAM takes them. Pure."""
    parts: list[dict[str, Any]] = []
    for statement in policy["Statement"]:
        if parts:
            longer = _document([*parts[-1]["Statement"], statement])
            if _size(longer) <= most:
                parts[-1] = longer
                continue
        parts.append(_document([statement]))
    return tuple(parts)


def _size(policy: Mapping[str, Any]) -> int:
    return len(json.dumps(policy, separators=(",", ":")))


def machine_policy(partition: str, account: str) -> dict[str, Any]:
    """What the machines' role has: Systems Manager, their own volumes, pulling runctl's images, and no more."""
    return _document(
        [
            {"Sid": "ReachBySystemsManager", **reach_policy()["Statement"][0]},
            {"Sid": "LetVolumesGo", **hand_over_policy()["Statement"][0]},
            *pull_policy(partition, account)["Statement"],
            *runs_policy(partition, account)["Statement"],
        ]
    )


PULL = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
"""What docker needs to pull an image from ECR."""


def pull_policy(partition: str, account: str) -> dict[str, Any]:
    """Pulling the images that runctl has pushed."""
    repositories = [each.format(partition=partition, account=account) for each in REPOSITORIES]
    return _document(
        [
            {
                "Sid": "LogInToRegistry",
                "Effect": "Allow",
                "Action": "ecr:GetAuthorizationToken",
                "Resource": "*",
            },
            {"Sid": "PullImages", "Effect": "Allow", "Action": list(PULL), "Resource": repositories},
        ]
    )


def _document(statements: list[dict[str, Any]]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": statements}


def _statement(right: Right, partition: str, account: str) -> dict[str, Any]:
    resources = [each.format(partition=partition, account=account) for each in right.resources]
    statement: dict[str, Any] = {
        "Sid": right.sid,
        "Effect": "Allow",
        "Action": list(right.actions),
        "Resource": "*" if "*" in resources else resources,
    }
    if right.condition:
        statement["Condition"] = {name: dict(tests) for name, tests in right.condition.items()}
    return statement
