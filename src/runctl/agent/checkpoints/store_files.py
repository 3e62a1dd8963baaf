"""Files on their way into a store and out of it, and how what goes wrong with one is told."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from runctl.agent.checkpoints.layout import StoredFile
from runctl.agent.cloud.checksums import MIB
from runctl.agent.errors import AgentError

THREADS = 8

LARGE = 64 * MIB
"""Bytes: a larger file goes in parts at once, of smaller ones several do."""

BLOCK = 1 << 18


def partial_of(target: Path) -> Path:
    """Where a file is until it is whole: nobody else writes there."""
    return target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")


def missing(key: str) -> AgentError:
    """There is no such key."""
    return AgentError("store-missing", f"{key} is not in the store")


def corrupt(file: StoredFile) -> AgentError:
    """What the store has is not what was put there."""
    return AgentError("store-corrupt", f"{file.path} does not match its manifest's checksum in the store")


def changed(path: Path) -> AgentError:
    """The file is not what it was when its checksum was made."""
    return AgentError("changed", f"{path.name} changed while it was copied")
