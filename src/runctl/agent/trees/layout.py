"""Where synced projects are in the state directory."""

from __future__ import annotations

from pathlib import Path
from typing import Optional


def project_folder(state: Path, project: str) -> Path:
    """Holds ``trees/<digest>`` and the link ``current``."""
    return state / "projects" / project


def tree_folder(state: Path, project: str, digest: str) -> Path:
    """The complete tree with this digest."""
    return project_folder(state, project) / "trees" / digest


def current(state: Path, project: str) -> Optional[str]:
    """Digest of the tree that was synced last; ``None`` if none was."""
    try:
        return (project_folder(state, project) / "current").readlink().name
    except (FileNotFoundError, OSError):
        return None
