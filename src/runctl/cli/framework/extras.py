"""What an installation lacks, and the command that adds it."""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec


def install_command(extra: str) -> str:
    """The command that adds an extra of runctl's to this very installation."""
    requirement = f"runctl[{extra}]"
    prefix = sys.prefix.replace("\\", "/")
    if "/uv/tools/" in prefix:
        return f"uv tool install {shlex.quote(requirement)}"
    if "/pipx/" in prefix:
        return f"pipx install --force {shlex.quote(requirement)}"
    if find_spec("pip") is None:
        return "uv pip install --python " + shlex.join([sys.executable, requirement])
    return shlex.join([sys.executable, "-m", "pip", "install", requirement])
