"""Bring a project to a machine: one round trip when nothing has changed, and only what has changed otherwise."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from runctl._dataclasses import dataclass
from runctl.agent.trees.manifest import Manifest
from runctl.core.files import cache_folder
from runctl.core.progress import SILENT, Progress
from runctl.project.caches import SentTrees
from runctl.project.delivery import Delivery, Delta, Sent
from runctl.project.fingerprint import Changes, FileStats, Fingerprint
from runctl.project.manifest import FileChanged, HashCache, build_manifest
from runctl.project.root import project_name
from runctl.project.selection import LeftOut, Limits, Selection, select
from runctl.transport.tree_session import TreeSession

_ATTEMPTS = 3


class SyncTarget(Protocol):
    """A machine that takes project trees. `runctl.transport.agent.AgentClient` is one."""

    def trees(self, project: str, digest: str | None) -> TreeSession:
        """A session about the project's trees; the first question is whether the machine has ``digest``, if any."""
        ...


@dataclass(frozen=True)
class SyncResult:
    """The machine has the project, complete, as its current tree."""

    project: str
    """Its name there."""
    digest: str
    """Of the tree: what `RunSpec.tree` takes."""
    files: int
    bytes_total: int
    files_sent: int
    """Distinct contents that went over; moved and copied files are not sent again."""
    bytes_sent: int
    """Compressed, the description of the tree included."""
    removed: int
    """Files that the tree before had and this one has not."""
    seconds: float
    refused: tuple[LeftOut, ...]
    """They look like secrets and stayed at home; the caller tells the user."""
    skipped: tuple[LeftOut, ...]
    """They could not be sent."""

    @property
    def unchanged(self) -> bool:
        """Whether the machine had it all."""
        return self.bytes_sent == 0


@dataclass(frozen=True)
class _Described:
    digest: str
    files: int
    size_bytes: int


@dataclass(frozen=True)
class _Machine:
    project: str
    session: TreeSession
    sent_trees: SentTrees
    sent_last: str | None
    """Digest of the tree that it was sent last, as far as is known here."""

    def has(self, digest: str) -> bool:
        """Whether it is known to have this tree, as its current one now."""
        status = self.session.status()
        if digest != self.sent_last or not status["have"]:
            return False
        return bool(
            status["current"] or self.session.manifest({"project": self.project, "digest": digest})["have"]
        )

    def bring(self, root: Path, manifest: Manifest, delta: Delta | None, progress: Progress) -> Sent:
        """It has this tree; ``delta``, from another one, is used if it has that one."""
        if self.has(manifest.digest):
            return Sent()
        if not self.session.status()["have"] or manifest.digest == self.sent_last:
            delta = None
        elif delta is None or delta.base != self.sent_last:
            base = self.sent_trees.read(self.sent_last)
            delta = Delta.between(base, manifest) if base is not None else None
        with ThreadPoolExecutor(1) as pool:
            # The machine works meanwhile.
            saved = pool.submit(self.sent_trees.stage, manifest)
            sent = Delivery(root, self.project, manifest, self.session, progress).deliver(delta)
            self.sent_trees.keep(saved.result())
        return sent


def sync(
    root: Path,
    target: SyncTarget,
    machine: str,
    *,
    include_patterns: Sequence[str] = (),
    limits: Limits | None = None,
    cache: Path | None = None,
    progress: Progress = SILENT,
) -> SyncResult:
    """The project at ``root``, as it is now, is the current tree of that name on the machine.

    ``machine`` tells machines apart (an instance id). ``cache`` is a folder that may be deleted at any time; by default
    the user's own. The tree is consistent: a file that changes under the sync makes it begin again. Raises what
    `runctl.project.selection.select` raises, `FileChanged` for a file that does not come to rest, and `MachineError`
    (``disk-full`` among its codes); whatever it raises, the tree that the machine had before is still its current one.
    """
    started = time.monotonic()
    folder = cache if cache is not None else cache_folder()
    project = project_name(root)
    sent_trees = SentTrees(folder / "sent", machine, project)
    sent_last = sent_trees.digest()
    # What is on this disk and what is on the machine take about as long to find out: both at once.
    with target.trees(project, sent_last) as session:
        there = _Machine(project, session, sent_trees, sent_last)
        before = Fingerprint.load(_fingerprint(folder, project))
        likely = before.paths if before is not None and before.root == str(root) else ()
        for attempt in range(1, _ATTEMPTS + 1):
            selection = select(root, include_patterns, limits, likely=likely)
            try:
                described, sent = _bring(selection, there, folder, before, progress)
            except FileChanged as error:
                if attempt == _ATTEMPTS:
                    raise
                progress.detail(f"{error.message}; beginning again")
            else:
                break
    return SyncResult(
        project,
        described.digest,
        described.files,
        described.size_bytes,
        sent.files,
        sent.bytes,
        sent.removed,
        time.monotonic() - started,
        selection.refused,
        selection.skipped,
    )


def _fingerprint(cache: Path, project: str) -> Path:
    return cache / "hashes" / f"{project}.fingerprint"


def _bring(
    selection: Selection, machine: _Machine, cache: Path, before: Fingerprint | None, progress: Progress
) -> tuple[_Described, Sent]:
    """The machine has what was selected, which is compared with how it was ``before``.

    Raises `FileChanged` when that is not what it was any more.
    """
    stats, path = FileStats.of(selection), _fingerprint(cache, machine.project)
    changes = stats.changes_since(before) if stats is not None and before is not None else None
    if before is not None and changes == Changes() and machine.has(before.digest):
        return _Described(before.digest, before.files, before.size_bytes), Sent()
    if stats is not None and before is not None and changes is not None:
        updated = stats.updated(before, changes)
        if updated is not None:
            now, manifest, changed = updated
            delta = Delta.of(before.manifest, changed, changes.removed)
            with ThreadPoolExecutor(1) as pool:
                # It says nothing of the machine, which works meanwhile.
                pool.submit(now.save, path)
                sent = machine.bring(selection.root, manifest, delta, progress)
            return _Described(now.digest, now.files, now.size_bytes), sent
    hashes = HashCache.load(cache / "hashes" / f"{machine.project}.json")
    manifest = build_manifest(selection, hashes)
    try:
        sent = machine.bring(selection.root, manifest, None, progress)
    finally:
        hashes.save()
    after = stats.fingerprint(manifest, hashes) if stats is not None else None
    if after is not None:
        after.save(path)
    size = sum(entry[2] for entry in manifest.entries.values() if entry[0] == "f")
    return _Described(manifest.digest, len(manifest.entries), size), sent
