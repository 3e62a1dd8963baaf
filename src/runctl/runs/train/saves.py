"""Sees every save in a project, as soon as its files have come to rest."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from runctl.core.errors import RunctlError
from runctl.core.progress import Progress

QUIET_MILLISECONDS = 400
"""Editors write a file in several steps, and version control many files: they are one save."""


class Watcher:
    """A thread that calls ``on_save`` after each save, until it is closed. Used with ``with``."""

    def __init__(self, root: Path, on_save: Callable[[], None], progress: Progress) -> None:
        self._root, self._on_save, self._progress = root, on_save, progress
        self._over = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(5)

    def _watch(self) -> None:
        from watchfiles import watch

        try:
            for _changes in watch(
                self._root,
                debounce=4 * QUIET_MILLISECONDS,
                step=QUIET_MILLISECONDS,
                stop_event=self._over,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                self._saved()
        except (OSError, RuntimeError) as error:
            # No more inotify watches, a folder that has gone: the run itself goes on.
            self._progress.warn(f"saves in {self._root} are no longer seen: {error}")

    def _saved(self) -> None:
        try:
            self._on_save()
        except RunctlError as error:
            hint = f" ({error.hint})" if error.hint else ""
            self._progress.warn(f"not synced: {error.message}{hint}; the next save tries again")
