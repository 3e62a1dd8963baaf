"""Which files the keys of an object store are, and which keys can be no files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

from runctl.agent.fill.errors import FillError

LONGEST_NAME = 255
"""Bytes in one part of a path: ext4's and XFS's limit."""
LONGEST_PATH = 3800
"""Bytes of a path below the folder; Linux allows 4,096 for the whole."""
OWN_FOLDER = ".runctl"
"""Below the folder that is filled: the record of what is there, and what is not finished."""
_SHOWN = 5


@dataclass(frozen=True)
class Object:
    """One object, as the listing describes it."""

    key: str
    size: int
    """Bytes."""
    etag: str
    """Without quotes."""


@dataclass(frozen=True)
class Source:
    """``s3://bucket/prefix``. A prefix is a folder or one object, not the beginning of a name."""

    bucket: str
    prefix: str = ""
    """Without slashes at either end; empty for the whole bucket."""

    def __str__(self) -> str:
        return "s3://{}/{}".format(self.bucket, self.prefix) if self.prefix else "s3://" + self.bucket


def parse_source(text: str) -> Source:
    """Raises `FillError` (``bad-source``)."""
    scheme, separator, rest = text.partition("://")
    bucket, _, prefix = rest.partition("/")
    fit = bucket and all(c.isascii() and (c.islower() or c.isdigit() or c in "-.") for c in bucket)
    if scheme != "s3" or not separator or not fit or not 3 <= len(bucket) <= 63:
        raise FillError(
            "bad-source", "{!r} is not an S3 address".format(text), "write s3://bucket or s3://bucket/folder"
        )
    return Source(bucket, prefix.strip("/"))


@dataclass(frozen=True)
class Wanted:
    """What is to be on the volume."""

    files: Dict[str, Object]
    """By path below the folder, with forward slashes."""
    folders: Tuple[str, ...]
    """Empty folders that the console's markers stand for."""

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(found.size for found in self.files.values())


def belongs(source: Source, key: str) -> bool:
    """Whether a key found under the prefix's letters lies in the folder: ``data2/x`` is not in ``data``."""
    return not source.prefix or key == source.prefix or key.startswith(source.prefix + "/")


def wanted(source: Source, objects: Sequence[Object]) -> Wanted:
    """Every object with its path. Pure.

    Raises `FillError`: ``nothing-there``, and ``bad-keys`` naming every kind of key that can be no file (at most five).
    """
    inside = [found for found in objects if belongs(source, found.key)]
    if not inside:
        raise FillError(
            "nothing-there",
            "there is nothing in {}".format(source),
            "check the name: aws s3 ls {}/".format(source),
        )
    files: Dict[str, Object] = {}
    folders: List[str] = []
    refused: List[str] = []
    for found in inside:
        path, is_folder = _path(source, found)
        why = _why_not(path, found, is_folder) if path else ""
        if why:
            refused.append("{!r}: {}".format(found.key, why))
        elif path and is_folder:
            folders.append(path)
        elif path:
            files[path] = found
    refused += _clashes(files, folders)
    if refused:
        more = "; and {} more".format(len(refused) - _SHOWN) if len(refused) > _SHOWN else ""
        raise FillError(
            "bad-keys",
            "{} object(s) of {} can be no files: {}{}".format(
                len(refused), source, "; ".join(refused[:_SHOWN]), more
            ),
            "rename them in S3, or fill from a folder without them",
        )
    return Wanted(files, tuple(folders))


def _path(source: Source, found: Object) -> Tuple[str, bool]:
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
        return "{} is the name of runctl's own folder".format(OWN_FOLDER)
    if max(map(len, encoded)) > LONGEST_NAME:
        return "a name in it is longer than {} bytes".format(LONGEST_NAME)
    if sum(map(len, encoded)) + len(parts) > LONGEST_PATH:
        return "it is longer than {} bytes".format(LONGEST_PATH)
    return ""


def _clashes(files: Dict[str, Object], folders: Sequence[str]) -> List[str]:
    """What is a file and a folder at once."""
    found: Dict[str, str] = {}
    for path in list(files) + [folder + "/" for folder in folders]:
        parent = path.rpartition("/")[0]
        while parent and parent not in found:
            if parent in files:
                found[parent] = "it is a file, and the folder of {!r}".format(path)
            parent = parent.rpartition("/")[0]
    return ["{!r}: {}".format(files[path].key, why) for path, why in sorted(found.items())]
