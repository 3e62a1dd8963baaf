"""What a disk's file holds, in the blocks that EBS counts: 512 KiB each, and only those that were written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

BLOCK_BYTES = 512 * 1024
"""Of the EBS direct APIs."""


def written_blocks(file: Path) -> list[int]:
    """The indices of the blocks with data, in order. A file that is not there has none."""
    found: list[int] = []
    for start, end in extents(file):
        first, last = start // BLOCK_BYTES, (end - 1) // BLOCK_BYTES
        found.extend(range(max(first, found[-1] + 1) if found else first, last + 1))
    return found


def changed_blocks(first: Path, second: Path) -> list[int]:
    """The indices of the blocks in which two files differ; where one ends, it is as if it held zeros."""
    candidates = sorted({*written_blocks(first), *written_blocks(second)})
    return [index for index in candidates if read_block(first, index) != read_block(second, index)]


def read_block(file: Path, index: int) -> bytes:
    """One block, filled up with zeros."""
    try:
        with file.open("rb") as stream:
            stream.seek(index * BLOCK_BYTES)
            data = stream.read(BLOCK_BYTES)
    except FileNotFoundError:
        data = b""
    return data.ljust(BLOCK_BYTES, b"\0")


def extents(file: Path) -> Iterator[tuple[int, int]]:
    """From where to where the file has data and no holes."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        end = 0
        while True:
            try:
                start = os.lseek(descriptor, end, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
            yield start, end
    finally:
        os.close(descriptor)
