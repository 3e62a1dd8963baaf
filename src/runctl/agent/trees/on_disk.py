"""A tree on the disk: what may be an entry of it, its files and symlinks, and the link to the current one."""

# A small change to a tree needs this and little else, so nothing is imported here that takes time.
# Names need not be UTF-8, so paths are bytes here, which pathlib does not take.
# ruff: noqa: PTH105, PTH108, PTH112, PTH114, PTH115, PTH118, PTH123, PTH211, SIM105

from __future__ import annotations

import errno
import os
import stat

from runctl.agent.trees.names import TreeError, TreeNames, is_digest

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
    parts = path.split("/")
    if not path or "\0" in path or "" in parts or "." in parts or ".." in parts:
        raise TreeError("bad-manifest", f"{path!r} is not a path inside a tree")
    if not _is_entry(entry):
        raise TreeError("bad-manifest", f"the manifest's entry for {path!r} is of no known kind")
    if entry[0] == "l" and not _stays_inside(parts[:-1], entry[1]):
        raise TreeError("bad-manifest", f"the symlink {path!r} leads out of the tree")


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, list) or not entry:
        return False
    if entry[0] == "l":
        return len(entry) == 2 and isinstance(entry[1], str) and bool(entry[1]) and "\0" not in entry[1]
    if entry[0] != "f" or len(entry) != 4:
        return False
    _, executable, size, sha = entry
    return executable in (0, 1) and isinstance(size, int) and size >= 0 and is_digest(str(sha))


def _stays_inside(folder: Sequence[str], target: str) -> bool:
    if target.startswith("/"):
        return False
    depth = len(folder)
    for part in target.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            return False
    return True


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
