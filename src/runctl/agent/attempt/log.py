"""The log of an attempt: append-only, written by the script itself and by us, proved complete by its checksum."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

PREFIX = "[runctl] "
FULL = (errno.ENOSPC, errno.EDQUOT)
TAIL_BYTES = 64 * 1024

_READ_ONLY = re.compile(rb"Read-only file system|Errno 30\b|EROFS")
_NO_SPACE = re.compile(rb"No space left on device|Errno 28\b|ENOSPC|Disk quota exceeded")


class Log:
    """Open for appending. Everybody writes at the end, so that nobody's bytes are overwritten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.own_bytes = 0
        """How much of the log came through this object."""
        self.disk_full = False
        """Something of ours could not be written because there was no room."""

    def line(self, text: str) -> None:
        """Say something of ours on a line of its own. A full disk is remembered, not raised."""
        self.lines("".join(f"{PREFIX}{part}\n" for part in text.splitlines()).encode())

    def lines(self, data: bytes) -> None:
        """Whole lines of somebody else's, which begin on a line of their own."""
        size = self.size()
        if data and size and os.pread(self.fd, 1, size - 1) != b"\n":
            data = b"\n" + data
        self.write(data)

    def write(self, data: bytes) -> None:
        """Append; what does not fit on a full disk is dropped."""
        view = memoryview(data)
        while view:
            try:
                written = os.write(self.fd, view)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                self.disk_full = True
                return
            self.own_bytes += written
            view = view[written:]

    def size(self) -> int:
        """Bytes in it now."""
        return os.fstat(self.fd).st_size

    def tail(self, since: int = 0, limit: int = TAIL_BYTES) -> bytes:
        """Its last bytes, none from before ``since``."""
        start = max(since, self.size() - limit)
        return os.pread(self.fd, limit, start)

    def last_lines(self, since: int, count: int = 12) -> str:
        """The last lines from ``since`` on, for quoting in a message."""
        lines = [line.rstrip() for line in self.tail(since).decode(errors="replace").splitlines()]
        return "\n".join([line for line in lines if line][-count:])

    def sealed(self) -> tuple[int, str]:
        """Length and SHA-256 of the whole; durable as far as the disk allows."""
        try:
            os.fsync(self.fd)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self.disk_full = True
        return digest(self.path)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self.fd)


def digest(path: Path) -> tuple[int, str]:
    """Length and SHA-256 of a file; of nothing if there is none."""
    import hashlib

    checksum, length = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while True:
                block = file.read(1 << 20)
                if not block:
                    break
                length += len(block)
                checksum.update(block)
    except FileNotFoundError:
        return 0, ""
    return length, checksum.hexdigest()


def says_no_space(tail: bytes) -> tuple[bool, bool]:
    """Whether the last lines speak of a full disk, and whether the very last one does."""
    spoken = [bool(_NO_SPACE.search(line)) for line in _own_lines(tail)]
    return any(spoken), bool(spoken) and spoken[-1]


def says_read_only(tail: bytes) -> bool:
    """Whether the last lines speak of a read-only file system."""
    return any(_READ_ONLY.search(line) for line in _own_lines(tail))


def _own_lines(tail: bytes) -> list[bytes]:
    """The script's last lines."""
    return [line for line in tail.splitlines() if line.strip() and not line.startswith(PREFIX.encode())][-30:]
