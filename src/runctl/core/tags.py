"""The tags that make a thing ours. What does not carry `OWNED` is never touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

OWNED: Final = "runctl:managed"
"""Value `OWNED_VALUE`; set in the call that creates the thing, never in a second one."""
OWNED_VALUE: Final = "true"
UNFINISHED: Final = "runctl:unfinished"
"""On a bucket: it was created, and has not got all its settings yet."""
PROJECT: Final = "runctl:project"
OWNER: Final = "runctl:owner"
"""Who created it: the caller's user name or role session, for people who share an account."""
CREATED_AT: Final = "runctl:created-at"
EXPIRES_AT: Final = "runctl:expires-at"
"""On an instance: when it ends itself at the latest, by its time to live or its budget, if it is not stopped before."""
UNUSED_FOR: Final = "runctl:unused-for"
"""Seconds after which a machine of a run ends itself when no run was started on it."""
IDLE_TIMEOUT: Final = "runctl:idle-timeout"
"""On an instance: it ends itself when nothing has used it for so many seconds."""
BUDGET: Final = "runctl:budget"
"""On an instance: USD that it may cost."""
LOGIN_USER: Final = "runctl:login-user"
MOUNTS: Final = "runctl:mounts"
"""On an instance: ``vol-0abc=/mnt/data`` pairs joined by a space, what it was launched to mount."""
MOUNT: Final = "runctl:mount:"
"""On an instance, with a volume's id behind it: where that is mounted since, ``/mnt/data`` or ``/mnt/data ro``; empty:
not any more. One for each volume, as several commands may mount at once. It counts more than `MOUNTS`."""
READ_ONLY: Final = "runctl:read-only"
"""On an instance: which of `MOUNTS` it mounts read-only, ids joined by a space."""
MOUNT_POINT: Final = "runctl:mount-point"
"""On a volume: where it was mounted last."""
PERSISTENT: Final = "runctl:persistent"
PURPOSE: Final = "runctl:purpose"
"""What a volume is for: ``datasets``, ``checkpoints``, ``scratch``, ``archive``."""
VOLUME: Final = "runctl:volume"
"""On a snapshot: the name of the volume that it was taken of."""
SHAPE: Final = "runctl:shape"
"""On a snapshot: its volume's type, IOPS and throughput, such as ``gp3 3000 125``."""
MODIFICATIONS: Final = "runctl:modifications"
"""On a volume: when it was modified last, RFC 3339 times joined by spaces."""
MOVE: Final = "runctl:move"
"""On whatever takes part in moving a volume to another zone: the move's own token."""
MOVE_ZONE: Final = "runctl:move-zone"
"""On the volume that is being moved: where to."""
MOVE_NAME: Final = "runctl:move-name"
"""On both volumes of a move: the name that the one has and the other is to have."""
MOVED_TO: Final = "runctl:moved-to"
"""On a volume that was moved: the one that took its place."""
UNUSED: Final = "runctl:unused"
"""On a volume that was created empty: ``true`` until it is attached, then the id of the instance to which runctl
attached it in order to mount it. It goes when the volume is mounted, attached without mounting, or detached."""
CREATED_FROM: Final = "runctl:made-from"
"""On a volume: the snapshot or the volume whose data it began with."""
FILLED_FROM: Final = "runctl:filled-from"
"""On a volume: the address in an object store that all of it was filled from, so that nothing else is on the volume.
It goes when the volume is mounted for writing, as the two may differ then."""
FILLED_WITH: Final = "runctl:filled-with"
"""On such a volume: a digest of the names, sizes and ETags of what was there. It goes with `FILLED_FROM`."""
COPY_FOR: Final = "runctl:copy-for"
"""On a volume: the run that filled it in the place of another one, in another zone."""
CONTENT: Final = "runctl:content"
"""On a volume and on its replicas, a token: those that have the same one have the same data. It goes when the volume is
mounted for writing."""
REPLICA_OF: Final = "runctl:replica-of"
"""On a volume: the one in another zone whose data it keeps ready there."""
REPLICATES: Final = "runctl:replicates"
"""On a temporary snapshot: the content that replicas are made of."""
GONE_WITH_WRITING: Final = (FILLED_FROM, FILLED_WITH, CONTENT)
"""What is known of a volume's data until somebody may write to it."""
INTENT: Final = "runctl:intent"
"""On whatever was made: the token of the intent to make it, which is the call's client token too."""
GROW: Final = "runctl:grow"
"""On a volume, and on its copies: ``true`` while its file system is smaller than it is; the next mount lets it grow."""
HELPER_FOR: Final = "runctl:helper-for"
"""On an instance that was rented to fill a volume: which one. It is given back when that is done."""
ATTEMPT: Final = "runctl:attempt"
"""On an instance that was rented for a further attempt of a run: ``RUN/N``."""
RUN: Final = "runctl:run"
"""On all that was made for one run whose machines a group rents: the run's id."""
RANK: Final = "runctl:rank"
"""On an instance that was rented with others for one run: its number among them, from 0."""
NODE: Final = "runctl:node"
"""On a volume that was made for one of several machines in another one's place, ``TOKEN/RANK/VOLUME``: it is deleted
with that machine."""
NAME: Final = "Name"

CLOUDS_OWN: Final = "aws:"
"""What tags begin with that the cloud sets itself, and nobody else may set."""
NOT_COPIED: Final = frozenset(
    {
        OWNED,
        OWNER,
        CREATED_AT,
        EXPIRES_AT,
        UNUSED_FOR,
        IDLE_TIMEOUT,
        BUDGET,
        MOUNTS,
        READ_ONLY,
        MODIFICATIONS,
        MOVE,
        MOVE_ZONE,
        MOVE_NAME,
        MOVED_TO,
        VOLUME,
        SHAPE,
        UNUSED,
        CREATED_FROM,
        COPY_FOR,
        HELPER_FOR,
        RUN,
        RANK,
        NODE,
        REPLICA_OF,
        REPLICATES,
    }
    | {NAME, MOUNT_POINT, INTENT}
)
"""Tags that a copy does not inherit, because they say something of the original alone."""


def is_ours(tags: Mapping[str, str]) -> bool:
    """Whether runctl created it."""
    return tags.get(OWNED) == OWNED_VALUE


def inherited(tags: Mapping[str, str]) -> dict[str, str]:
    """What a copy of a volume or snapshot takes over: project, protection, purpose and the user's own tags.

    AWS's own (``aws:``) cannot be set by anybody else.
    """
    return {
        key: value for key, value in tags.items() if key not in NOT_COPIED and not key.startswith(CLOUDS_OWN)
    }


def is_of_intent(tags: Mapping[str, str], token: str | None) -> bool:
    """Whether this very intent has made it."""
    return token is not None and tags.get(INTENT) == token
