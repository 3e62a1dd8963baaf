"""Small JSON files that are either the old ones or the new ones, whatever happens in between."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runctl.agent.encoding import loads, to_json

PRIVATE = 0o600


def write_json(path: Path, value: Any, mode: int = PRIVATE) -> None:
    """``path`` holds ``value``, and still does after a power cut. Raises `OSError`."""
    data = json.dumps(to_json(value), sort_keys=True).encode()
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_into(room: Path, value: Any, path: Path) -> None:
    """As `write_json`, in the blocks that the file ``room`` has already. Raises `OSError`."""
    data = json.dumps(to_json(value), sort_keys=True).encode()
    fd = os.open(room, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))
        os.fsync(fd)
    finally:
        os.close(fd)
    room.replace(path)
    sync_folder(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in ``path``, or ``None`` where the file does not exist."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    value = loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no object")
    return value


def sync_folder(path: Path) -> None:
    """Names made or removed in this folder survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file's lock; waits for whoever holds it. The kernel lets go of a dead holder's."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
