"""The folder of one project on this machine: its trees, which of them is current, and the lock that guards them."""

# Names need not be UTF-8, so paths are bytes here, which pathlib does not take.
# ruff: noqa: PTH102, PTH103, PTH104, PTH105, PTH108, PTH110, PTH112, PTH115, PTH118, PTH119, PTH123, PTH211

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import time
from typing import Any, BinaryIO, Dict, Iterator, List, Mapping, Optional, Set, Tuple

from runctl.agent.tree_build import Builder
from runctl.agent.tree_files import (
    CHUNK,
    DIGEST,
    Entries,
    TreeError,
    canonical,
    check,
    encoded,
    flush,
    is_intact,
    pack_header,
    remove,
    unpack_json,
)

KEEP = 3
"""So many trees of a project stay, the current one among them."""
LOCK_SECONDS = 120.0
_PENDING_SECONDS = 86400.0
"""How long a manifest waits for its content before it counts as left over."""
_IN_MEMORY = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Project:
    """One project's folder. Everything but the constructor is called with the lock held."""

    def __init__(self, state: str, name: str) -> None:
        self.folder = os.path.join(state, "projects", name)
        self.trees = os.path.join(self.folder, "trees")
        self.manifests = os.path.join(self.folder, "manifests")
        self.read: Dict[str, Entries] = {}
        self.new: Dict[str, bytes] = {}

    @classmethod
    def of(cls, request: Mapping[str, Any], state: Optional[str]) -> Project:
        name, digest = request.get("project"), request.get("digest")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise TreeError("bad-request", "{!r} is no project name".format(name))
        if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
            raise TreeError("bad-request", "{!r} is no digest".format(digest))
        return cls(state or _state_directory(), name)

    def tree(self, digest: str) -> str:
        return os.path.join(self.trees, digest)

    def current(self) -> Optional[str]:
        try:
            return os.path.basename(os.readlink(os.path.join(self.folder, "current")))
        except OSError:
            return None

    def make_folders(self) -> None:
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        for folder in (self.trees, self.manifests):
            os.makedirs(folder, exist_ok=True)

    @contextlib.contextmanager
    def locked(self, exclusive: bool = True) -> Iterator[None]:
        self.make_folders()
        descriptor = os.open(os.path.join(self.folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
            deadline = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise TreeError(
                            "busy", "another sync of this project has not ended", "try again when it has"
                        ) from None
                    time.sleep(0.02)
            yield
        finally:
            os.close(descriptor)

    def entries_of(self, request: Mapping[str, Any]) -> Optional[Entries]:
        """The manifest that the request brings, or that is known; ``None`` if neither is so."""
        digest = request["digest"]
        if request.get("manifest") is not None:
            touched = entries = unpack_json(request["manifest"], "manifest")
        elif request.get("changes") is not None:
            base = request.get("base")
            known = isinstance(base, str) and DIGEST.fullmatch(base)
            whole = self.read_manifest(base) if isinstance(base, str) and known else None
            if whole is None:
                return self.read_manifest(digest)
            changes = unpack_json(request["changes"], "changes")
            added, gone = changes.get("set"), changes.get("remove")
            if not isinstance(added, dict) or not isinstance(gone, list):
                raise TreeError("bad-manifest", "the changes do not say what is set and what is removed")
            touched, entries = added, {**whole, **added}
            for path in gone:
                entries.pop(path, None)
        else:
            return self.read_manifest(digest)
        text = canonical(entries)
        if hashlib.sha256(text).hexdigest() != digest:
            raise TreeError("bad-manifest", "the manifest does not have the digest that it was sent with")
        check(touched, entries)
        self.new[digest] = text
        return entries

    def read_manifest(self, digest: str) -> Optional[Entries]:
        if digest in self.read:
            return self.read[digest]
        try:
            with open(os.path.join(self.manifests, digest + ".json"), "rb") as file:
                text = file.read()
        except FileNotFoundError:
            return None
        if hashlib.sha256(text).hexdigest() != digest:
            return None
        entries: Entries = json.loads(text)
        self.read[digest] = entries
        return entries

    def write_manifest(self, digest: str, entries: Entries) -> None:
        """What the request brought is kept; what was read from here is here already."""
        text = self.new.pop(digest, None)
        if text is None:
            return
        self.read[digest] = entries
        target = os.path.join(self.manifests, digest + ".json")
        with open(target + ".partial", "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(target + ".partial", target)

    def complete(self) -> List[str]:
        """The digests of the trees that are here: the current one first, then the newest."""
        current = self.current()
        found = []
        with os.scandir(self.trees) as listing:
            for entry in listing:
                if DIGEST.fullmatch(entry.name):
                    found.append((entry.name != current, -entry.stat().st_mtime_ns, entry.name))
        return [name for _, _, name in sorted(found)]

    def has(self, digest: str) -> bool:
        return os.path.isdir(self.tree(digest)) and os.path.exists(
            os.path.join(self.manifests, digest + ".json")
        )

    def switch(self, digest: str) -> None:
        """Make it the tree that a run gets which asks for none by name."""
        os.utime(self.tree(digest))
        if self.current() == digest:
            return
        link = os.path.join(self.folder, "current.partial")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(link)
        os.symlink(os.path.join("trees", digest), link)
        os.replace(link, os.path.join(self.folder, "current"))
        flush(self.folder)

    def find_contents(self, wanted: Set[str]) -> Dict[str, Dict[int, bytes]]:
        """Where each content is in an intact file: by hash, then by executable or not."""
        found: Dict[str, Dict[int, bytes]] = {}
        for digest in self.complete():
            if len(found) == len(wanted):
                break
            entries = self.read_manifest(digest) or {}
            root = os.fsencode(self.tree(digest)) + b"/"
            for path, entry in entries.items():
                if entry[0] != "f" or entry[3] not in wanted or entry[1] in found.get(entry[3], ()):
                    continue
                if is_intact(root + encoded(path), entry):
                    found.setdefault(entry[3], {})[entry[1]] = root + encoded(path)
        return found

    @contextlib.contextmanager
    def received(self, stream: Optional[BinaryIO]) -> Iterator[Tuple[BinaryIO, List[Tuple[str, int]]]]:
        """The pack, open behind its first line, and that line. Needs no lock: a slow sender keeps nobody waiting."""
        if stream is None:
            yield io.BytesIO(), []
            return
        self.make_folders()
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=self.folder) as spool:
            shutil.copyfileobj(stream, spool, CHUNK)
            spool.seek(0)
            with gzip.GzipFile(fileobj=spool, mode="rb") as unpacked:
                yield unpacked, pack_header(unpacked)  # type: ignore[misc]

    def spare(self) -> Optional[str]:
        """The tree that would be pruned by one more; a new one that starts from it costs as much as it differs.

        With one file changed of thousands that is one file, where a tree of links to another would be thousands.
        """
        trees = self.complete()
        return trees[-1] if len(trees) >= KEEP and trees[-1] != self.current() else None

    def begin(self, builder: Builder, spare: Optional[str], sources: Dict[str, Dict[int, bytes]]) -> bool:
        """Start the new tree, from the spare one if there is one; ``False`` if that cannot be used."""
        if spare is None:
            os.mkdir(builder.folder, 0o755)
            builder.start()
            return True
        root = os.fsencode(self.tree(spare)) + b"/"
        if any(path.startswith(root) for places in sources.values() for path in places.values()):
            return False
        self.forget(spare)
        os.rename(self.tree(spare), builder.folder)
        try:
            builder.start()
        except OSError as error:
            remove(builder.folder)
            if error.errno in _FULL:
                raise
            # Somebody has put things into it, or taken them out.
            return False
        return True

    def finish(
        self,
        digest: str,
        builder: Builder,
        sources: Dict[str, Dict[int, bytes]],
        pack: BinaryIO,
        packed: List[Tuple[str, int]],
    ) -> int:
        """``trees/<digest>`` is complete and on the disk; returns how many files were written anew."""
        try:
            written = builder.place_known(sources)
            written += builder.place_packed(pack, packed)
            builder.flush(written)
            if os.path.isdir(self.tree(digest)):
                # It has lost its manifest, so that nobody knows what is in it.
                os.rename(self.tree(digest), self.tree(digest) + ".dropped")
            os.rename(builder.folder, self.tree(digest))
        except BaseException:
            remove(builder.folder)
            raise
        return len(written)

    def clear_leftovers(self) -> None:
        """What an interrupted apply left is gone, and so are manifests whose content nobody came back with."""
        with os.scandir(self.trees) as listing:
            for entry in listing:
                if not DIGEST.fullmatch(entry.name):
                    remove(entry.path)
        trees = {digest + ".json" for digest in self.complete()}
        with os.scandir(self.manifests) as listing:
            for entry in listing:
                age = time.time() - entry.stat(follow_symlinks=False).st_mtime
                if entry.name not in trees and age > _PENDING_SECONDS:
                    os.unlink(entry.path)

    def prune(self) -> None:
        """All but the newest trees are gone."""
        for digest in self.complete()[KEEP:]:
            self.drop(digest)
        self.clear_leftovers()

    def drop(self, digest: str) -> None:
        """The tree is gone: first its manifest, so that half a tree is never taken for one."""
        self.forget(digest)
        os.rename(self.tree(digest), self.tree(digest) + ".dropped")
        remove(self.tree(digest) + ".dropped")

    def forget(self, digest: str) -> None:
        self.read.pop(digest, None)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.manifests, digest + ".json"))

    def drop_damaged(self) -> None:
        """Every tree that has a changed file is gone; trees share files, so it may be several."""
        for digest in self.complete():
            entries = self.read_manifest(digest)
            root = os.fsencode(self.tree(digest)) + b"/"
            if entries is None or not all(is_intact(root + encoded(p), e) for p, e in entries.items()):
                self.drop(digest)


@contextlib.contextmanager
def in_our_words() -> Iterator[None]:
    """What the file system says, in our words."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise TreeError(
                "disk-full",
                "the machine's disk is full; the project stays as it was synced before",
                "free space there, or use a machine with a larger root volume (--root-volume-size)",
            ) from error
        where = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
        message = "the project's folder cannot be used: {} {}".format(error.strerror or error, where).strip()
        raise TreeError(
            "tree-failed", message, "look at the folder's owner and mode on the machine"
        ) from error


def _state_directory() -> str:
    named = os.environ.get("RUNCTL_AGENT_STATE")
    if named:
        # The usual case, and the import below would double the time that asking for an unchanged tree takes.
        return named
    from runctl.agent.state import state_directory

    return str(state_directory())
