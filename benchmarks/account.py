"""An account to ask something of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def sandbox_account(home: Path) -> Iterator[dict[str, str]]:
    """A sandbox without machines, and the variables that lead there."""
    from runctl.sandbox import control

    info = control.start(home=home, kind="folders", docker="off")
    try:
        yield {**info.environment(), "AWS_EC2_METADATA_DISABLED": "true"}
    finally:
        control.stop(home=home)
