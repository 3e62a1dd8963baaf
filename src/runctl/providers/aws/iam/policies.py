"""The least-privilege policies, as IAM's documents, from the table of rights. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runctl.providers.aws.iam.rights import REPOSITORIES, RIGHTS, Right, Whose
from runctl.providers.aws.iam.roles import hand_over_policy, reach_policy, runs_policy


def policy_for(whose: Whose, *, partition: str, account: str, without: Sequence[str] = ()) -> dict[str, Any]:
    """The policy's document; ``without`` names rights that are left out."""
    if whose is Whose.MACHINE:
        return machine_policy(partition, account)
    known = {Whose.USER} if whose is Whose.USER else {Whose.USER, Whose.UNATTENDED}
    rights = [right for right in RIGHTS if right.whose in known and right.sid not in without]
    return _document([_statement(right, partition, account) for right in rights])


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
