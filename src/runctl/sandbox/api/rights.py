"""Who calls, and what the policies of a role let that caller do.

Temporary keys act for their role. The keys of this start of the sandbox, and those of an IAM user, own the account.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moto.core.utils import utcnow
from moto.iam.exceptions import NotFoundException
from moto.iam.models import iam_backends
from moto.s3.models import s3_backends
from moto.sts.models import sts_backends

from runctl.sandbox.api.policies import Document, Value, Verdict, verdict
from runctl.sandbox.world import ACCOUNT, current

TEMPORARY = "ASIA"
"""The prefixes of temporary keys' ids."""


class UnknownKey(Exception):
    """These keys were never issued, or not with this token."""


class ExpiredKey(Exception):
    """They have expired."""


@dataclass(frozen=True)
class Need:
    """One action that the caller must be allowed to do."""

    action: str
    """As policies name it: ``s3:GetObject``."""
    resource: str | None
    """An ARN, ``*``, or ``None`` for what is not known."""
    context: Mapping[str, Value] | None = None
    """For conditions."""


@dataclass(frozen=True)
class Caller:
    """A role in use."""

    arn: str
    """``arn:aws:sts::…:assumed-role/ROLE/SESSION``."""
    policies: tuple[Document, ...]
    session_policy: str | None
    """Must allow it too, if there is one."""

    def refusal(self, needs: Sequence[Need]) -> str | None:
        """AWS's sentence about the first action that the caller may not do; ``None`` when there is none."""
        for need in needs:
            found = verdict(self.policies, need.action, need.resource, need.context)
            kind = "identity-based policy"
            if found is Verdict.ALLOWED and self.session_policy:
                found = verdict([self.session_policy], need.action, need.resource, need.context)
                kind = "session policy"
            if found is Verdict.ALLOWED:
                continue
            because = f"no {kind} allows the {need.action} action"
            if found is Verdict.DENIED:
                because = f"with an explicit deny in {'an' if kind[0] == 'i' else 'a'} {kind}"
            on = f" on resource: {need.resource}" if need.resource is not None else ""
            link = "" if found is Verdict.DENIED else "because "
            return f"User: {self.arn} is not authorized to perform: {need.action}{on} {link}{because}"
        return None


def caller(access_key: str, token: str | None = None) -> Caller | None:
    """The role behind temporary keys; ``None`` for the account's owner. ``token`` is compared where it is given.

    Raises `UnknownKey`; `ExpiredKey` where there is a token.
    """
    if not access_key.startswith(TEMPORARY):
        if _owns_the_account(access_key):
            return None
        raise UnknownKey(access_key)
    for session in reversed(sts_backends[ACCOUNT]["aws"].assumed_roles):
        if session.access_key_id == access_key:
            if token is not None and token != session.session_token:
                raise UnknownKey(access_key)
            if token is not None and session.expiration <= utcnow():
                raise ExpiredKey(access_key)
            return Caller(session.arn, _policies(session.role_arn), session.policy or None)
    raise UnknownKey(access_key)


def policies_of(role: Any) -> tuple[Document, ...]:
    """The documents of moto's role, its own and those attached to it."""
    attached = [
        version.document
        for policy in role.managed_policies.values()
        for version in policy.versions
        if version.is_default
    ]
    return (*role.policies.values(), *attached)


def has_object(bucket: str, key: str) -> bool:
    """Whether S3 has it."""
    found = s3_backends[ACCOUNT]["aws"].buckets.get(bucket)
    return found is not None and found.keys.get(key) is not None


def _owns_the_account(access_key: str) -> bool:
    if hmac.compare_digest(access_key.encode(), current().keys.access_key_id.encode()):
        return True
    key = iam_backends[ACCOUNT]["aws"].access_keys.get(access_key)
    return key is not None and key.status == "Active"


def _policies(role_arn: str) -> tuple[Document, ...]:
    try:
        return policies_of(iam_backends[ACCOUNT]["aws"].get_role_by_arn(role_arn))
    except NotFoundException:
        # A role that was deleted while it was in use can do nothing any more.
        return ()
