"""What of a project a plan may count on: the files that the machine gets."""

from __future__ import annotations

import os
from collections.abc import Collection
from functools import cached_property
from pathlib import Path

from runctl._dataclasses import dataclass


@dataclass(frozen=True)
class ProjectFiles:
    """The files of a project as a machine has them."""

    root: Path
    sent: Collection[str] | None = None
    """Paths from the root, with forward slashes; ``None`` when nothing is sent: then this disk is asked."""

    def has(self, path: str) -> bool:
        """Whether the machine has this file; a link counts as what it leads to."""
        return (self.sent is None or path in self.sent) and (self.root / path).is_file()

    def has_below(self, path: str) -> bool:
        """Whether the machine has this file, or anything in this folder; ``.`` is the root."""
        if self.sent is None:
            return (self.root / path).exists()
        return path in {"", "."} or path in self._with_folders

    def stays_here(self, path: str) -> bool:
        """Whether there is such a file or folder on this disk, and nothing of it is sent."""
        return not self.has_below(path) and (self.root / path).exists()

    @cached_property
    def _with_folders(self) -> frozenset[str]:
        found = set(self.sent or ())
        for path in self.sent or ():
            above = os.path.dirname(path)  # noqa: PTH120 - thousands of them
            while above and above not in found:
                found.add(above)
                above = os.path.dirname(above)  # noqa: PTH120
        return frozenset(found)
