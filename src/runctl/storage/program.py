"""The filling program as a project that can be sent to a machine, and its command lines."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from runctl.agent.fill.objects import Source

SCRIPT = "prewarm.py"
"""The project's script. Runs of it on a machine are told from others by this name and their arguments."""
_HEADER = '''\
# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""Fills a volume; sent by runctl aws ebs prewarm."""

import sys

from runctl.agent.fill.__main__ import main

sys.exit(main())
'''


def write_project(folder: Path) -> Path:
    """The project is in ``folder``, of this version and nothing else's; returns its script.

    Files that are there already are left alone, so that calls at the same time do not disturb each other.
    """
    wanted = {
        SCRIPT: _HEADER,
        # The folder is a project of its own, whatever lies above it.
        ".runctlignore": "__pycache__/\n",
        "runctl/__init__.py": "",
        "runctl/agent/__init__.py": "",
        **{f"runctl/agent/fill/{name}": text for name, text in _modules().items()},
    }
    for name, text in wanted.items():
        path = folder / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(path.name + ".new")
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    for stale in folder.rglob("*.py"):
        if str(stale.relative_to(folder)) not in wanted:
            stale.unlink(missing_ok=True)
    return folder / SCRIPT


def _modules() -> dict[str, str]:
    package = resources.files("runctl.agent.fill")
    return {
        entry.name: entry.read_text(encoding="utf-8")
        for entry in package.iterdir()
        if entry.name.endswith(".py")
    }


def s3_arguments(
    source: Source, into: str, *, region: str, mount_point: str, delete: bool
) -> tuple[str, ...]:
    """The program's arguments that fill a folder. The same wish gives the same words: runs are found by them."""
    words = ["s3", str(source), into, "--region", region, "--mount-point", mount_point]
    return (*words, "--delete") if delete else tuple(words)


def block_arguments(volume_id: str) -> tuple[str, ...]:
    """The program's arguments that read all of an attached volume."""
    return ("blocks", volume_id)
