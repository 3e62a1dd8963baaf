"""The tags that make a thing ours. What does not carry `OWNED` is never touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

OWNED: Final = "runctl:managed"
"""Value `OWNED_VALUE`; set in the call that creates the thing, never in a second one."""
OWNED_VALUE: Final = "true"
PROJECT: Final = "runctl:project"
OWNER: Final = "runctl:owner"
"""Who created it: the caller's user name or role session, for people who share an account."""
CREATED_AT: Final = "runctl:created-at"
EXPIRES_AT: Final = "runctl:expires-at"
LOGIN_USER: Final = "runctl:login-user"
MOUNTS: Final = "runctl:mounts"
"""On an instance: ``vol-0abc=/mnt/data`` pairs joined by a space, what user-data has been told to mount."""
MOUNT_POINT: Final = "runctl:mount-point"
"""On a volume: where it was mounted last."""
PERSISTENT: Final = "runctl:persistent"
NAME: Final = "Name"


def is_ours(tags: Mapping[str, str]) -> bool:
    """Whether runctl created it."""
    return tags.get(OWNED) == OWNED_VALUE
