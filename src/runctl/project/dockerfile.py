"""Where a project keeps its Dockerfile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SEARCHED = (
    "Dockerfile",
    "Dockerfile.train",
    "docker/Dockerfile",
    "deployment/Dockerfile",
    "training/Dockerfile",
    "scripts/Dockerfile",
    "src/Dockerfile",
)
"""Looked at in this order; the first that is there is used. The build's context is the root for all of them."""


@dataclass(frozen=True)
class DockerfileChoice:
    """The Dockerfile that a training would be built from."""

    path: str
    """From the root, with forward slashes."""
    reason: str
    """For a person: which one, and which others were passed over."""


def find_dockerfile(root: Path) -> DockerfileChoice | None:
    """The first of `SEARCHED` that is a file, or ``None``."""
    found = [place for place in SEARCHED if (root / place).is_file()]
    if not found:
        return None
    first, *others = found
    passed_over = f"; {', '.join(others)} not used" if others else ""
    return DockerfileChoice(first, f"the project has {first}{passed_over}")
