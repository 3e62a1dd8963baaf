"""A tree's files, copied and flushed; and what arrives for a tree, checked."""

# Names need not be UTF-8, so paths are bytes here, which pathlib does not take.
# ruff: noqa: PTH102, PTH103, PTH106, PTH112, PTH118, PTH208, PTH211

from __future__ import annotations

import base64
import binascii
import errno
import fcntl
import gzip
import json
import os
import zlib
from typing import Any, BinaryIO, Iterator, Sequence

from runctl.agent.trees.manifest import EMPTY, FEW, Entries, Manifest, fault_in, folders
from runctl.agent.trees.names import TreeError
from runctl.agent.trees.on_disk import (
    CHUNK,
    NO_LINKS,
    STAMP_NS,
    encoded,
    flush,
    remove,
    write_all,
)

_NO_CLONE = NO_LINKS | {errno.EINVAL, errno.ENOTTY, errno.EBADF, errno.ETXTBSY, errno.EACCES}
_FICLONE = 0x40049409
"""From linux/fs.h: the target shares the source's blocks."""


class Damaged(Exception):
    """A file of a tree is not what was put there."""


def check(touched: Entries, manifest: Manifest, base: Manifest = EMPTY) -> None:
    """Raises `TreeError` for anything that could be written outside the tree, or is not a manifest at all.

    ``touched`` are the manifest's entries that are not as in ``base``, which has been checked before.
    """
    fault = fault_in(touched, manifest, base)
    if fault:
        raise TreeError("bad-manifest", fault)


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
                write_all(writing, data)
                left -= len(data)
        finally:
            os.close(writing)
    finally:
        os.close(reading)
    return clone


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
