"""Bring a project to a machine: one round trip when nothing has changed, and only what has changed otherwise."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import platformdirs

from runctl.core.errors import MachineError
from runctl.core.progress import SILENT, Progress
from runctl.project.manifest import (
    FileChanged,
    HashCache,
    Manifest,
    build_manifest,
    write_atomically,
    write_pack,
)
from runctl.project.root import project_name
from runctl.project.selection import LeftOut, Limits, select

EAGER_BYTES = 256 * 1024
"""So much content is sent without asking what the machine has of it: a round trip costs more."""
_IN_MEMORY = 1 << 20
_ATTEMPTS = 3
_ROUNDS = 4
_REMEMBERED = 64
"""Manifests of machines that are kept; each is a hint, and losing one costs a longer first message."""


class SyncTarget(Protocol):
    """The machine's end: the agent's two verbs. `runctl.transport.agent.AgentClient` is one."""

    def manifest(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """What `runctl.agent.trees.manifest` answers."""
        ...

    def apply(self, request: Mapping[str, Any], pack: bytes | BinaryIO | None = None) -> Mapping[str, Any]:
        """What `runctl.agent.trees.apply` answers; ``pack`` follows the request when it says so."""
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


@dataclass
class _Sent:
    files: int = 0
    bytes: int = 0
    removed: int = 0


@dataclass(frozen=True)
class _Last:
    """What was sent to this machine the last time, and is still there."""

    digest: str
    is_current: bool


@dataclass(frozen=True)
class _Machine:
    project: str
    target: SyncTarget
    memory: _Memory
    looked: Callable[[], _Last | None]


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
    folder = cache if cache is not None else platformdirs.user_cache_path("runctl")
    project = project_name(root)
    hashes = HashCache.load(folder / "hashes" / f"{project}.json")
    memory = _Memory(folder / "sent", machine, project)
    with ThreadPoolExecutor(1) as pool:
        # What is on this disk and what is on the machine take about as long to find out: look at both at once.
        looked = memory.look(target, pool)
        for attempt in range(1, _ATTEMPTS + 1):
            selection = select(root, include_patterns, limits)
            manifest = build_manifest(selection, hashes)
            try:
                sent = _send(root, manifest, _Machine(project, target, memory, looked), progress)
            except FileChanged as error:
                if attempt == _ATTEMPTS:
                    raise
                progress.detail(f"{error.message}; beginning again")
            else:
                break
    return SyncResult(
        project,
        manifest.digest,
        len(manifest.entries),
        sum(entry[2] for entry in manifest.entries.values() if entry[0] == "f"),
        sent.files,
        sent.bytes,
        sent.removed,
        time.monotonic() - started,
        selection.refused,
        selection.skipped,
    )


def _send(root: Path, manifest: Manifest, machine: _Machine, progress: Progress) -> _Sent:
    sent = _Sent()
    target, memory = machine.target, machine.memory
    name = {"project": machine.project, "digest": manifest.digest}
    last = machine.looked()
    if (
        last is not None
        and last.digest == manifest.digest
        and (last.is_current or target.manifest(name)["have"])
    ):
        return sent
    base = memory.read(last.digest) if last is not None else None
    missing: Collection[str]
    if base is None or last is None or last.digest == manifest.digest:
        request, missing = {**name, **_full(manifest)}, manifest.contents
    else:
        changes = manifest.changes_from(base)
        request = {**name, "base": last.digest, "changes": _packed_json(changes)}
        missing = manifest.contents.keys() - base.contents.keys()
    if sum(manifest.contents[sha] for sha in missing) > EAGER_BYTES:
        answer = target.manifest(request)
        sent.bytes += _weight(request)
        if not answer["known"]:
            request = {**name, **_full(manifest)}
            answer = target.manifest(request)
            sent.bytes += _weight(request)
        if answer["have"]:
            memory.write(manifest)
            return sent
        # The machine knows the manifest from here on.
        request, missing = name, _missing(answer, manifest)
    for _ in range(_ROUNDS):
        answer = _apply(root, manifest, target, request, missing, sent, progress)
        if answer["applied"]:
            sent.removed = answer.get("removed", 0)
            memory.write(manifest)
            return sent
        request = name if answer["known"] else {**name, **_full(manifest)}
        missing = _missing(answer, manifest)
    raise MachineError(
        f"the machine keeps asking for more of {machine.project}",
        hint="something on it removes the project's files while they arrive; try again",
        code="sync-failed",
    )


def _apply(
    root: Path,
    manifest: Manifest,
    target: SyncTarget,
    request: Mapping[str, Any],
    missing: Collection[str],
    sent: _Sent,
    progress: Progress,
) -> Mapping[str, Any]:
    if not missing:
        sent.bytes += _weight(request)
        return target.apply(request)
    total = sum(manifest.contents[sha] for sha in missing)
    progress.step(f"packing {len(missing)} changed files")
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as spool:
        # TemporaryFile's stub is not a BinaryIO; it is one.
        pack: Any = spool
        files = write_pack(root, manifest, missing, pack)
        size = pack.tell()
        pack.seek(0)
        progress.step(
            f"sending {files} files ({total / 1024 / 1024:.1f} MiB, {size / 1024 / 1024:.1f} MiB packed)"
        )
        body = pack.read() if size <= _IN_MEMORY else _Counted(pack, size, progress.update)
        request = {**request, "pack_follows": True}
        sent.files += files
        sent.bytes += size + _weight(request)
        return target.apply(request, body)


class _Counted(BytesIO):
    """A file that says how far it has been read."""

    def __init__(self, file: BinaryIO, size: int, report: Callable[..., None]) -> None:
        super().__init__()
        self._file = file
        self._size = size
        self._report = report

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes."""
        data = self._file.read(-1 if size is None else size)
        self._report(done=self._file.tell(), total=self._size)
        return data

    def read1(self, size: int | None = -1, /) -> bytes:
        """As `read`: nothing here waits."""
        return self.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As in the file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As in the file."""
        return self._file.tell()


class _Memory:
    """Which manifest a machine was last seen to have. Wrong or gone, it costs a round trip and nothing else."""

    def __init__(self, folder: Path, machine: str, project: str) -> None:
        self._folder = folder
        self._project = project
        self._key = hashlib.sha256(f"{machine}\0{project}".encode("utf-8", "surrogateescape")).hexdigest()[
            :32
        ]

    def look(self, target: SyncTarget, pool: ThreadPoolExecutor) -> Callable[[], _Last | None]:
        """Begin to ask whether the machine still has what it was sent last; call the result for the answer."""
        digest = self._digest()
        if digest is None:
            return lambda: None
        asked = pool.submit(target.manifest, {"project": self._project, "digest": digest, "look": True})

        def answer() -> _Last | None:
            found = asked.result()
            return _Last(digest, bool(found.get("current"))) if found["have"] else None

        return answer

    def _digest(self) -> str | None:
        for path in self._folder.glob(f"{self._key}.*.json"):
            return path.name.split(".")[1]
        return None

    def read(self, digest: str) -> Manifest | None:
        try:
            text = (self._folder / f"{self._key}.{digest}.json").read_bytes()
            return Manifest.from_text(text) if hashlib.sha256(text).hexdigest() == digest else None
        except (OSError, ValueError):
            return None

    def write(self, manifest: Manifest) -> None:
        new = self._folder / f"{self._key}.{manifest.digest}.json"
        with contextlib.suppress(OSError):
            write_atomically(new, manifest.text)
            for path in self._folder.glob(f"{self._key}.*.json"):
                if path != new:
                    path.unlink(missing_ok=True)
            kept = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
            for path in kept[_REMEMBERED:]:
                path.unlink(missing_ok=True)


def _full(manifest: Manifest) -> dict[str, str]:
    return {"manifest": _encoded(manifest.text)}


def _packed_json(value: Any) -> str:
    return _encoded(json.dumps(value, separators=(",", ":")).encode("ascii"))


def _encoded(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, compresslevel=3, mtime=0)).decode("ascii")


def _missing(answer: Mapping[str, Any], manifest: Manifest) -> Collection[str]:
    missing = answer["missing"]
    if missing == "all":
        return manifest.contents
    return [sha for sha in missing if sha in manifest.contents]


def _weight(request: Mapping[str, Any]) -> int:
    return sum(len(value) for value in request.values() if isinstance(value, str))
