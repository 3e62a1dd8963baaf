"""What a script and its machine have agreed on: signals that ask for a checkpoint, variables that say where it is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

EXIT_CODE = 128 + signal.SIGTERM
"""Of a script that has saved and ended because of SIGTERM."""


def resume_path() -> str | None:
    """The checkpoint to go on from, as ``RUNCTL_RESUME_FROM`` says; ``None`` at the beginning, and without runctl."""
    return os.environ.get("RUNCTL_RESUME_FROM") or None


def checkpoint_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """``folder``, else ``RUNCTL_CHECKPOINT_DIR``, else ``checkpoints`` in the current folder. It exists."""
    path = Path(folder or os.environ.get("RUNCTL_CHECKPOINT_DIR") or "checkpoints")
    path.mkdir(parents=True, exist_ok=True)
    return path


class Requests:
    """What signals have asked for since somebody looked. They only make a note: the script saves between two steps."""

    def __init__(self, checkpoint_signal: int | None = signal.SIGUSR1) -> None:
        """Handles SIGTERM and ``checkpoint_signal`` from now on; must be made in the main thread."""
        self.must_end = False
        """SIGTERM has come."""
        self._asked = False
        signal.signal(signal.SIGTERM, self._end)
        if checkpoint_signal is not None:
            signal.signal(checkpoint_signal, self._ask)

    def take(self) -> bool:
        """Whether a checkpoint is asked for; asked once more, it no longer is."""
        asked = self._asked or self.must_end
        self._asked = False
        return asked

    def _end(self, *_: object) -> None:
        self.must_end = True

    def _ask(self, *_: object) -> None:
        self._asked = True


class ProgressFile:
    """Tells the machine how far the script is, by the file that ``RUNCTL_PROGRESS_FILE`` names; without one, nobody."""

    SECONDS = 1.0
    """Between two writes; the last step is always written."""

    def __init__(self) -> None:
        name = os.environ.get("RUNCTL_PROGRESS_FILE")
        self._path = Path(name) if name else None
        self._next = 0.0

    def write(self, step: float, total: float | None) -> None:
        """``step`` of ``total`` steps were made. What cannot be written is no reason to end a training."""
        if self._path is None or (time.monotonic() < self._next and step != total):
            return
        self._next = time.monotonic() + self.SECONDS
        known = total is not None and 0 < total < float("inf")
        with contextlib.suppress(OSError):
            # The machine's reader must not see half of it.
            partial = self._path.with_name(f"{self._path.name}.partial")
            partial.write_text(json.dumps({"step": step, "total": total if known else None}))
            partial.replace(self._path)


def save_whole(target: Path, write: Callable[[Path], object]) -> None:
    """What ``write`` puts at the path that it is given is at ``target``, durably and all at once."""
    # What begins with a dot is not a checkpoint.
    partial = target.with_name(f".{target.name}.partial")
    try:
        write(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        # On a full disk, what is of no use would be what fills it.
        partial.unlink(missing_ok=True)
        raise
    opened = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
