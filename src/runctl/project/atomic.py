"""Writing a file of the user's own cache whole or not at all."""

from __future__ import annotations

import tempfile
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """``path`` holds ``data``, private to the user, or is what it was. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123
            file.write(data)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
