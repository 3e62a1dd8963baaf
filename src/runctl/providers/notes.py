"""What a provider does not tell any more, noted here: a file for each thing, named by its id.

A note that cannot be written or read costs a word, and keeps nobody from ending what costs money.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.core.files import make_private_folder, write_atomically
from runctl.core.progress import Progress


@dataclass(frozen=True)
class Notes:
    """Those of one kind."""

    folder: Path

    def write(self, about: str, text: str = "", *, progress: Progress, otherwise: str) -> None:
        """It is noted, all of it at once; where it cannot be, ``progress`` warns of what comes of that."""
        try:
            make_private_folder(self.folder)
            write_atomically(self._file(about), text, mode=0o600)
        except OSError as error:
            progress.warn(f"{self.folder} cannot be written ({error.strerror or error}): {otherwise}")

    def forget(self, about: str) -> None:
        """There is no such note; nothing is said where it cannot be removed."""
        with suppress(OSError):
            self._file(about).unlink(missing_ok=True)

    def has(self, about: str) -> bool:
        """Whether there is such a note."""
        return os.path.lexists(self._file(about))

    def all(self) -> dict[str, datetime]:
        """The things that there are notes of, and when each was written; none where that cannot be read."""
        found = {}
        with suppress(OSError):
            for file in sorted(self.folder.iterdir()):
                # Another command may take it away, or be at writing it.
                with suppress(FileNotFoundError):
                    if not file.name.startswith("."):
                        found[file.name] = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        return found

    def read(self, about: str) -> bytes:
        """What was noted; nothing where it cannot be read."""
        with suppress(OSError):
            return self._file(about).read_bytes()
        return b""

    def _file(self, about: str) -> Path:
        return self.folder / about.replace("/", "_")
