"""The folder of one project on this machine: its trees, which of them is current, and the lock that guards them."""

# TreeNames need not be UTF-8, so paths are bytes here, which pathlib does not take.
# ruff: noqa: PTH102, PTH103, PTH104, PTH105, PTH108, PTH110, PTH112, PTH118, PTH123, PTH208

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import io
import os
import time
from typing import Any, BinaryIO, Iterator, Mapping

from runctl.agent.trees.build import Builder
from runctl.agent.trees.changes import read_changes
from runctl.agent.trees.files import check, flush_all, pack_header, unpack_json
from runctl.agent.trees.manifest import EMPTY, Entry, Manifest
from runctl.agent.trees.names import KEEP, TreeError, TreeNames, checked, is_digest, state_directory
from runctl.agent.trees.on_disk import CHUNK, encoded, flush, is_intact, remove

LOCK_SECONDS = 120.0
_PENDING_SECONDS = 86400.0
"""How long a manifest waits for its content before it counts as left over."""
_IN_MEMORY = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class TreeStore(TreeNames):
    """One project's trees. What is not in `TreeNames` or `of` is called with the lock held."""

    def __init__(self, state: str, name: str) -> None:
        super().__init__(state, name)
        self.read: dict[str, Manifest] = {}
        self.unsaved: set[str] = set()

    @classmethod
    def of(cls, request: Mapping[str, Any], state: str | None) -> TreeStore:
        """The store of the project that the request names."""
        name, _ = checked(request.get("project"), request.get("digest"))
        return cls(state or state_directory(), name)

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

    def manifest_of(self, request: Mapping[str, Any]) -> Manifest | None:
        """The manifest that the request brings, or that is known; ``None`` if neither is so."""
        digest = request["digest"]
        if request.get("manifest") is not None:
            manifest = Manifest(unpack_json(request["manifest"], "manifest"))
            touched, base = manifest.entries, EMPTY
        elif request.get("changes") is not None:
            named = request.get("base")
            known = self.read_manifest(named) if isinstance(named, str) and is_digest(named) else None
            if known is None:
                return self.read_manifest(digest)
            changes = unpack_json(request["changes"], "changes")
            added, gone = changes.get("set"), changes.get("remove")
            if (
                not isinstance(added, dict)
                or not isinstance(gone, list)
                or not all(isinstance(each, str) for each in gone)
            ):
                raise TreeError("bad-manifest", "the changes do not say what is set and what is removed")
            manifest, touched, base = known.with_changes(added, gone), added, known
        else:
            return self.read_manifest(digest)
        if manifest.digest != digest:
            raise TreeError("bad-manifest", "the manifest does not have the digest that it was sent with")
        check(touched, manifest, base)
        self.read[digest] = manifest
        self.unsaved.add(digest)
        return manifest

    def read_manifest(self, digest: str) -> Manifest | None:
        if digest in self.read:
            return self.read[digest]
        manifest: Manifest | None
        try:
            with open(self.manifest(digest), "rb") as file:
                manifest = Manifest(text=file.read().decode("ascii", "replace"))
        except FileNotFoundError:
            manifest = self._from_changes(digest)
        if manifest is None or manifest.digest != digest:
            return None
        self.read[digest] = manifest
        return manifest

    def _from_changes(self, digest: str) -> Manifest | None:
        """Made from the nearest tree before it that has a manifest, by what has changed since."""
        newest: dict[str, Entry | None] = {}
        seen = set()
        while not os.path.exists(self.manifest(digest)):
            record = read_changes(self.changes(digest))
            if record is None or digest in seen:
                return None
            seen.add(digest)
            digest, differences = record
            for path, (_, entry) in differences.items():
                newest.setdefault(path, entry)
        base = self.read_manifest(digest)
        if base is None:
            return None
        changed = {path: entry for path, entry in newest.items() if entry is not None}
        return base.with_changes(changed, newest.keys() - changed.keys())

    def settle(self) -> None:
        """Each tree has a manifest of its own, and what only served to make one from another is gone."""
        records = [name for name in os.listdir(self.manifests) if name.endswith(".changes")]
        if not records:
            return
        trees = self.complete()
        for digest in trees:
            if not os.path.exists(self.manifest(digest)) and self.read_manifest(digest) is not None:
                self.unsaved.add(digest)
                self.write_manifest(digest)
        for name in records:
            digest = name[: -len(".changes")]
            record = read_changes(self.changes(digest))
            if digest not in trees:
                remove(self.changes(digest))
            if record is not None and record[0] not in trees:
                remove(self.manifest(record[0]))

    def write_manifest(self, digest: str) -> None:
        """What the request brought is kept; what was read from here is here already."""
        for partial in self.stage_manifest(digest):
            flush(partial)
            os.replace(partial, self.manifest(digest))

    def stage_manifest(self, digest: str) -> list[str]:
        """What the request brought is in a file of another name, not flushed; no file if it was read from here."""
        if digest not in self.unsaved:
            return []
        self.unsaved.remove(digest)
        partial = self.manifest(digest) + ".partial"
        try:
            with open(partial, "wb") as file:
                file.write(self.read[digest].text.encode("ascii"))
        except BaseException:
            remove(partial)
            raise
        return [partial]

    def find_contents(self, wanted: set[str]) -> dict[str, dict[int, bytes]]:
        """Where each content is in an intact file: by hash, then by executable or not."""
        found: dict[str, dict[int, bytes]] = {}
        for digest in self.complete():
            if len(found) == len(wanted):
                break
            manifest = self.read_manifest(digest) or EMPTY
            root = os.fsencode(self.tree(digest)) + b"/"
            for path, entry in manifest.files_with(wanted):
                if entry[1] not in found.get(entry[3], ()) and is_intact(root + encoded(path), entry):
                    found.setdefault(entry[3], {})[entry[1]] = root + encoded(path)
        return found

    @contextlib.contextmanager
    def received(self, stream: BinaryIO | None) -> Iterator[tuple[BinaryIO, list[tuple[str, int]]]]:
        """The pack, open behind its first line, and that line. Needs no lock: a slow sender keeps nobody waiting."""
        if stream is None:
            yield io.BytesIO(), []
            return
        self.make_folders()
        with _spooled(stream, self.folder) as spool, gzip.GzipFile(fileobj=spool, mode="rb") as unpacked:
            yield unpacked, pack_header(unpacked)  # type: ignore[misc]

    def begin(self, builder: Builder, spare: str | None, sources: dict[str, dict[int, bytes]]) -> bool:
        """Start the new tree, from the spare one if there is one; ``False`` if that cannot be used."""
        if spare is None:
            os.mkdir(builder.folder, 0o755)
            builder.start()
            return True
        root = os.fsencode(self.tree(spare)) + b"/"
        if any(path.startswith(root) for copies in sources.values() for path in copies.values()):
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
        sources: dict[str, dict[int, bytes]],
        pack: BinaryIO,
        packed: list[tuple[str, int]],
    ) -> int:
        """``trees/<digest>`` is complete and on the disk; returns how many files were written anew."""
        staged: list[str] = []
        try:
            written = builder.write_known(sources)
            written += builder.write_packed(pack, packed)
            staged = self.stage_manifest(digest)
            flush_all(builder.folder, [*written, *map(os.fsencode, staged)])
            for partial in staged:
                os.replace(partial, self.manifest(digest))
            if os.path.isdir(self.tree(digest)):
                # It has lost its manifest, so that nobody knows what is in it.
                os.rename(self.tree(digest), self.tree(digest) + ".dropped")
            os.rename(builder.folder, self.tree(digest))
        except BaseException:
            for path in (builder.folder, *staged):
                remove(path)
            raise
        return len(written)

    def clear_leftovers(self) -> None:
        """What an interrupted apply left is gone, and so are manifests whose content nobody came back with."""
        with os.scandir(self.trees) as listing:
            for entry in listing:
                if not is_digest(entry.name):
                    remove(entry.path)
        trees = {digest + kind for digest in self.complete() for kind in (".json", ".changes")}
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
        for path in (self.changes(digest), self.manifest(digest)):
            remove(path)

    def drop_damaged(self) -> None:
        """Every tree that has a changed file is gone; trees share files, so it may be several."""
        self.settle()
        for digest in self.complete():
            manifest = self.read_manifest(digest)
            root = os.fsencode(self.tree(digest)) + b"/"
            if manifest is None or not all(
                is_intact(root + encoded(path), entry) for path, entry in manifest.entries.items()
            ):
                self.drop(digest)


def _spooled(stream: BinaryIO, folder: str) -> BinaryIO:
    """All of it, in memory or in a file without a name in ``folder``."""
    data = stream.read(_IN_MEMORY)
    rest = stream.read(1)
    if not rest:
        return io.BytesIO(data)
    # Only now: importing it takes as long as all that a small change needs.
    import tempfile

    spool: Any = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (the caller closes it)
    while rest:
        spool.write(data + rest)
        data, rest = b"", stream.read(CHUNK)
    spool.seek(0)
    return spool  # type: ignore[no-any-return]


@contextlib.contextmanager
def file_system_errors() -> Iterator[None]:
    """What the file system refuses becomes a `TreeError`."""
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
        raise TreeError("tree-failed", message, "check the folder's owner and mode on the machine") from error
