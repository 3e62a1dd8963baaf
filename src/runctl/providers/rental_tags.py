"""The tags that every rented machine gets in the call that rents it, and the room that a label has for them. Pure.

A new tag of a rented machine is a row of `rental_tags`, and a letter in `LETTERS` or a reason in `NOT_IN_LABELS`:
providers without tags would drop it otherwise (`runctl.providers.labels`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from runctl.core import tags as tag
from runctl.providers.abilities.limits import MachineLimits
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
