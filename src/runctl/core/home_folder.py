"""``~`` in paths that people type."""

from __future__ import annotations

import os
from pathlib import Path


def expand_user(path: str | Path) -> Path:
    """The path with ``~`` and ``~user`` replaced; as it is, as in a shell, where there is no such user or home.

    ``Path.expanduser`` raises `RuntimeError` for these.
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111 - see above
