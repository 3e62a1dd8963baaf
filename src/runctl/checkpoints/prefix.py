"""A run's prefix in an object store, in the layout of `runctl.agent.checkpoints.layout`, as a place of checkpoints."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from runctl.agent.checkpoints import layout
from runctl.agent.checkpoints.layout import Manifest, StoredFile
from runctl.checkpoints.download import THREADS, Counter, Prefix, compare, download, in_parallel
from runctl.checkpoints.interface import CheckpointLocation, Identity, Transferred, identity
from runctl.core.errors import Conflict
from runctl.core.progress import SILENT, Progress
from runctl.core.run_models import Checkpoint, CheckpointFile, CheckpointState
from runctl.providers.abilities.object_storage import ObjectStorage, StoredObject

_MOST_NUMBERS = 100


class StoredCheckpoints(CheckpointLocation):
    """What is published of one run."""

    def __init__(
        self, storage: ObjectStorage, bucket: str, prefix: str, *, provider: str | None = None
    ) -> None:
        self.provider = provider
        """Whose store it is; ``None``: not known."""
        self._at = Prefix(storage, bucket, prefix)
        self.label = str(self._at)
        self._manifests: dict[Identity, Manifest] = {}

    @property
    def at(self) -> Prefix:
        """The prefix."""
        return self._at

    @property
    def run_id(self) -> str:
        """Of the run whose prefix it is."""
        return self._at.prefix.rpartition("/")[2]

    def runs_below(self) -> list[str]:
        """The addresses of what has checkpoints below this prefix, which has none itself."""
        start = self._at.key("")
        found = list(self._at.storage.folders(self._at.bucket, start))
        return [f"{self._at.storage.scheme}://{self._at.bucket}/{folder}" for folder in found]

    def checkpoints(self, progress: Progress = SILENT) -> tuple[Checkpoint, ...]:
        """See `CheckpointLocation.checkpoints`: those whose data are not all there are broken."""
        progress.step(f"looking at {self.label}")
        keys = {found.key: found for found in self._objects(layout.CHECKPOINTS)}
        if not keys:
            return ()
        data = {found.key: found.size_bytes for found in self._objects(layout.DATA)}
        ordered = layout.newest_first(keys)
        with ThreadPoolExecutor(THREADS) as pool:
            return tuple(pool.map(lambda key: self._checkpoint(keys[key], data), ordered))

    def described(self, checkpoint: Checkpoint, _progress: Progress = SILENT) -> Checkpoint:
        """See `CheckpointLocation.described`: its manifest has them."""
        return checkpoint

    def verify(
        self, checkpoints: Sequence[Checkpoint], progress: Progress = SILENT
    ) -> tuple[Checkpoint, ...]:
        """See `CheckpointLocation.verify`: what several have is read once."""
        whole = [each for each in checkpoints if each.state is not CheckpointState.BROKEN]
        checksums = {
            (file.sha256, file.size) for each in whole for file in self._manifests[identity(each)].files
        }
        progress.step(f"reading {self.label}")
        wrong = compare(self._at, checksums, progress)
        return tuple(
            replace(each, state=CheckpointState.BROKEN, problem=problem)
            if (problem := each.problem or _first_wrong(each, wrong))
            else replace(each, state=CheckpointState.VERIFIED)
            for each in checkpoints
        )

    def in_use(self, checkpoints: Sequence[Checkpoint]) -> Collection[Identity]:
        """See `CheckpointLocation.in_use`: of one without an end record all, and what it may have gone on from."""
        begun = [
            int(folder.rpartition("/")[2])
            for folder in self._at.storage.folders(self._at.bucket, self._at.key(layout.ATTEMPTS))
            if folder.rpartition("/")[2].isdecimal()
        ]
        attempts = [each.attempt for each in checkpoints if each.attempt is not None]
        current = max([*begun, *attempts], default=0)
        end = self._at.key(layout.end_key(current))
        if any(found.key == end for found in self._at.storage.objects(self._at.bucket, end)):
            return ()
        own = [identity(each) for each in checkpoints if each.attempt == current]
        before = [each for each in checkpoints if each.attempt is not None and each.attempt < current]
        taken = [identity(each) for each in before if each.state is not CheckpointState.BROKEN]
        return {*own, *taken[:1]}

    def fetch(self, checkpoint: Checkpoint, folder: Path, progress: Progress = SILENT) -> Transferred:
        """See `CheckpointLocation.fetch`."""
        manifest = self._manifests[identity(checkpoint)]
        progress.step(f"fetching {checkpoint.name}")
        return Transferred(*download(self._at, manifest.files, folder, progress))

    def accept(self, checkpoint: Checkpoint, folder: Path, progress: Progress = SILENT) -> Transferred:
        """See `CheckpointLocation.accept`: the data first, what is there already not again, then the manifest."""
        files = tuple(
            StoredFile(
                file.path, file.size_bytes, file.sha256 or "", (folder / file.path).stat().st_mode & 0o777
            )
            for file in checkpoint.files
        )
        progress.step(f"sending {checkpoint.name}")
        sent = self._send(files, folder, progress)
        numbers = [
            taken
            for found in self._objects(layout.CHECKPOINTS)
            if (taken := layout.parse_manifest_key(found.key)) is not None
        ]
        attempt, number = max(numbers, default=(1, 0))
        for following in range(number + 1, number + 1 + _MOST_NUMBERS):
            manifest = Manifest(
                self.run_id, attempt, following, checkpoint.name, time.time(), files, checkpoint.step
            )
            key = self._at.key(manifest.key)
            if self._at.storage.put(self._at.bucket, key, layout.encode(manifest), only_new=True):
                return sent
        raise Conflict(f"somebody else publishes to {self.label} all the time", code="taken")

    def remove(self, checkpoints: Sequence[Checkpoint], progress: Progress = SILENT) -> None:
        """See `CheckpointLocation.remove`: each manifest, then the data that only removed manifests named."""
        progress.step(f"removing from {self.label}")
        gone = [self._manifests.get(identity(each)) for each in checkpoints]
        for each in checkpoints:
            if each.attempt is not None and each.number is not None:
                self._delete(layout.manifest_key(each.attempt, each.number))
        # What was published meanwhile may need the same data.
        kept = [
            self._manifests[identity(each)]
            for each in self.checkpoints()
            if identity(each) in self._manifests
        ]
        named = {layout.data_key(file.sha256) for each in gone if each is not None for file in each.files}
        unused = layout.unused_data(named, kept)
        in_parallel([partial(self._delete, key) for key in unused])

    def _send(self, files: Sequence[StoredFile], folder: Path, progress: Progress) -> Transferred:
        there = {found.key: found.size_bytes for found in self._objects(layout.DATA)}
        missing = {
            file.sha256: file for file in files if there.get(layout.data_key(file.sha256)) != file.size
        }
        total = sum(file.size for file in missing.values())
        counter = Counter(progress, total)

        def send(file: StoredFile) -> None:
            key = self._at.key(layout.data_key(file.sha256))
            self._at.storage.upload(self._at.bucket, key, folder / file.path, counter.add)

        largest_first = sorted(missing.values(), key=lambda file: -file.size)
        in_parallel([partial(send, file) for file in largest_first])
        return Transferred(len(missing), total)

    def _checkpoint(self, found: StoredObject, data: Mapping[str, int]) -> Checkpoint:
        attempt, number = layout.parse_manifest_key(found.key) or (0, 0)
        try:
            manifest = layout.decode(self._at.storage.read(self._at.bucket, self._at.key(found.key)))
        except ValueError as error:
            return Checkpoint(
                name=found.key.rpartition("/")[2],
                step=None,
                state=CheckpointState.BROKEN,
                problem=f"its manifest cannot be read: {error}",
                saved_at=found.modified_at,
                size_bytes=0,
                where=self.label,
                attempt=attempt,
                number=number,
            )
        problem = _missing(manifest, data)
        checkpoint = Checkpoint(
            name=manifest.name,
            step=manifest.step,
            state=CheckpointState.BROKEN if problem else CheckpointState.COMPLETE,
            problem=problem,
            saved_at=datetime.fromtimestamp(manifest.created_at, UTC),
            size_bytes=manifest.size,
            where=self.label,
            attempt=attempt,
            number=number,
            files=tuple(CheckpointFile(file.path, file.size, file.sha256) for file in manifest.files),
        )
        self._manifests[identity(checkpoint)] = manifest
        return checkpoint

    def _objects(self, below: str) -> list[StoredObject]:
        """With keys from the prefix."""
        start = len(self._at.key(""))
        found = self._at.storage.objects(self._at.bucket, self._at.key(below))
        return [replace(each, key=each.key[start:]) for each in found]

    def _delete(self, below: str) -> None:
        self._at.storage.delete(self._at.bucket, self._at.key(below))


def _missing(manifest: Manifest, data: Mapping[str, int]) -> str:
    for file in manifest.files:
        size = data.get(layout.data_key(file.sha256))
        if size is None:
            return f"{file.path} is not in the store"
        if size != file.size:
            return f"{file.path} has {size} bytes in the store, and its manifest says {file.size}"
    return ""


def _first_wrong(checkpoint: Checkpoint, wrong: Mapping[str, str]) -> str:
    found = ((file.path, wrong.get(file.sha256 or "")) for file in checkpoint.files)
    return next((f"{path}: {why}" for path, why in found if why), "")
