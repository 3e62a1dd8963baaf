"""The tags that every rented machine gets in the call that rents it, and the room that a label has for them. Pure.

A new tag of a rented machine is a row of `rental_tags`, and a letter in `LETTERS` or a reason in `NOT_IN_LABELS`:
providers without tags would drop it otherwise (`runctl.providers.labels`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.core import tags as tag
from runctl.core.ids import new_client_token
from runctl.providers.abilities.limits import MachineLimits, settled_limits, unused_tags
from runctl.providers.instance_plans import InstanceRequest

LETTERS: Mapping[str, str] = {
    "o": tag.OWNER,
    "p": tag.PROJECT,
    "n": tag.NAME,
    "a": tag.ATTEMPT,
    "x": tag.EXPIRES_AT,
    "i": tag.IDLE_TIMEOUT,
    "b": tag.BUDGET,
    "r": tag.RUN,
    "u": tag.UNUSED_FOR,
}
"""The tags that a label has room for, by the letter of their part. Labels are stored: a letter never changes."""
NOT_IN_LABELS: Mapping[str, str] = {
    tag.HELPER_FOR: "machines are rented to fill a volume only where there are volumes with tags",
}
"""Tags of rented machines that a label does without, and why."""


def rental_tags(
    request: InstanceRequest,
    limits: MachineLimits,
    *,
    project: str | None,
    owner: str,
    token: str,
    now: datetime,
) -> dict[str, str]:
    """What says whose the machine is, what it is for and when it ends; the user's own tags come first."""
    optional = {
        tag.PROJECT: project,
        tag.NAME: request.name,
        tag.ATTEMPT: request.attempt,
        tag.HELPER_FOR: request.helper_for,
    }
    return {
        **request.tags,
        tag.OWNED: tag.OWNED_VALUE,
        tag.OWNER: owner,
        tag.INTENT: token,
        **{key: value for key, value in optional.items() if value},
        **limits.tags(now),
    }


@dataclass(frozen=True)
class RentalTerms:
    """By what a machine is known again, and when it ends."""

    token: str
    limits: MachineLimits
    tags: Mapping[str, str]


def terms_by_label(
    request: InstanceRequest, *, owner: str, per_hour: Decimal | None, now: datetime
) -> RentalTerms:
    """Those of a machine that costs ``per_hour``, and whose guard is told by its label: its provider keeps no tags.

    Raises as `settled_limits` does.
    """
    token = request.token or new_client_token()
    limits = settled_limits(
        ttl=request.ttl,
        budget=request.budget,
        idle_timeout=request.idle_timeout,
        for_a_run=request.attempt is not None or request.unused_for is not None,
        per_hour=per_hour,
    )
    tags = rental_tags(request, limits, project=request.project, owner=owner, token=token, now=now)
    return RentalTerms(token, limits, {**tags, **unused_tags(request.unused_for)})
