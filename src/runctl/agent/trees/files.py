"""A tree's files: written, copied and recognised; and what arrives for a tree, checked."""

# Names need not be UTF-8, so paths are bytes here, which pathlib does not take.
# ruff: noqa: PTH102, PTH103, PTH106, PTH108, PTH112, PTH114, PTH115, PTH118, PTH123, PTH208, PTH211

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import fcntl
import gzip
import hashlib
import json
import os
import stat
import zlib
from typing import Any, BinaryIO, Iterable, Iterator, Sequence

from runctl.agent.trees.manifest import EMPTY, FEW, Entries, Manifest, folders
from runctl.agent.trees.names import TreeError, is_digest

STAMP_NS = 10**18
"""The modification time of every file in a tree."""
CHUNK = 1 << 20
NO_LINKS = frozenset({errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What a file system says that has no hard links, or no more of them."""
_NO_CLONE = NO_LINKS | {errno.EINVAL, errno.ENOTTY, errno.EBADF, errno.ETXTBSY, errno.EACCES}
_FICLONE = 0x40049409
"""From linux/fs.h: the target shares the source's blocks."""


class Damaged(Exception):
    """A file of a tree is not what was put there."""


def encoded(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def check(touched: Entries, manifest: Manifest, base: Manifest = EMPTY) -> None:
    """Raises `TreeError` for anything that could be written outside the tree, or is not a manifest at all.

    ``touched`` are the manifest's entries that are not as in ``base``, which has been checked before.
    """
    for path, entry in touched.items():
        parts = path.split("/")
        if not path or "\0" in path or "" in parts or "." in parts or ".." in parts:
            raise TreeError("bad-manifest", f"{path!r} is not a path inside a tree")
        if not _is_entry(entry):
            raise TreeError("bad-manifest", f"the manifest's entry for {path!r} is of no known kind")
        if entry[0] == "l" and not _stays_inside(parts[:-1], entry[1]):
            raise TreeError("bad-manifest", f"the symlink {path!r} leads out of the tree")
    if base is EMPTY or len(touched) > FEW:
        for folder in folders(manifest.entries):
            if folder in manifest.entries:
                raise _both(folder)
        return
    for path in touched:
        if base.get(path) is None:
            if manifest.has_folder(path):
                raise _both(path)
            for folder in folders([path]):
                if manifest.get(folder) is not None:
                    raise _both(folder)


def _both(path: str) -> TreeError:
    return TreeError("bad-manifest", f"{path!r} is both a file and a folder")


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


def decode(text: Any, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise TreeError("bad-request", "the {} is not base64".format(what)) from error


def unpack_json(text: Any, what: str) -> dict[str, Any]:
    try:
        value = json.loads(gzip.decompress(decode(text, what)))
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise TreeError("bad-manifest", "the {} cannot be read: {}".format(what, error)) from error
    if not isinstance(value, dict):
        raise TreeError("bad-manifest", "the {} is not an object".format(what))
    return value


def pack_header(stream: Any) -> list[tuple[str, int]]:
    try:
        return [(str(sha), int(size)) for sha, size in json.loads(stream.readline())]
    except (OSError, EOFError, ValueError, TypeError, RecursionError, zlib.error) as error:
        raise TreeError("bad-pack", "the pack cannot be read: {}".format(error)) from error


def limited(stream: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0:
        try:
            data = stream.read(min(size, CHUNK))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise TreeError("bad-pack", "the pack is damaged: {}".format(error)) from error
        if not data:
            raise TreeError("bad-pack", "the pack ends too early")
        size -= len(data)
        yield data


def discard(stream: BinaryIO, size: int) -> None:
    for _ in limited(stream, size):
        pass


def write_file(target: bytes, executable: int, chunks: Iterable[bytes], sha: str) -> None:
    """A new file of a tree, its content checked."""
    seen = hashlib.sha256()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb", buffering=0) as file:
        for chunk in chunks:
            seen.update(chunk)
            _write_all(descriptor, chunk)
        if seen.hexdigest() != sha:
            raise TreeError("bad-pack", "a file did not arrive as it was sent", "sync again")
        os.fchmod(file.fileno(), 0o555 if executable else 0o444)
        os.utime(file.fileno(), ns=(STAMP_NS, STAMP_NS))


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def copy_entries(tree: str, entries: Entries, destination: str) -> None:
    existed = os.path.isdir(destination)
    if existed and os.listdir(destination):
        raise TreeError("not-empty", "{} is not empty".format(destination))
    os.makedirs(destination, exist_ok=True)
    source, target = os.fsencode(tree) + b"/", os.fsencode(destination) + b"/"
    clone = True
    try:
        for folder in sorted(folders(entries), key=len):
            os.mkdir(target + encoded(folder))
        for path, entry in entries.items():
            name = encoded(path)
            if entry[0] == "l":
                os.symlink(encoded(entry[1]), target + name)
            else:
                clone = _copy_file(source + name, target + name, path, entry, clone)
    except BaseException:
        for left in os.listdir(destination):
            remove(os.path.join(destination, left))
        if not existed:
            os.rmdir(destination)
        raise


def _copy_file(source: bytes, target: bytes, path: str, entry: Sequence[Any], clone: bool) -> bool:
    """Copy one file, sharing its blocks where the file system can; returns whether to try that again."""
    try:
        reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise Damaged(path) from error
    try:
        found = os.fstat(reading)
        if found.st_size != entry[2] or found.st_mtime_ns != STAMP_NS:
            raise Damaged(path)
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o777 if entry[1] else 0o666)
        try:
            if clone and found.st_size:
                try:
                    fcntl.ioctl(writing, _FICLONE, reading)
                except OSError as error:
                    if error.errno not in _NO_CLONE:
                        raise
                    clone = False
                else:
                    return True
            left = found.st_size
            while left > 0:
                data = os.read(reading, min(left, CHUNK))
                if not data:
                    raise Damaged(path)
                _write_all(writing, data)
                left -= len(data)
        finally:
            os.close(writing)
    finally:
        os.close(reading)
    return clone


def remove(path: str) -> None:
    """It is gone, whatever it was."""
    if os.path.isdir(path) and not os.path.islink(path):
        import shutil

        shutil.rmtree(path)
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def flush_all(folder: str, paths: Sequence[Any]) -> None:
    """They are on the disk; with many of them, so is all of the folder's file system.

    Contents only: file systems keep the order of names and links, so that whoever finds the tree under its name
    after a power cut finds them all.
    """
    if len(paths) > FEW:
        flush_file_system(folder)
        return
    for path in paths:
        flush(path)


def flush(path: Any) -> None:
    """The file, or the folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_file_system(folder: str) -> None:
    """One flush for thousands of files; only this file system, where the system can do that (Linux)."""
    import ctypes

    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(descriptor):
            raise OSError(ctypes.get_errno(), "the file system could not be flushed", folder)
    finally:
        os.close(descriptor)
