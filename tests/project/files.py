"""Projects on a disk, for tests."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

Make = Callable[[Path, dict[str, str]], Path]
"""Writes a project's files."""
AsNobody = Callable[[str, Path], str]
"""Runs a piece of Python about a folder, as a user to whom modes mean something."""


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Make the files, folders included; returns the root."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def git(root: Path, *argv: str) -> None:
    """Run git there."""
    command = ["git", "-C", os.fspath(root), "-c", "protocol.file.allow=always", *argv]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def repository(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """A git repository in which everything that is not ignored is committed."""
    write(root, files)
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", "start")
    return root


def age(root: Path, seconds: float = 60) -> None:
    """Make every file look as if it had not been touched for a while; ctime cannot be set, so wait for it."""
    then = time.time() - seconds
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (then, then))
