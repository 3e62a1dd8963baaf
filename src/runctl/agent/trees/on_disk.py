"""A tree on the disk: its entries as they arrive, its files and symlinks, and the link to the current one."""

# A small change to a tree needs this and little else, so nothing is imported here that takes time.
# Names need not be UTF-8, so paths are bytes here, which pathlib does not take.
# ruff: noqa: PTH105, PTH108, PTH112, PTH114, PTH115, PTH118, PTH123, PTH211, SIM105

from __future__ import annotations

import errno
import os
import stat

from runctl.agent.trees.entries import entry_fault
from runctl.agent.trees.names import TreeError, TreeNames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Sequence

STAMP_NS = 10**18
"""The modification time of every file in a tree."""
CHUNK = 1 << 20
NO_LINKS = frozenset({errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What a file system says that has no hard links, or no more of them."""


def encoded(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def check_entry(path: str, entry: Any) -> None:
    """Raises `TreeError` for what could be written outside the tree, or is no entry at all."""
    fault = entry_fault(path, entry)
    if fault:
        raise TreeError("bad-manifest", fault)


def is_intact(path: bytes, entry: Sequence[Any]) -> bool:
    """Whether it is still what was put there, as far as its size, time and mode say."""
    try:
        found = os.lstat(path)
        if entry[0] == "l":
            return stat.S_ISLNK(found.st_mode) and os.readlink(path) == encoded(entry[1])
    except OSError:
        return False
    return (
        found.st_size == entry[2]
        and found.st_mtime_ns == STAMP_NS
        and stat.S_ISREG(found.st_mode)
        and bool(found.st_mode & 0o100) == bool(entry[1])
    )


def write_file(
    target: bytes, executable: int, chunks: Iterable[bytes], sha: str, new_hash: Callable[[], Any]
) -> None:
    """A new file of a tree, its content checked; ``new_hash`` begins a SHA-256."""
    seen = new_hash()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb", buffering=0) as file:
        for chunk in chunks:
            seen.update(chunk)
            write_all(descriptor, chunk)
        if seen.hexdigest() != sha:
            raise TreeError("bad-pack", "a file did not arrive as it was sent", "sync again")
        os.fchmod(file.fileno(), 0o555 if executable else 0o444)
        os.utime(file.fileno(), ns=(STAMP_NS, STAMP_NS))


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def switch(names: TreeNames, digest: str) -> None:
    """Make it the tree that a run gets which asks for none by name."""
    os.utime(names.tree(digest))
    if names.current() == digest:
        return
    link = os.path.join(names.folder, "current.partial")
    try:
        os.unlink(link)
    except FileNotFoundError:
        pass
    os.symlink(os.path.join("trees", digest), link)
    os.replace(link, os.path.join(names.folder, "current"))
    flush(names.folder)


def remove(path: str) -> None:
    """It is gone, whatever it was."""
    if os.path.isdir(path) and not os.path.islink(path):
        import shutil

        shutil.rmtree(path)
        return
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def flush(path: Any) -> None:
    """The file, or the folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
