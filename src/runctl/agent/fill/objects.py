"""Which files the keys of an object store are, and which keys can be no files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from runctl._dataclasses import dataclass
from runctl.agent.cloud.s3 import Object
from runctl.agent.errors import AgentError, counted
from runctl.agent.object_store import Source

LONGEST_NAME = 255
"""Bytes in one part of a path: ext4's and XFS's limit."""
LONGEST_PATH = 3800
"""Bytes of a path below the folder; Linux allows 4,096 for the whole."""
OWN_FOLDER = ".runctl"
"""Below the folder that is filled: the record of what is there, and what is not finished."""
_SHOWN = 5


@dataclass(frozen=True)
class Wanted:
    """What is to be on the volume."""

    files: dict[str, Object]
    """By path below the folder, with forward slashes."""
    folders: tuple[str, ...]
    """Empty folders that the console's markers stand for."""

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(found.size for found in self.files.values())


def listing_digest(listed: Wanted) -> str:
    """Of all names, sizes and ETags: two listings that have the same one are of the same files. Pure."""
    found = hashlib.sha256()
    # ASCII with escapes: a key may be no text.
    for path, each in sorted(listed.files.items()):
        found.update(json.dumps([path, each.size, each.etag]).encode("ascii") + b"\n")
    for folder in sorted(set(listed.folders)):
        found.update(json.dumps([folder]).encode("ascii") + b"\n")
    return found.hexdigest()[:32]


def belongs(source: Source, key: str) -> bool:
    """Whether a key found under the prefix's letters lies in the folder: ``data2/x`` is not in ``data``."""
    return not source.prefix or key == source.prefix or key.startswith(source.prefix + "/")


def wanted(source: Source, objects: Sequence[Object]) -> Wanted:
    """Every object with its path. Pure.

    Raises `AgentError`: ``nothing-there``, and ``bad-keys`` naming at most five keys that cannot be files.
    """
    inside = [found for found in objects if belongs(source, found.key)]
    if not inside:
        raise AgentError(
            "nothing-there",
            f"there is nothing in {source}",
            f"check the name: aws s3 ls {source}/",
        )
    files: dict[str, Object] = {}
    folders: list[str] = []
    refused: list[str] = []
    for found in inside:
        path, is_folder = _path(source, found)
        why = _why_not(path, found, is_folder) if path else ""
        if why:
            refused.append(f"{found.key!r}: {why}")
        elif path and is_folder:
            folders.append(path)
        elif path:
            files[path] = found
    refused += _clashes(files, folders)
    if refused:
        more = f"; and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
        raise AgentError(
            "bad-keys",
            "{} of {} cannot be files: {}{}".format(
                counted(len(refused), "object"), source, "; ".join(refused[:_SHOWN]), more
            ),
            "rename them in S3, or fill from a folder without them",
        )
    return Wanted(files, tuple(folders))


def _path(source: Source, found: Object) -> tuple[str, bool]:
    """Where it goes, and whether it is a folder's marker; an empty path is the folder that is filled."""
    if found.key == source.prefix:
        return found.key.rpartition("/")[2], False
    path = found.key[len(source.prefix) + 1 :] if source.prefix else found.key
    return (path[:-1], True) if path.endswith("/") or not path else (path, False)


def _why_not(path: str, found: Object, is_folder: bool) -> str:
    parts = path.split("/")
    encoded = [part.encode("utf-8", "surrogateescape") for part in parts]
    if is_folder and found.size:
        return "it ends in a slash as a folder does, and has content"
    if "" in parts:
        return "it has an empty name between two slashes"
    if ".." in parts or "." in parts:
        return "it has . or .. as a name"
    if "\0" in path:
        return "it has a zero byte"
    if parts[0] == OWN_FOLDER:
        return f"{OWN_FOLDER} is the name of runctl's own folder"
    if max(map(len, encoded)) > LONGEST_NAME:
        return f"a name in it is longer than {LONGEST_NAME} bytes"
    if sum(map(len, encoded)) + len(parts) > LONGEST_PATH:
        return f"it is longer than {LONGEST_PATH} bytes"
    return ""


def _clashes(files: dict[str, Object], folders: Sequence[str]) -> list[str]:
    """What is a file and a folder at once."""
    found: dict[str, str] = {}
    for path in list(files) + [folder + "/" for folder in folders]:
        parent = path.rpartition("/")[0]
        while parent and parent not in found:
            if parent in files:
                found[parent] = f"it is a file, and the folder of {path!r}"
            parent = parent.rpartition("/")[0]
    return [f"{files[path].key!r}: {why}" for path, why in sorted(found.items())]
