"""Environments with packages from the index that only slow tests need.

Each is made once, by whoever asks first, and kept in the cache of whoever runs the tests. Making one takes longer than
a test may: such tests have the mark ``timeout(func_only=True)``, so that only they are timed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from runctl.agent.machine import durable

INSTALL_SECONDS = 1500


def environment_with(requirements: Sequence[str]) -> Path:
    """The folder of one that has them; tests/conftest.py names the folder of all, ``RUNCTL_TEST_ENVIRONMENTS``."""
    place = Path(os.environ["RUNCTL_TEST_ENVIRONMENTS"])
    asked = [sys.version, *requirements]
    folder = place / sha256("\n".join(asked).encode()).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    # Every process of a test run may ask for it.
    with durable.locked(place / f"{folder.name}.lock"):
        if not (folder / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            install = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", *requirements]
            subprocess.run(install, check=True, timeout=INSTALL_SECONDS)
            (folder / "complete").touch()
    return folder
