"""Bring a project to a machine: one round trip when nothing has changed, and only what has changed otherwise."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from runctl.core.places import cache_folder
from runctl.core.progress import SILENT, Progress
from runctl.project.delivery import Delivery, Delta, Sent
from runctl.project.manifest import Entry, FileChanged, HashCache, Manifest, build_manifest, sizes
from runctl.project.memory import Memory
from runctl.project.root import project_name
from runctl.project.selection import LeftOut, Limits, Selection, select
from runctl.project.snapshot import Look, Snapshot
from runctl.transport.conversation import Talk

_ATTEMPTS = 3


class SyncTarget(Protocol):
    """A machine that speaks of trees. `runctl.transport.agent.AgentClient` is one."""

    def trees(self, project: str, digest: str | None) -> Talk:
        """Begin to talk about the project; the first question is whether the machine has ``digest``, if any."""
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
    talk: Talk
    memory: Memory
    remembered: str | None
    """Digest of what it was sent last."""

    def has(self, digest: str) -> bool:
        """Whether it is known to have this tree, as its current one now."""
        looked = self.talk.looked()
        if digest != self.remembered or not looked["have"]:
            return False
        return bool(
            looked["current"] or self.talk.manifest({"project": self.project, "digest": digest})["have"]
        )

    def bring(self, root: Path, manifest: Manifest, delta: Delta | None, progress: Progress) -> Sent:
        """It has this tree; ``delta``, from another one, is used if it has that one."""
        if self.has(manifest.digest):
            return Sent()
        if not self.talk.looked()["have"] or manifest.digest == self.remembered:
            delta = None
        elif delta is None or delta.base != self.remembered:
            base = self.memory.read(self.remembered)
            delta = Delta.between(base, manifest) if base is not None else None
        sent = Delivery(root, self.project, manifest, self.talk, progress).deliver(delta)
        self.memory.write(manifest)
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
    memory = Memory(folder / "sent", machine, project)
    remembered = memory.digest()
    # What is on this disk and what is on the machine take about as long to find out: look at both at once.
    with target.trees(project, remembered) as talk:
        there = _Machine(project, talk, memory, remembered)
        for attempt in range(1, _ATTEMPTS + 1):
            selection = select(root, include_patterns, limits)
            try:
                described, sent = _bring(selection, there, folder / "hashes", progress)
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


def _bring(
    selection: Selection, machine: _Machine, caches: Path, progress: Progress
) -> tuple[_Described, Sent]:
    """The machine has what was selected. Raises `FileChanged` when that is not what it was any more."""
    look, place = Look.at(selection), caches / f"{machine.project}.snapshot"
    before = Snapshot.load(place)
    touched = look.touched(before) if look is not None and before is not None else None
    if before is not None and touched == [] and machine.has(before.digest):
        return _Described(before.digest, before.files, before.size_bytes), Sent()
    # The machine reads what a change needs while it is found out here which.
    machine.talk.prepare()
    if look is not None and before is not None and touched is not None:
        renewed = look.renewed(before, touched)
        if renewed is not None:
            snapshot, changed = renewed
            delta = Delta(before.digest, changed, (), _not_in(before.text, changed))
            with ThreadPoolExecutor(1) as pool:
                # It says nothing of the machine, which works meanwhile.
                pool.submit(snapshot.save, place)
                sent = machine.bring(selection.root, Manifest.from_text(snapshot.text), delta, progress)
            return _Described(snapshot.digest, snapshot.files, snapshot.size_bytes), sent
    hashes = HashCache.load(caches / f"{machine.project}.json")
    manifest = build_manifest(selection, hashes)
    try:
        sent = machine.bring(selection.root, manifest, None, progress)
    finally:
        hashes.save()
    after = look.snapshot(manifest, hashes) if look is not None else None
    if after is not None:
        after.save(place)
    size = sum(entry[2] for entry in manifest.entries.values() if entry[0] == "f")
    return _Described(manifest.digest, len(manifest.entries), size), sent


def _not_in(text: bytes, entries: Mapping[str, Entry]) -> dict[str, int]:
    """The contents of the entries that a manifest's text does not have, with their sizes."""
    return {sha: size for sha, size in sizes(entries).items() if sha.encode("ascii") not in text}
