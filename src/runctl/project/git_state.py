"""What git says of a project: the commit, and the files that differ from it. Nothing of the project is run for it."""

from __future__ import annotations

import os
from pathlib import Path

from runctl.core.models import GitState
from runctl.project.git import GitFailed, no_filters, run_git

MOST_NAMED = 200
"""Changed files that are named; more are counted only."""
_STATUS = (
    *("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all"),
    *("--ignore-submodules=dirty", "--", "."),
)


def git_state(root: Path) -> GitState | None:
    """The state of the files below ``root``; ``None`` where git is missing, refuses, or knows no such project."""
    try:
        prefix = os.fsdecode(run_git(root, "rev-parse", "--show-prefix")).rstrip("\n")
        commit = run_git(root, "rev-parse", "--verify", "--quiet", "HEAD", accepted=(0, 1)).decode().strip()
        listed = run_git(root, *no_filters(root), *_STATUS)
    except GitFailed:
        return None
    # "XY path": two letters of status and a space. Paths are from the repository's root.
    changed = [os.fsdecode(entry[3:]).removeprefix(prefix) for entry in listed.split(b"\0") if entry]
    return GitState(commit or None, tuple(sorted(changed)[:MOST_NAMED]), len(changed))
