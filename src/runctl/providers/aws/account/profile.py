"""The role and instance profile of runctl's machines, with the rights that ``iam-policy --for machine`` shows."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from runctl.core import tags as tag
from runctl.core.progress import Progress
from runctl.providers.abilities.account import SetupPart, SetupState
from runctl.providers.aws.calls.errors import error_code
from runctl.providers.aws.calls.filters import describe as describe_exactly
from runctl.providers.aws.calls.parse import tags_of
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.iam.policies import pull_policy
from runctl.providers.aws.iam.roles import (
    BUCKET_POLICY,
    DEFAULT_PROFILE,
    HAND_OVER_POLICY,
    REACH_POLICY,
    ensure_default_profile,
    hand_over_policy,
    reach_policy,
    role_policy,
    runs_policy,
)

PULL_POLICY = "pull-images"
PURPOSE = (
    "lets Systems Manager reach machines, and machines detach runctl's volumes, pull runctl's images and write below"
    " runs/ in runctl's bucket; free"
)


class MachineProfile:
    """The part of the set-up."""

    kind, name = "instance profile", DEFAULT_PROFILE

    def __init__(self, context: AwsContext) -> None:
        self._context = context
        self._session = context.session

    def _policies(self) -> dict[str, Any]:
        identity = self._session.identity
        return {
            REACH_POLICY: reach_policy(),
            HAND_OVER_POLICY: hand_over_policy(),
            PULL_POLICY: pull_policy(identity.partition, identity.account),
            BUCKET_POLICY: runs_policy(identity.partition, identity.account),
        }

    def inspect(self) -> SetupPart:
        """Whether role, profile and all its policies are there as they should be."""
        role = self._role()
        if role is None:
            return self._part(SetupState.MISSING)
        if not tag.is_ours(tags_of(role.get("Tags"))):
            return self._part(
                SetupState.NOT_OURS, f"an IAM role {self.name} is there that runctl did not create"
            )
        missing = [name for name, policy in self._policies().items() if self._policy(name) != policy]
        profile = self._profile()
        if profile is None or not profile["Roles"]:
            missing.append("the profile")
        if missing:
            return self._part(SetupState.INCOMPLETE, f"to be added or renewed: {', '.join(missing)}")
        return self._part(SetupState.READY)

    def inspect_for_removal(self) -> SetupPart:
        """The same, and whether machines have it."""
        found = self.inspect()
        if found.state in (SetupState.MISSING, SetupState.NOT_OURS):
            return found
        states = ["pending", "running", "stopping", "stopped"]
        arn = self._arn()
        users = [
            item["InstanceId"]
            for item in describe_exactly(
                self._session.ec2, "describe_instances", {"instance-state-name": states}
            )
            if arn is not None and item.get("IamInstanceProfile", {}).get("Arn") == arn
        ]
        if users:
            return self._part(SetupState.IN_USE, f"used by {', '.join(users)}: runctl aws terminate")
        return found

    def create(self, progress: Progress) -> None:
        """Role, profile and policies are there."""
        ensure_default_profile(self._session, self._context.clock, progress)
        for name, policy in self._policies().items():
            if self._policy(name) != policy:
                self._session.iam.put_role_policy(
                    RoleName=self.name, PolicyName=name, PolicyDocument=json.dumps(policy)
                )

    def remove(self, progress: Progress) -> None:
        """They are gone; each may have been gone before."""
        progress.step(f"deleting the instance profile and IAM role {self.name}")
        iam, role, profile = self._session.iam, {"RoleName": self.name}, {"InstanceProfileName": self.name}
        for each in (self._profile() or {"Roles": []})["Roles"]:
            _unless_gone(partial(iam.remove_role_from_instance_profile, RoleName=each["RoleName"], **profile))
        _unless_gone(partial(iam.delete_instance_profile, **profile))
        names: list[str] = []
        _unless_gone(lambda: names.extend(iam.list_role_policies(**role)["PolicyNames"]))  # type: ignore[arg-type]
        for name in names:
            _unless_gone(partial(iam.delete_role_policy, **role, PolicyName=name))
        _unless_gone(partial(iam.delete_role, **role))

    def _part(self, state: SetupState, detail: str = "") -> SetupPart:
        return SetupPart(self.kind, self.name, PURPOSE, state, detail)

    def _role(self) -> Any:
        return _found(lambda: self._session.iam.get_role(RoleName=self.name)["Role"])

    def _profile(self) -> Any:
        return _found(
            lambda: self._session.iam.get_instance_profile(InstanceProfileName=self.name)["InstanceProfile"]
        )

    def _arn(self) -> str | None:
        profile = self._profile()
        return None if profile is None else str(profile["Arn"])

    def _policy(self, name: str) -> Any:
        return role_policy(self._session, self.name, name)


def _found(call: Any) -> Any:
    try:
        return call()
    except Exception as error:
        if error_code(error) == "NoSuchEntity":
            return None
        raise


def _unless_gone(call: Any) -> None:
    _found(call)
