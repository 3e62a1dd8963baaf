"""What makes a tree of the one before it: a few bytes, where the tree's manifest has an entry for each file.

The tree before, and then for each path that differs the path, the entry there before and the entry now; all of them
parted by zero bytes. An entry is ``f EXECUTABLE SIZE SHA256``, ``l TARGET``, or nothing. Both sides of a sync use this
module; on the machine a record is kept as ``manifests/<digest>.changes``, behind a line with its SHA-256.
"""

# A small change needs this and little else: json, hashlib and pathlib each take longer to import than all that it does.
# ruff: noqa: PTH105, PTH123

from __future__ import annotations

import os

from runctl.agent.trees.names import is_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping, Optional, Sequence

    Entry = Sequence[Any]
    Differences = Mapping[str, tuple[Optional[Entry], Optional[Entry]]]


def new_sha256(data: bytes = b"") -> Any:
    """A SHA-256 by whichever module is imported soonest."""
    for name in ("_sha2", "_sha256", "hashlib"):
        try:
            return __import__(name).sha256(data)
        except ImportError:
            continue
    raise AssertionError("Python has hashlib")


def encode_changes(base: str, differences: Differences) -> bytes:
    """The record of what makes another tree of ``base``."""
    fields = [base]
    for path in sorted(differences):
        before, after = differences[path]
        fields += (path, _text(before), _text(after))
    return "\0".join(fields).encode("utf-8", "surrogateescape")


def decode_changes(record: bytes) -> tuple[str, dict[str, tuple[Optional[Entry], Optional[Entry]]]]:
    """The tree before, and the differences. Raises `ValueError` for what is no record."""
    base, *fields = record.decode("utf-8", "surrogateescape").split("\0")
    if not is_digest(base) or len(fields) % 3:
        raise ValueError("this is not a record of changes")
    return base, {
        fields[at]: (_entry(fields[at + 1]), _entry(fields[at + 2])) for at in range(0, len(fields), 3)
    }


def read_changes(path: str) -> tuple[str, dict[str, tuple[Optional[Entry], Optional[Entry]]]] | None:
    """What `write_changes` has written there, or nothing."""
    try:
        with open(path, "rb") as file:
            checksum, _, record = file.read().partition(b"\n")
        if checksum.decode("ascii") != new_sha256(record).hexdigest():
            return None
        return decode_changes(record)
    except (OSError, ValueError):
        return None


def write_changes(path: str, record: bytes, *, durably: bool = False) -> None:
    """``path`` holds the record; with ``durably`` it is on the disk. Raises `OSError`."""
    partial = path + ".partial"
    with open(partial, "wb") as file:
        file.write(new_sha256(record).hexdigest().encode("ascii") + b"\n" + record)
        if durably:
            file.flush()
            os.fsync(file.fileno())
    os.replace(partial, path)


def _text(entry: Entry | None) -> str:
    return " ".join(map(str, entry)) if entry is not None else ""


def _entry(text: str) -> Entry | None:
    if not text:
        return None
    kind, _, rest = text.partition(" ")
    if kind == "l":
        return [kind, rest]
    executable, size, sha = rest.split(" ")
    return [kind, int(executable), int(size), sha]
