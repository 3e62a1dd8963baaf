"""A run's prefix that is a folder of the machine."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runctl.agent.checkpoints.folders import unless_gone
from runctl.agent.checkpoints.layout import StoredFile, data_key
from runctl.agent.checkpoints.store_files import BLOCK, changed, corrupt, missing, partial_of
from runctl.agent.errors import AgentError
from runctl.agent.machine import durable


class FolderStore:
    """On a file system that is mounted here."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put_file(self, file: StoredFile, path: Path, facts: os.stat_result) -> int:  # noqa: ARG002 (it is compared itself)
        """See `Store`."""
        target = self._folder / data_key(file.sha256)
        with explaining(str(self._folder)):
            if target.exists() and target.stat().st_size == file.size:
                return 0
            self._make(target.parent)
            partial = partial_of(target)
            try:
                if not path.exists() or _copy(path, partial) != file.sha256:
                    raise changed(path)
                partial.replace(target)
                durable.sync_folder(target.parent)
            finally:
                partial.unlink(missing_ok=True)
        return file.size

    def put(self, key: str, data: bytes, *, only_new: bool = False) -> bool:
        """See `Store`."""
        target = self._folder / key
        with explaining(str(self._folder)):
            self._make(target.parent)
            partial = partial_of(target)
            try:
                with partial.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                if only_new:
                    try:
                        os.link(partial, target)
                    except FileExistsError:
                        return target.read_bytes() == data
                else:
                    partial.replace(target)
                durable.sync_folder(target.parent)
            finally:
                partial.unlink(missing_ok=True)
        return True

    def read(self, key: str) -> bytes:
        """See `Store`."""
        with explaining(str(self._folder)):
            try:
                return (self._folder / key).read_bytes()
            except FileNotFoundError:
                raise missing(key) from None

    def read_into(self, key: str, path: Path) -> None:
        """See `Store`."""
        with explaining(str(self._folder)):
            if not (self._folder / key).exists():
                raise missing(key)
            _copy(self._folder / key, path)

    def fetch(self, file: StoredFile, path: Path) -> None:
        """See `Store`."""
        key = data_key(file.sha256)
        with explaining(str(self._folder)):
            if not (self._folder / key).exists():
                raise missing(key)
            if _copy(self._folder / key, path) != file.sha256:
                raise corrupt(file)

    def keys(self, prefix: str) -> Iterator[str]:
        """See `Store`."""
        above = prefix.rpartition("/")[0]
        with explaining(str(self._folder)):
            found = [
                str((Path(folder) / name).relative_to(self._folder))
                for folder, _, names in os.walk(self._folder / above, onerror=unless_gone)
                for name in names
                if not name.startswith(".")
            ]
        return iter(sorted(key for key in found if key.startswith(prefix)))

    def delete(self, key: str) -> None:
        """See `Store`."""
        with explaining(str(self._folder)):
            (self._folder / key).unlink(missing_ok=True)

    def close(self) -> None:
        """See `Store`."""

    def _make(self, folder: Path) -> None:
        # Its own folder above must be there: a volume that is not mounted is not to be written below.
        if not self._folder.parent.is_dir():
            raise AgentError(
                "store-away", f"there is no folder {self._folder.parent}", "create it, or mount what it is on"
            )
        folder.mkdir(parents=True, exist_ok=True)


def _copy(source: Path, target: Path) -> str:
    """Durably; the SHA-256 of what was copied."""
    checksum = hashlib.sha256()
    with source.open("rb") as reading, target.open("wb") as writing:
        while True:
            data = reading.read(BLOCK)
            if not data:
                break
            checksum.update(data)
            writing.write(data)
        writing.flush()
        os.fsync(writing.fileno())
    return checksum.hexdigest()


@contextmanager
def explaining(folder: str) -> Iterator[None]:
    """Errors of the folder's file system are those of a store."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise AgentError(
                "store-denied", f"this machine's user may not write to {folder}: {why}"
            ) from error
        raise AgentError("store-away", f"{folder} cannot be used: {why}") from error
