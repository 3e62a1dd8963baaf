"""What a run's request and its status say of checkpoints: part of `runctl.agent.spec`'s contract."""

from __future__ import annotations

from dataclasses import field
from typing import Optional

from runctl._dataclasses import dataclass

CHECKPOINT_SIGNALS = ("USR1", "USR2", "HUP", "none")
"""What may ask a script for a checkpoint, where it has a handler for it; ``none`` never asks."""


KEYS_FILE = "/var/lib/runctl/store-keys.json"
"""Where a machine has the keys that were brought to it."""


@dataclass(frozen=True)
class StoreSpec:
    """Where a run's checkpoints and its log are kept besides, below ``URL/RUN_ID/``, and which of them stay there."""

    url: str
    """``s3://bucket/prefix``, or an absolute folder of the machine."""
    endpoint: str = ""
    """Of an S3-compatible store; empty: the machine's own (``AWS_ENDPOINT_URL``), else AWS."""
    region: str = ""
    """Of the bucket; empty: the machine's, or what S3 says."""
    keep_last: Optional[int] = None
    """How many checkpoints stay; ``None``: all."""
    keep_best: tuple[str, ...] = ()
    """Patterns of names of which the newest stays besides."""
    keys_file: str = ""
    """A file of the machine with keys that end (`StoreKeys`, as JSON); whoever follows the run brings newer ones."""


@dataclass(frozen=True)
class StoreKeys:
    """Keys for a store, which end by themselves."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    token: str = field(default="", repr=False)
    ends_at: Optional[float] = None
    """Seconds since the epoch; ``None``: that is not known."""


@dataclass(frozen=True)
class CheckpointSchedule:
    """How often the script is asked for a checkpoint."""

    every_seconds: Optional[float] = None
    """``None``: by what a checkpoint costs, and how long machines live."""
    between_interruptions: float = 7200.0
    """Seconds that a machine of this kind lives on average."""


@dataclass(frozen=True)
class CheckpointStatus:
    """The newest complete checkpoint of a run, as its machine sees it."""

    path: str
    """On the machine."""
    saved_at: float
    """When its last file was written, in seconds since the epoch."""
    step: Optional[int] = None
    published_at: Optional[float] = None
    """When all of it was in the store; ``None``: it is not yet, or there is no store."""
    sha256: str = ""
    """Of the file; of a folder, of its manifest in the store. Empty until it is there."""
    trouble: str = ""
    """Why it is not in the store, in words; empty if nothing is wrong."""
    late_seconds: float = 0.0
    """By how much it is older than it should be; 0 if it is not."""
