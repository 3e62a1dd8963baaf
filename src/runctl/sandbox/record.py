"""The file by which others find a sandbox's server, and speak to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runctl.core.places import make_private_file
from runctl.sandbox.layout import Layout


def read(layout: Layout) -> dict[str, Any] | None:
    """What the server has written down; ``None`` when it has not, or when this user may not read it."""
    try:
        words = json.loads(layout.info_file.read_text())
    except (OSError, ValueError):
        return None
    return words if isinstance(words, dict) else None


def write(layout: Layout, words: Mapping[str, object]) -> None:
    """The file holds this, all at once; only the user can read it. Raises `OSError`."""
    part = layout.info_file.with_suffix(".part")
    make_private_file(part)
    part.write_text(json.dumps(words))
    part.replace(layout.info_file)
