"""Whether a folder has anything besides what it was filled with: if not, the same can be had anew from there."""

from __future__ import annotations

import os
from pathlib import Path

from runctl.agent.fill.objects import OWN_FOLDER, Wanted
from runctl.agent.fill.record import FILE, PARTIAL

LOCK = "lock"
"""In the program's own folder: held by whoever fills."""
_NOBODYS = frozenset({"lost+found", f"{OWN_FOLDER}/{FILE}", f"{OWN_FOLDER}/{LOCK}"})
"""Of the file system, and of this program."""


def other_path(root: Path, filled: Wanted) -> str | None:
    """The first path found below the root that is not among the files and folders it was filled with; ``None``: all is.

    A folder that cannot be looked into counts as another one's.
    """
    expected = {OWN_FOLDER, f"{OWN_FOLDER}/{PARTIAL}", *_folders(filled)}
    left = [""]
    while left:
        above = left.pop()
        try:
            with os.scandir(root / above) as entries:
                for entry in entries:
                    path = f"{above}/{entry.name}" if above else entry.name
                    if path in _NOBODYS:
                        continue
                    if not entry.is_dir(follow_symlinks=False):
                        if path not in filled.files:
                            return path
                    elif path in expected:
                        left.append(path)
                    else:
                        return path
        except OSError:
            return above or "."
    return None


def _folders(filled: Wanted) -> set[str]:
    """All that the files are in, and those that S3 has as folders."""
    found: set[str] = set()
    for folder in (*filled.folders, *(path.rpartition("/")[0] for path in filled.files)):
        above = folder
        while above and above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return found
