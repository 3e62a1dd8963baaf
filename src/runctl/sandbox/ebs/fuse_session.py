"""One file over FUSE, by the kernel's own protocol (linux/fuse.h): no library, no setuid program. Needs root.

Not nbdkit with its cache and delay filters: it needs the kernel's nbd, which containers lack, delays blocks that were
never written as well, and forgets with every detach which blocks have come. Not pyfuse3 or fusepy: both need libfuse,
which few computers have.

Standard library only. What the kernel asks that is not here is answered with ENOSYS, which it then asks no more.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

MAJOR, MINOR = 7, 31
ROOT_NODE, FILE_NODE = 1, 2
MAX_TRANSFER = 1 << 20
REQUESTS_AT_ONCE = 32
ASYNC_READ, BIG_WRITES, ASYNC_DIRECT_IO, MAX_PAGES = 1 << 0, 1 << 5, 1 << 15, 1 << 22

_IN_HEADER = struct.Struct("<IIQQIIIHH")
_OUT_HEADER = struct.Struct("<IiQ")
_READ_IN = struct.Struct("<QQIIQII")
_INIT_IN = struct.Struct("<IIII")
_INIT_OUT = struct.Struct("<IIIIHHIIHHII6I")
_ENTRY_OUT = struct.Struct("<QQQQII")
_ATTR_OUT = struct.Struct("<QII")
_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
_OPEN_OUT = struct.Struct("<QII")
_WRITE_OUT = struct.Struct("<II")
_STATFS_OUT = struct.Struct("<QQQQQIIII6I")

LOOKUP, FORGET, GETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT = (
    *(1, 2, 3, 14, 15, 16, 17, 18, 20, 25, 26),
)
OPENDIR, RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET = 27, 29, 36, 38, 42
_UNANSWERED = {FORGET, BATCH_FORGET, INTERRUPT}


class File(Protocol):
    """What is shown."""

    def size(self) -> int:
        """Bytes, as of now."""

    def read(self, offset: int, size: int) -> bytes:
        """Fewer only at the end."""

    def write(self, offset: int, data: memoryview) -> int:
        """How many were written."""

    def sync(self) -> None:
        """What was written is on the disk."""


class Session:
    """A file system with the one file ``name``, mounted at a folder until it is unmounted there."""

    def __init__(self, folder: Path, name: str, file: File) -> None:
        self._file = file
        self._name = name.encode()
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0,allow_other,max_read={MAX_TRANSFER}"
        libc = ctypes.CDLL(None, use_errno=True)
        nosuid_nodev = 2 | 4
        arguments = (b"runctl-sandbox", os.fsencode(folder), b"fuse", nosuid_nodev, options.encode())
        if libc.mount(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"mount fuse at {folder}: {os.strerror(number)}")

    def serve(self) -> None:
        """Answer until the file system is unmounted."""
        threads = [threading.Thread(target=self._answer_all, daemon=True) for _ in range(REQUESTS_AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _answer_all(self) -> None:
        buffer = bytearray(MAX_TRANSFER + (1 << 16))
        while True:
            try:
                length = os.readv(self._device, [buffer])
            except OSError as error:
                if error.errno in {errno.EINTR, errno.EAGAIN, errno.ENOENT}:
                    continue
                return
            header = _IN_HEADER.unpack_from(buffer)
            opcode, unique, node = header[1], header[2], header[3]
            body = memoryview(buffer)[_IN_HEADER.size : length]
            if opcode in _UNANSWERED:
                continue
            try:
                code, data = 0, self._answer(opcode, node, body)
            except OSError as error:
                code, data = -(error.errno or errno.EIO), b""
            try:
                reply = _OUT_HEADER.pack(_OUT_HEADER.size + len(data), code, unique)
                os.writev(self._device, [reply, data])
            except OSError as error:
                # ENOENT: whoever asked does not wait any more.
                if error.errno != errno.ENOENT:
                    return
            if opcode == DESTROY:
                return

    def _answer(self, opcode: int, node: int, body: memoryview) -> bytes:
        answers: dict[int, Callable[[int, memoryview], bytes]] = {
            INIT: self._init,
            LOOKUP: self._lookup,
            GETATTR: self._getattr,
            READ: self._read,
            WRITE: self._write,
            FSYNC: self._sync,
            OPEN: lambda *_: _OPEN_OUT.pack(0, 0, 0),
            OPENDIR: lambda *_: _OPEN_OUT.pack(0, 0, 0),
            STATFS: lambda *_: _STATFS_OUT.pack(0, 0, 0, 2, 0, 4096, 255, 4096, 0, *(0,) * 6),
            FLUSH: lambda *_: b"",
            RELEASE: lambda *_: b"",
            RELEASEDIR: lambda *_: b"",
            DESTROY: lambda *_: b"",
        }
        if opcode not in answers:
            raise OSError(errno.ENOSYS, "")
        return answers[opcode](node, body)

    @staticmethod
    def _init(_node: int, body: memoryview) -> bytes:
        _major, minor, readahead, flags = _INIT_IN.unpack_from(body)
        wanted = flags & (ASYNC_READ | BIG_WRITES | ASYNC_DIRECT_IO | MAX_PAGES)
        pages = MAX_TRANSFER // 4096
        limits = (2 * REQUESTS_AT_ONCE, REQUESTS_AT_ONCE, MAX_TRANSFER, 1, pages, 0, 0, 0)
        return _INIT_OUT.pack(MAJOR, min(minor, MINOR), readahead, wanted, *limits, *(0,) * 6)

    def _lookup(self, node: int, body: memoryview) -> bytes:
        if node != ROOT_NODE or bytes(body).rstrip(b"\0") != self._name:
            raise OSError(errno.ENOENT, "")
        return _ENTRY_OUT.pack(FILE_NODE, 0, 0, 0, 0, 0) + self._attributes(FILE_NODE)

    def _getattr(self, node: int, _body: memoryview) -> bytes:
        return _ATTR_OUT.pack(0, 0, 0) + self._attributes(node)

    def _read(self, _node: int, body: memoryview) -> bytes:
        _handle, offset, size, *_ = _READ_IN.unpack_from(body)
        return self._file.read(offset, size)

    def _write(self, _node: int, body: memoryview) -> bytes:
        _handle, offset, size, *_ = _READ_IN.unpack_from(body)
        return _WRITE_OUT.pack(self._file.write(offset, body[_READ_IN.size : _READ_IN.size + size]), 0)

    def _sync(self, _node: int, _body: memoryview) -> bytes:
        self._file.sync()
        return b""

    def _attributes(self, node: int) -> bytes:
        size = self._file.size() if node == FILE_NODE else 0
        mode = 0o100600 if node == FILE_NODE else 0o040700
        return _ATTR.pack(node, size, -(-size // 512), 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)
