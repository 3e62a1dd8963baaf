"""What lies at a run's prefix in its store, so that a machine which knows nothing but the address can take up the run.

``spec.json`` is the `RunSpec`, values of variables included; ``run.json`` a `StoredRun`; ``agent.pyz`` this program;
``project/DIGEST.json`` the manifest of a tree and ``project/DIGEST.pack`` its files, as the verb ``apply`` takes both.
Each attempt has ``spec.json`` (as it was asked for, without values of variables), ``machine.json`` (a `StoredMachine`)
and ``status.json`` (an `AttemptStatus`) beside its log and its end; where it has several machines, these are rank 0's,
and ``nodes.json`` (`StoredNodes`) has all. Checkpoints are described by `runctl.agent.checkpoints.layout`, the lease by
`runctl.agent.lease`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from runctl._dataclasses import dataclass

FORMAT = 1
SPEC, RUN, AGENT = "spec.json", "run.json", "agent.pyz"
PROJECT, ATTEMPTS = "project/", "attempts/"
MEETINGS = "meetings/"
"""What the machines of a group have for each other until the run has ended; see `runctl.agent.supervising.meeting`."""
MOST_ATTEMPTS = 20


@dataclass(frozen=True)
class StoredVolume:
    """A volume that every attempt's machine has mounted."""

    volume_id: str
    mount_point: str
    read_only: bool = False
    blank: bool = False
    """It was created empty for the run: the first attempt makes its file system."""
    forget: tuple[str, ...] = ()
    """Tags that say what is on it, and go before a machine may write to it."""


@dataclass(frozen=True)
class StoredRun:
    """What an attempt needs besides its spec."""

    volumes: tuple[StoredVolume, ...] = ()
    """Outer mount points first."""
    max_attempts: int = MOST_ATTEMPTS
    """In all."""
    registry: str = ""
    """The host that its image is pulled from by the machine's own role; empty: by anybody."""
    client: Mapping[str, Any] = field(default_factory=dict)
    """What a computer needs to recover the run; machines do not read it."""
    format: int = FORMAT


@dataclass(frozen=True)
class StoredMachine:
    """The machine of an attempt."""

    instance_id: str
    created_at: float
    """When the attempt began there, in seconds since the epoch."""
    instance_type: str = ""
    zone: str = ""
    market: str = ""
    price_per_hour: str = ""
    """USD; empty where whoever wrote this did not know it."""


@dataclass(frozen=True)
class StoredNode:
    """One of the machines of an attempt that has several."""

    rank: int
    instance_id: str
    address: str
    name: str = ""
    """What the instance is called; empty: nothing."""


@dataclass(frozen=True)
class StoredNodes:
    """All of them, by rank, and what makes one run of them."""

    engine: str
    token: str
    """Of the intent by which they were rented: what was made beside them has it as a tag."""
    least: int
    nodes: tuple[StoredNode, ...]


def by_digest(image: str, digest: str) -> str:
    """The reference of the very image that an attempt has got, wherever its tag leads by now. Pure."""
    folder, slash, last = image.partition("@")[0].rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}@{digest}"


def manifest_key(digest: str) -> str:
    """Of the tree with this digest."""
    return f"{PROJECT}{digest}.json"


def pack_key(digest: str) -> str:
    """Of its files."""
    return f"{PROJECT}{digest}.pack"


def spec_key(attempt: int, rank: int = 0) -> str:
    """What the attempt was asked for, on the machine of that rank."""
    return f"{ATTEMPTS}{attempt:04}/" + (f"nodes/{rank:04}/" if rank else "") + "spec.json"


def machine_key(attempt: int) -> str:
    """Where the attempt runs."""
    return f"{ATTEMPTS}{attempt:04}/machine.json"


def nodes_key(attempt: int) -> str:
    """Where it runs, if it has several machines."""
    return f"{ATTEMPTS}{attempt:04}/nodes.json"


def status_key(attempt: int) -> str:
    """How far it was when its machine wrote last."""
    return f"{ATTEMPTS}{attempt:04}/status.json"
