"""OpenSSH's programs on this computer, and what is said where one is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

INSTALL = "install OpenSSH's client"
"""What to do then."""


def missing_program(identity: Path | None) -> str | None:
    """The program that is not here and that reaching machines needs, by ``identity`` or by a key of our own."""
    needed = ("ssh",) if identity is not None else ("ssh", "ssh-keygen")
    return next((program for program in needed if shutil.which(program) is None), None)


def not_installed(program: str) -> str:
    """The sentence."""
    return f"{program} is not installed on this computer"
