"""A small change to the current tree, made of the oldest tree here and of what has changed since: see `change`."""

# This is on the way from an edited file to its run: what it imports takes longer than what it does.
# ruff: noqa: PTH102, PTH104, PTH106, PTH108, PTH118, PTH208, PTH211

from __future__ import annotations

import errno
import fcntl
import os
import stat
import zlib

from runctl.agent.errors import AgentError
from runctl.agent.trees.changes import decode_changes, encode_changes, new_sha256, read_changes, write_changes
from runctl.agent.trees.names import TreeNames, is_digest, state_directory
from runctl.agent.trees.on_disk import check_entry, encoded, flush, is_intact, remove, switch, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO, Mapping, Optional

    from runctl.agent.trees.changes import Differences, Entry

LARGEST_BYTES = 4 << 20
"""What the contents of a small change may have."""
_MOST_RECORDS = 64
"""With so many records of changes the other way is taken, which writes each tree's manifest."""


class _NotSo(Exception):
    """It has to be done with manifests."""


def change(
    project: str, digest: str, record: bytes, pack: bytes, state: str | None = None
) -> dict[str, int] | None:
    """The tree ``digest`` is here and the current one; ``{"written", "removed"}``, or ``None``: nothing has changed.

    ``record`` says what makes it of the current tree (`runctl.agent.trees.changes`), ``pack`` are the contents that are
    new, in the record's order, compressed by zlib. No manifest is read: what makes the oldest tree into the current
    one is known from the records that were kept with those between. Where they are not, or anything is not as it
    should be, the answer is ``None``, and whoever asked does the same by `runctl.agent.trees.verbs`, which says what is
    wrong. That the record leads to this digest is seen when the manifest is made of it, before a run gets the tree.
    """
    names = TreeNames(state or state_directory(), project)
    try:
        base, wanted = decode_changes(record)
        if not is_digest(digest):
            return None
        contents = _contents(wanted, pack)
        lock = os.open(os.path.join(names.folder, "lock"), os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            spare = _spare(names, digest, base)
            return _make(names, digest, spare, wanted, contents, _history(names, base, spare))
        finally:
            os.close(lock)
    except (OSError, ValueError, zlib.error, AgentError, _NotSo):
        return None


def _contents(wanted: Differences, pack: bytes) -> dict[str, bytes]:
    """By SHA-256, each checked when it is written; all entries are such as may be in a tree."""
    unpack = zlib.decompressobj()
    data = unpack.decompress(pack, LARGEST_BYTES)
    found: dict[str, bytes] = {}
    at = 0
    for path, (_, entry) in wanted.items():
        check_entry(path, entry if entry is not None else ["l", "."])
        if entry is not None and entry[0] == "f" and entry[3] not in found:
            found[entry[3]] = data[at : at + entry[2]]
            at += entry[2]
    if at != len(data) or not unpack.eof:
        raise _NotSo
    return found


def _spare(names: TreeNames, digest: str, base: str) -> str:
    """The tree that becomes the new one."""
    spare = names.spare()
    if spare is None or names.current() != base or names.has(digest):
        raise _NotSo
    # What was interrupted is put in order by the other way.
    if not all(is_digest(name) and names.has(name) for name in os.listdir(names.trees)):
        raise _NotSo
    if sum(name.endswith(".changes") for name in os.listdir(names.manifests)) > _MOST_RECORDS:
        raise _NotSo
    return spare


def _history(names: TreeNames, base: str, spare: str) -> list[Differences]:
    """What makes the spare tree into the current one, step by step."""
    steps: list[Differences] = []
    while base != spare:
        found = read_changes(names.changes(base))
        if found is None or len(steps) > _MOST_RECORDS:
            raise _NotSo
        base, differences = found
        steps.insert(0, differences)
    return steps


def _make(
    names: TreeNames,
    digest: str,
    spare: str,
    wanted: Differences,
    contents: Mapping[str, bytes],
    history: list[Differences],
) -> dict[str, int]:
    current = names.current() or ""
    touched: dict[str, tuple[Optional[Entry], Optional[Entry]]] = {}
    for step in (*history, wanted):
        for path, (before, after) in step.items():
            touched[path] = (touched[path][0] if path in touched else before, after)
    partial = names.tree(digest) + ".partial"
    os.rename(names.tree(spare), partial)
    try:
        written = _edit(partial, names.tree(current), touched, wanted, contents)
        for file in written:
            flush(file)
        write_changes(names.changes(digest), encode_changes(current, wanted), durably=True)
        os.rename(partial, names.tree(digest))
    except BaseException:
        remove(partial)
        raise
    switch(names, digest)
    return {"written": len(written), "removed": sum(after is None for _, after in wanted.values())}


def _edit(
    folder: str, current: str, touched: Differences, wanted: Differences, contents: Mapping[str, bytes]
) -> list[bytes]:
    """The folder holds the new tree; returns the files that are not shared with the current one."""
    root, current_prefix = os.fsencode(folder) + b"/", os.fsencode(current) + b"/"
    changed = {path: both for path, both in touched.items() if both[0] != both[1] or path in wanted}
    for path, (before, _) in changed.items():
        if before is not None:
            os.unlink(root + encoded(path))
    for path, (_, after) in changed.items():
        if after is None:
            _remove_empty(root, path)
    created: set[str] = set()
    written = []
    for path in sorted(changed):
        entry = changed[path][1]
        if entry is None:
            continue
        _make_folders(root, path, created)
        target = root + encoded(path)
        if entry[0] == "l":
            os.symlink(encoded(entry[1]), target)
        elif path in wanted:
            write_file(target, entry[1], [contents[entry[3]]], entry[3], new_sha256)
            written.append(target)
        elif is_intact(current_prefix + encoded(path), entry):
            os.link(current_prefix + encoded(path), target)
        else:
            raise _NotSo
    return written


def _remove_empty(root: bytes, path: str) -> None:
    """The folders that only this file was in are gone."""
    folder = path.rpartition("/")[0]
    while folder:
        try:
            os.rmdir(root + encoded(folder))
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                return
            raise
        folder = folder.rpartition("/")[0]


def _make_folders(root: bytes, path: str, created: set[str]) -> None:
    """The folders above it are there, and none of them is a symlink, which could lead out of the tree."""
    parts = path.split("/")
    for depth in range(1, len(parts)):
        folder = "/".join(parts[:depth])
        if folder in created:
            continue
        try:
            os.mkdir(root + encoded(folder), 0o755)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(root + encoded(folder)).st_mode):
                raise _NotSo from None
        created.add(folder)


def answer_change(line: bytes, project: str, source: BinaryIO, sink: BinaryIO, state: str | None) -> bool:
    """Answer ``change DIGEST RECORD_BYTES PACK_BYTES``, behind which both follow; whether it is made."""
    _, digest, record_bytes, pack_bytes = line.split()
    record, pack = source.read(int(record_bytes)), source.read(int(pack_bytes))
    created = change(project, digest.decode("ascii", "replace"), record, pack, state)
    if created is None:
        sink.write(b'{"ok":{"applied":false}}\n')
    else:
        sink.write(
            b'{"ok":{"applied":true,"written":%d,"removed":%d}}\n' % (created["written"], created["removed"])
        )
    sink.flush()
    return created is not None
