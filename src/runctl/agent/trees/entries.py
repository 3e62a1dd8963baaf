"""What may be an entry of a tree, on whichever side of a sync it arrives. Pure, and quick to import."""

from __future__ import annotations

from runctl.agent.trees.names import is_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Sequence


def entry_fault(path: str, entry: Any) -> str:
    """What could be written outside of the tree, or is no entry at all: in words, why; empty where nothing is wrong."""
    parts = path.split("/")
    if not path or not _is_name(path) or "" in parts or "." in parts or ".." in parts:
        return f"{path!r} is not a path inside a tree"
    if not _is_entry(entry):
        return f"the manifest's entry for {path!r} is of no known kind"
    if entry[0] == "l" and not _stays_inside(parts[:-1], entry[1]):
        return f"the symlink {path!r} leads out of the tree"
    return ""


def _is_name(text: str) -> bool:
    """Whether a file system can have it."""
    try:
        return b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, list) or not entry:
        return False
    if entry[0] == "l":
        return len(entry) == 2 and isinstance(entry[1], str) and bool(entry[1]) and _is_name(entry[1])
    if entry[0] != "f" or len(entry) != 4:
        return False
    _, executable, size, sha = entry
    is_file = executable in (0, 1) and isinstance(size, int) and size >= 0
    return is_file and isinstance(sha, str) and is_digest(sha)


def _stays_inside(folder: Sequence[str], target: str) -> bool:
    if target.startswith("/"):
        return False
    depth = len(folder)
    for part in target.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            return False
    return True
