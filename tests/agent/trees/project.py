"""A project as tests sync it: its trees, what is sent of them, and what is on the machine's disk."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runctl.agent.trees import verbs as trees
from runctl.agent.trees.changes import encode_changes
from runctl.agent.trees.manifest import Manifest
from runctl.agent.trees.small_change import change

NAME = "train-0123abcd"
Tree = Mapping[str, Any]
"""Path to content: bytes, bytes in a tuple for an executable, or a symlink's target as text."""


def describe(tree: Tree) -> dict[str, Sequence[Any]]:
    entries: dict[str, Sequence[Any]] = {}
    for path, what in tree.items():
        if isinstance(what, str):
            entries[path] = ["l", what]
        else:
            data = what[0] if isinstance(what, tuple) else what
            entries[path] = ["f", int(isinstance(what, tuple)), len(data), hashlib.sha256(data).hexdigest()]
    return entries


def digest_of(tree: Tree) -> str:
    return Manifest(describe(tree)).digest


def packed(value: Any) -> str:
    return base64.b64encode(gzip.compress(json.dumps(value).encode())).decode()


def request_for(tree: Tree, **more: Any) -> dict[str, Any]:
    return {"project": NAME, "digest": digest_of(tree), "manifest": packed(describe(tree)), **more}


def pack_of(tree: Tree, wanted: Any = "all") -> bytes:
    blobs = {}
    for what in tree.values():
        if not isinstance(what, str):
            data = what[0] if isinstance(what, tuple) else what
            sha = hashlib.sha256(data).hexdigest()
            if wanted == "all" or sha in wanted:
                blobs[sha] = data
    header = json.dumps([[sha, len(data)] for sha, data in blobs.items()]).encode() + b"\n"
    return gzip.compress(header + b"".join(blobs.values()))


def bring(state: Path, tree: Tree) -> dict[str, Any]:
    """Sync it as the command line does: ask what is missing, send that."""
    answer = trees.manifest(request_for(tree), str(state))
    if answer["have"]:
        return {"applied": True}
    pack = io.BytesIO(pack_of(tree, answer["missing"]))
    request = {"project": NAME, "digest": digest_of(tree), "pack_follows": True}
    return trees.apply(request, pack, str(state))


def on_disk(folder: Path) -> dict[str, Any]:
    """What is there, in the form of `Tree`; a folder without files is an error."""
    found: dict[str, Any] = {}
    for place, folders, files in os.walk(folder):
        assert files or folders or Path(place) == folder, f"{place} is empty"
        for name in [*files, *(each for each in folders if (Path(place) / each).is_symlink())]:
            path = Path(place) / name
            key = path.relative_to(folder).as_posix()
            if path.is_symlink():
                found[key] = os.fspath(path.readlink())
            else:
                data = path.read_bytes()
                found[key] = (data,) if path.stat().st_mode & 0o100 else data
    return found


def current(state: Path) -> dict[str, Any]:
    """The current tree, through the link."""
    return on_disk((state / "projects" / NAME / "current").resolve(strict=True))


def copied(state: Path, digest: str | None = None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        trees.copy_tree(str(state), NAME, digest, folder + "/work")
        return on_disk(Path(folder) / "work")


def tree_names(state: Path) -> set[str]:
    return {path.name for path in (state / "projects" / NAME / "trees").iterdir()}


FIRST: Tree = {
    "train.py": b"print(1)\n",
    "run.sh": (b"#!/bin/sh\n",),
    "src/model/net.py": b"net",
    "src/model/copy.py": b"net",
    "latest": "src/model",
    "empty": b"",
}


def small_change(before: Tree, after: Tree) -> tuple[str, bytes, bytes]:
    """The digest, the record and the pack that make the one into the other."""
    old, new = describe(before), describe(after)
    paths = [path for path in {**old, **new} if old.get(path) != new.get(path)]
    record = encode_changes(digest_of(before), {path: (old.get(path), new.get(path)) for path in paths})
    contents: dict[str, bytes] = {}
    for path in sorted(set(paths) & new.keys()):
        what = after[path]
        if not isinstance(what, str):
            contents.setdefault(new[path][3], what[0] if isinstance(what, tuple) else what)
    return digest_of(after), record, zlib.compress(b"".join(contents.values()))


def make(state: Path, before: Tree, after: Tree) -> dict[str, int] | None:
    """Ask for a small change, as the command line does first."""
    return change(NAME, *small_change(before, after), str(state))
