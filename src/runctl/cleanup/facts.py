"""What a decision about a resource rests on, beside the resource itself: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime, timedelta
from enum import StrEnum

from runctl._dataclasses import dataclass
from runctl.providers.abilities.inventory import Resource, Unread

OLDER_THAN = timedelta(hours=1)
"""What is younger may still be made by a command, here or on another computer."""


class Include(StrEnum):
    """What is removed only where somebody asks for it: it may be wanted, and nothing says that it is not."""

    INSTANCES = "instances"
    """Machines on which no run goes on."""
    VOLUMES = "volumes"
    """Volumes that are attached to nothing, with the data on them."""
    SNAPSHOTS = "snapshots"
    OBJECTS = "objects"
    """Checkpoints, results and logs of runs that have ended."""
    IMAGES = "images"
    SHARED = "shared"
    """What the account has once for everybody: roles, buckets, repositories. The next command makes it again."""


@dataclass(frozen=True)
class RunFact:
    """What this computer knows of a run."""

    id: str
    instance_id: str
    volumes: frozenset[str]
    """Those that it mounts, and the one that has its checkpoints."""
    store: str | None
    """Its own address in an object store, with its id at the end."""
    goes_on: bool
    """Its machine may still be running it."""
    unfinished: bool
    """It goes on, or another attempt of it may follow: its data is needed."""
    rented: bool = False
    """Its machine was rented for it and is to end with it."""
    fetched_until: datetime | None = None
    """So long after the run's end its machine waits for what is on it to be fetched; ``None``: it has not ended."""
    image_digest: str | None = None
    keep_last: int | None = None
    """So many of its checkpoints are to stay in its store; ``None``: nobody has said so, or it is forgotten."""
    keep_best: tuple[str, ...] = ()
    """The newest of each of these names stays besides."""


@dataclass(frozen=True)
class IntentFact:
    """What this computer knows of something that was to be made."""

    token: str
    kind: str
    unfinished: bool
    """The command that began it has not come to its end."""
    busy: bool
    """It is being made at this moment."""


@dataclass(frozen=True)
class Facts:
    """All of it."""

    users: Mapping[str, str | None] = field(default_factory=dict)
    """By provider, what the caller's own resources have as their owner."""
    runs: tuple[RunFact, ...] = ()
    intents: Mapping[str, IntentFact] = field(default_factory=dict)
    """By token."""
    existing: Mapping[str, Resource] = field(default_factory=dict)
    """By id, everything that was listed."""
    unread: tuple[Unread, ...] = ()
    """What could not be listed."""
    region: str | None = None
    """The only one that was listed; ``None``: all were."""
    going: frozenset[str] = frozenset()
    """The ids of what is removed before."""
    protected: Mapping[str, str] = field(default_factory=dict)
    """By id, why the provider would refuse."""
    cannot_stop: Mapping[str, str] = field(default_factory=dict)
    """By provider, why its machines can only be ended."""
    loses_disks: frozenset[str] = frozenset()
    """The providers whose machines lose what is on their own disks when they stop."""
    older_than: timedelta = OLDER_THAN
    include: frozenset[Include] = frozenset()
    state_error: str = ""
    """Why this computer's own state cannot be read: what it knows of runs is missing."""
