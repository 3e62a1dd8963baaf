"""The project that a command is given in, as far as naming things after it goes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from runctl.core.config import Config
from runctl.core.config.files import project_folders

if TYPE_CHECKING:
    from runctl.project.selection import Limits


def project_folder(folder: Path) -> Path | None:
    """The nearest folder upwards with ``.git``, else the nearest with a file that only projects have, else ``None``."""
    from runctl.project.root import MARKERS

    above = project_folders(folder)
    root = next((folder for folder in above if (folder / ".git").exists()), None)
    return root or next(
        (folder for folder in above if any((folder / name).is_file() for name in MARKERS)), None
    )


def project_label(flag: str | None, config: Config, folder: Path) -> str | None:
    """What new things are tagged with: the flag's word, the configuration's, else the project folder's name."""
    if flag or config.project.name:
        return flag or config.project.name
    root = project_folder(folder)
    return fit_for_a_tag(root.name) if root is not None else None


def fit_for_a_tag(name: str) -> str:
    """The name in letters that need no quoting anywhere; never empty."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "project"


def sync_limits(config: Config) -> Limits:
    """Above what a project is taken for a mistake."""
    from runctl.project.selection import Limits

    return Limits(max_bytes=config.sync.max_size_mib << 20, max_files=config.sync.max_files)
