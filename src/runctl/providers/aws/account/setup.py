"""``aws setup``: the machines' role, a bucket for runs, and an alarm on what the account spends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runctl.core.errors import PermissionDenied, UsageError
from runctl.core.progress import SILENT, Progress
from runctl.providers.abilities.account import (
    AccountSetup,
    PolicyStatement,
    SetupPlan,
    SetupRequest,
    SetupState,
)
from runctl.providers.aws.account.alarm import Alarm
from runctl.providers.aws.account.bucket import RunsBucket
from runctl.providers.aws.account.profile import MachineProfile
from runctl.providers.aws.calls.errors import raising_our_errors
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.iam.policies import in_parts, policy_for
from runctl.providers.aws.iam.rights import RIGHTS, Whose

Part = MachineProfile | RunsBucket | Alarm
GONE = frozenset({SetupState.MISSING})


@raising_our_errors
class AwsAccountSetup(AccountSetup):
    """See `AccountSetup`. Names are fixed, so that an earlier call's work is found; tags say that it is ours."""

    policies = tuple(whose.value for whose in Whose)

    def __init__(self, context: AwsContext) -> None:
        self._context = context

    def policy(self, whose: str, without: Sequence[str] = ()) -> Mapping[str, Any]:
        """As IAM takes it."""
        identity = self._context.session.identity
        return policy_for(
            Whose(whose), partition=identity.partition, account=identity.account, without=without
        )

    def policy_parts(self, whose: str, without: Sequence[str] = ()) -> tuple[Mapping[str, Any], ...]:
        """As managed policies."""
        return in_parts(self.policy(whose, without))

    def statements(self, whose: str, without: Sequence[str] = ()) -> tuple[PolicyStatement, ...]:
        """From the table of rights; the machines' own are not called for by commands."""
        if whose == Whose.MACHINE:
            found = self.policy(whose, without)["Statement"]
            return tuple(
                PolicyStatement(
                    item["Sid"], [item["Action"]] if isinstance(item["Action"], str) else item["Action"], ()
                )
                for item in found
            )
        named = {item["Sid"] for item in self.policy(whose, without)["Statement"]}
        return tuple(
            PolicyStatement(right.sid, right.actions, right.commands)
            for right in RIGHTS
            if right.sid in named
        )

    def plan(self, request: SetupRequest) -> SetupPlan:
        """By what IAM, S3 and Budgets say."""
        if request.alarm is not None and not request.email:
            raise UsageError("an alarm needs somebody to tell", hint="--email you@example.com")
        return SetupPlan(request, tuple(part.inspect() for part in self._parts(request)))

    def create(self, plan: SetupPlan, progress: Progress = SILENT) -> SetupPlan:
        """Each part by itself: a call that is cut short is finished by the next."""
        for part, planned in zip(self._parts(plan.request), plan.parts, strict=True):
            if planned.state is SetupState.NOT_OURS:
                raise PermissionDenied(
                    f"the {planned.kind} {planned.name} was not created by runctl, and is left alone",
                    hint="remove or rename it, or leave this part out: runctl aws setup --help",
                    code="not-ours",
                )
            if planned in plan.to_do:
                part.create(progress)
        return self.plan(plan.request)

    def plan_removal(self) -> SetupPlan:
        """All parts that there can be."""
        request = SetupRequest()
        found = [part.inspect_for_removal() for part in self._all()]
        return SetupPlan(request, tuple(part for part in found if part.state not in GONE), removes=True)

    def remove(self, plan: SetupPlan, progress: Progress = SILENT) -> SetupPlan:
        """What is in use stays, and is in the plan that comes back."""
        wanted = {(part.kind, part.name) for part in plan.to_do}
        for part in self._all():
            if (part.kind, part.name) in wanted:
                part.remove(progress)
        return self.plan_removal()

    def _parts(self, request: SetupRequest) -> list[Part]:
        return [
            *([MachineProfile(self._context)] if request.profile else []),
            *([RunsBucket(self._context)] if request.bucket else []),
            *([Alarm(self._context, request.alarm, request.email)] if request.alarm is not None else []),
        ]

    def _all(self) -> list[Part]:
        return [Alarm(self._context, None, None), RunsBucket(self._context), MachineProfile(self._context)]
