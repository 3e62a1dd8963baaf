"""A disk whose blocks are slow until they are first read: ``python lazy_disk.py FILE STATE FOLDER``.

Shows the disk's file as ``FOLDER/disk``, over FUSE, until FOLDER is unmounted. STATE is what `LazyBlocks` saves; it is
kept up to date, so that whoever is killed loses nothing but a few blocks' being fast. Standard library only.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    from fuse_session import Session  # type: ignore[import-not-found]  # beside this file
    from lazy_blocks import LazyBlocks  # type: ignore[import-not-found]
else:
    from runctl.sandbox.ebs.fuse_session import Session
    from runctl.sandbox.ebs.lazy_blocks import LazyBlocks

NAME = "disk"
SAVE_SECONDS = 0.2


class LazyFile:
    """A file that is read as slowly as its blocks come."""

    def __init__(self, path: Path, blocks: LazyBlocks) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.blocks = blocks
        self.lock = threading.Lock()
        self.changes = 0

    def size(self) -> int:
        """Bytes, as of now."""
        return os.fstat(self._descriptor).st_size

    def read(self, offset: int, size: int) -> bytes:
        """The bytes, once their blocks have come."""
        self._wait(offset, size)
        return os.pread(self._descriptor, size, offset)

    def write(self, offset: int, data: memoryview) -> int:
        """A part of a block has to wait for the block; what covers it has not."""
        with self.lock:
            self.blocks.overwrite(offset, len(data))
            self.changes += 1
        self._wait(offset, len(data))
        return os.pwrite(self._descriptor, data, offset)

    def sync(self) -> None:
        """What was written is on the disk."""
        os.fdatasync(self._descriptor)

    def _wait(self, offset: int, size: int) -> None:
        while True:
            with self.lock:
                seconds = self.blocks.wait(offset, size, time.time())
                self.changes += 1
            if seconds <= 0:
                return
            time.sleep(seconds)


def main(file: str, state: str, folder: str) -> int:
    """Serve until it is unmounted."""
    blocks = LazyBlocks.load(Path(state))
    if blocks is None:
        return 2
    lazy = LazyFile(Path(file), blocks)
    session = Session(Path(folder), NAME, lazy)
    threading.Thread(target=_keep, args=(lazy, Path(state)), daemon=True).start()
    session.serve()
    _save(lazy, Path(state))
    return 0


def _keep(lazy: LazyFile, state: Path) -> None:
    saved = 0
    while True:
        time.sleep(SAVE_SECONDS)
        if lazy.changes != saved:
            saved = lazy.changes
            _save(lazy, state)


def _save(lazy: LazyFile, state: Path) -> None:
    with lazy.lock:
        lazy.blocks.save(state, time.time())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
