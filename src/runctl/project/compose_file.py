"""The project's Compose file."""

from __future__ import annotations

from pathlib import Path

from runctl.core.errors import NotFound

COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
"""In the order in which Compose itself looks for them."""


def find_compose_file(root: Path) -> str:
    """Its name, from the root. Raises `NotFound`."""
    for name in COMPOSE_FILES:
        if (root / name).is_file():
            return name
    raise NotFound(
        f"there is no Compose file in {root}; looked for {', '.join(COMPOSE_FILES)}",
        hint="write one, or leave --compose out",
        code="no-compose-file",
    )
