"""Where runctl keeps its files on this computer: the platform's own folders, which follow XDG_… on Linux."""

from __future__ import annotations

from pathlib import Path

import platformdirs

_NAME = "runctl"


def data_folder() -> Path:
    """State that outlives a reboot: the state file, keys, the sandbox."""
    return platformdirs.user_data_path(_NAME)


def cache_folder() -> Path:
    """What can be made again."""
    return platformdirs.user_cache_path(_NAME)


def state_file() -> Path:
    """The SQLite file of `runctl.core.database`."""
    return data_folder() / "state.db"
