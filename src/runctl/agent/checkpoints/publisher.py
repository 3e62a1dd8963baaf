"""Copies each new complete checkpoint of a run into its store: only what changed, data first, the manifest last."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable

from runctl._dataclasses import dataclass
from runctl.agent.checkpoints import choosing, layout
from runctl.agent.checkpoints.choosing import Checkpoint
from runctl.agent.checkpoints.folders import Checksums, Identity, identity, incomplete
from runctl.agent.checkpoints.formats import QUIET_SECONDS
from runctl.agent.checkpoints.layout import Manifest, StoredFile
from runctl.agent.checkpoints.schedule import fits, sent_before_the_newest
from runctl.agent.checkpoints.store_files import LARGE, THREADS
from runctl.agent.checkpoints.stores import Store
from runctl.agent.errors import AgentError, counted

SIBLING_SECONDS = 60.0
"""For how long a file that belongs to a checkpoint may be incomplete before the checkpoint goes without it."""
_MOST_NUMBERS = 1000
_MOST_WEIGHED = 5
"""Of the newest checkpoints, when time is short."""

Signature = tuple[Identity, ...]
"""Of each file that is more than a note."""


@dataclass(frozen=True)
class Left:
    """A checkpoint that is not in the store, and why."""

    name: str
    size: int
    """Bytes."""
    why: str


@dataclass(frozen=True)
class Published:
    """What has come of publishing so far."""

    manifest: Manifest | None = None
    """The newest that is in the store."""
    published_at: float | None = None
    """Seconds since the epoch; ``None`` where somebody else has published it."""
    left: tuple[Left, ...] = ()
    trouble: str = ""
    """Why the store does not have the newest; empty if nothing is wrong."""


class Publisher:
    """One run's checkpoints on their way into one store. Used from one thread."""

    def __init__(
        self,
        store: Store,
        folder: Path,
        run_id: str,
        attempt: int,
        *,
        keep_last: int | None = None,
        keep_best: Sequence[str] = (),
        say: Callable[[str], None] = lambda _: None,
        hurry: Callable[[], bool] = lambda: False,
    ) -> None:
        """``hurry`` is asked between two files: when it is true, nothing but the newest checkpoint matters."""
        self._store, self._folder = store, folder
        self._run_id, self._attempt = run_id, attempt
        self._keep_last, self._keep_best = keep_last, tuple(keep_best)
        self._say, self._hurry = say, hurry
        self._known: set[str] | None = None
        self._manifests: dict[str, Manifest] = {}
        self._unreadable: set[str] = set()
        self._seen: dict[Path, Signature] = {}
        self._checksums = Checksums()
        self._number = 1
        self._last_ns = 0
        self._sending: Path | None = None
        self._settled: Path | None = None
        """What is sent though a newer one is there, which cannot be sent in time."""
        self.bytes_per_second: float | None = None
        """As measured while sending."""
        self.published = Published()

    def publish_new(self, now: float, *, last: bool = False) -> bool:
        """Whether anything was published. ``last``: nobody writes any more, and the newest alone counts.

        Raises `AgentError` where the store refuses or does not answer; what was sent until then counts.
        """
        found = choosing.candidates(self._folder)
        moment = now + QUIET_SECONDS + 1 if last else now
        due = self._due(found, moment, last=last)
        if not due:
            return False
        self._begin()
        done = False
        for checkpoint in due:
            done = self._publish(checkpoint, found, moment, last=last) or done
        return done

    def finish(self, until: float, now: Callable[[], float] = time.time) -> Published:
        """The newest checkpoint is in the store, or `Published.left` says why not. ``until``: seconds since the epoch.

        What by the measured speed cannot be sent in time is tried all the same: speeds change, and nothing else is
        left to do. One that is older than what the store has is what the script has kept of several: it is sent where
        there is time, and nothing goes on from it, so that it is not missed otherwise.
        """
        found = choosing.by_age(choosing.candidates(self._folder))
        moment = now() + QUIET_SECONDS + 1
        complete = [each for each in found if not incomplete(each.path, moment, self._checksums)][
            :_MOST_WEIGHED
        ]
        if not complete:
            return self.published
        newest, why = complete[0], ""
        size = sum(_size(path) for path in choosing.belonging(newest.path, found))
        try:
            why = self._send_what_fits(complete, found, moment, until - now())
            seconds = until - now()
            if self._is_behind(newest) and not fits(
                self._remaining(newest, found), self.bytes_per_second, seconds
            ):
                self._say(f"{self._name(newest.path)} is not published: {seconds:.0f} s are too short for it")
                self.published = dataclasses.replace(self.published, left=(), trouble="")
                return self.published
            self.publish_new(now(), last=True)
        except (AgentError, OSError) as error:
            why = getattr(error, "message", "") or str(error)
        if self._seen.get(newest.path) != _signature(self._main_files(newest, found)):
            left = Left(self._name(newest.path), size, why or "it changed while it was copied")
            self.published = dataclasses.replace(self.published, left=(left,), trouble=left.why)
        return self.published

    def _send_what_fits(
        self, complete: Sequence[Checkpoint], found: Sequence[Checkpoint], moment: float, seconds: float
    ) -> str:
        """Where the newest cannot be sent in time, the newest that can be is in the store, and it is said why.

        Raises `AgentError` where the store cannot be asked.
        """
        self._begin()
        since = self.published.manifest.created_at if self.published.manifest is not None else 0.0
        unsent = [each for each in complete if each.changed_ns / 1e9 > since]
        remaining = [self._remaining(each, found) for each in unsent]
        if not remaining or fits(remaining[0], self.bytes_per_second, seconds):
            return ""
        why = f"at {self.bytes_per_second or 0:,.0f} bytes a second it cannot be sent in time"
        first = sent_before_the_newest(remaining, self.bytes_per_second, seconds)
        if first is None:
            return why
        self._settled = unsent[first].path
        with contextlib.suppress(AgentError, OSError):
            self._publish(unsent[first], found, moment, last=True)
            why += f"; {self._name(unsent[first].path)}, which is older, went first"
        self._settled = None
        return why

    def _remaining(self, checkpoint: Checkpoint, found: Sequence[Checkpoint]) -> int:
        """Bytes of it that the store may not have yet."""
        known = self._known or set()
        left = 0
        for path in choosing.belonging(checkpoint.path, found):
            with contextlib.suppress(OSError):
                facts = path.stat()
                checksum = self._checksums.known(path, facts)
                left += 0 if checksum is not None and layout.data_key(checksum) in known else facts.st_size
        return left

    def _due(self, found: Sequence[Checkpoint], now: float, *, last: bool) -> list[Checkpoint]:
        """The newest complete one if the store lacks it, and those before it that are kept as best; oldest first."""
        due: list[Checkpoint] = []
        for checkpoint in choosing.by_age(found):
            best = layout.matches(self._name(checkpoint.path), self._keep_best)
            if due and not (best and not last):
                continue
            if checkpoint.changed_ns < self._last_ns and not best and not last:
                break
            known = self._seen.get(checkpoint.path)
            if known is not None and known == _signature(self._main_files(checkpoint, found)):
                if not best or last:
                    break
                continue
            if not incomplete(checkpoint.path, now, self._checksums):
                due.append(checkpoint)
                if not self._keep_best:
                    break
        return due[::-1]

    def _is_behind(self, checkpoint: Checkpoint) -> bool:
        """Whether this attempt has published one that was saved after it: both times are this machine's."""
        stored = self.published.manifest
        return (
            stored is not None
            and stored.attempt == self._attempt
            and checkpoint.changed_ns / 1e9 < stored.created_at
        )

    def _main_files(self, checkpoint: Checkpoint, found: Sequence[Checkpoint]) -> list[Path]:
        files = choosing.belonging(checkpoint.path, found)
        if checkpoint.path.is_dir():
            return files
        return [path for path in files if path == checkpoint.path or not choosing.is_note(path.name)]

    def _begin(self) -> None:
        """What the store has of the run already: said by the store, once."""
        if self._known is not None:
            return
        known = set(self._store.keys(layout.DATA))
        keys = layout.newest_first(self._store.keys(layout.CHECKPOINTS))
        self._read_manifests(keys if self._keep_last is not None else keys[:1])
        numbers = [number for attempt, number in map(_order, keys) if attempt == self._attempt]
        self._number = max(numbers, default=0) + 1
        if self._manifests:
            self.published = Published(self._manifests[max(self._manifests, key=_order)])
        self._known = known

    def _read_manifests(self, keys: Sequence[str]) -> None:
        for key in keys:
            if key in self._manifests or key in self._unreadable:
                continue
            try:
                self._manifests[key] = layout.decode(self._store.read(key))
            except ValueError as error:
                self._unreadable.add(key)
                self._say(f"{key} in the store is not a manifest of ours: {error}")

    def _publish(
        self, checkpoint: Checkpoint, found: Sequence[Checkpoint], now: float, *, last: bool
    ) -> bool:
        main = self._main_files(checkpoint, found)
        kept: list[Path] = []
        for path in main:
            why = "" if path == checkpoint.path or checkpoint.path.is_dir() else incomplete(path, now)
            if why and not last and now - path.stat().st_mtime < SIBLING_SECONDS:
                return False
            kept += [] if why else [path]
        before = _signature(main)
        self._sending = checkpoint.path
        notes = [path for path in choosing.belonging(checkpoint.path, found) if path not in main]
        began = time.monotonic()
        files, sent = self._send(kept, notes)
        if sent:
            seconds = max(time.monotonic() - began, 0.001)
            self.bytes_per_second = sent / seconds
        if _signature(main) != before:
            raise AgentError("changed", f"{checkpoint.path.name} changed while it was copied")
        step = choosing.step_of(checkpoint.path)
        name = self._name(checkpoint.path)
        manifest = Manifest(
            self._run_id, self._attempt, self._number, name, checkpoint.changed_ns / 1e9, tuple(files), step
        )
        behind = self.published if self._is_behind(checkpoint) else None
        stored = self.published.manifest
        same = next(
            (
                each
                for each in ([*self._manifests.values()] if behind else [stored] if stored else [])
                if each.name == name and _content(each, notes) == _content(manifest, notes)
            ),
            None,
        )
        if same is not None:
            # It is what this machine has fetched, or what a publisher before this one has sent.
            self._note(checkpoint, before, same, None)
            self.published = dataclasses.replace(behind, left=(), trouble="") if behind else self.published
            return False
        manifest = self._put_manifest(manifest)
        self._note(checkpoint, before, manifest, time.time())
        self._say(
            f"published {name}: {counted(len(files), 'file')}, {manifest.size:,} bytes, of which {sent:,} were new"
        )
        if behind is not None and behind.manifest is not None:
            # What the run goes on from is the manifest with the greatest number: the newest stays that, and what the
            # script has kept beside it is not removed for it.
            newest = self._put_manifest(dataclasses.replace(behind.manifest, number=self._number))
            self._manifests[newest.key] = newest
            self.published = Published(newest, behind.published_at)
            self._prune(behind.manifest)
            return True
        self._prune()
        return True

    def _send(self, files: Sequence[Path], notes: Sequence[Path]) -> tuple[list[StoredFile], int]:
        """All data of the files is in the store; notes that change meanwhile are left out."""
        large = [path for path in files if _size(path) > LARGE]
        small = [path for path in files if path not in large]
        with ThreadPoolExecutor(THREADS) as pool:
            sending = [pool.submit(self._send_file, path) for path in small]
            noting = [pool.submit(self._send_note, path) for path in notes]
            try:
                done = [self._send_file(path) for path in large]
                done += [job.result() for job in sending]
                done += [found for job in noting if (found := job.result()) is not None]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return sorted((file for file, _ in done), key=lambda file: file.path), sum(sent for _, sent in done)

    def _send_note(self, path: Path) -> tuple[StoredFile, int] | None:
        try:
            return self._send_file(path)
        except AgentError as error:
            if error.code != "changed":
                raise
            return None

    def _send_file(self, path: Path) -> tuple[StoredFile, int]:
        if self._hurry() and self._sending != self._settled:
            moment = time.time() + QUIET_SECONDS + 1
            newest = choosing.newest(self._folder, moment, self._checksums).chosen
            if newest != self._sending:
                raise AgentError("changed", f"{newest} is newer, and little time is left")
        try:
            facts = path.stat()
            checksum = self._checksums.of(path)
        except FileNotFoundError:
            raise AgentError("changed", f"{path.name} was removed while it was copied") from None
        file = StoredFile(self._name(path), facts.st_size, checksum, facts.st_mode & 0o777)
        known = self._known if self._known is not None else set()
        data = layout.data_key(checksum)
        if data in known:
            return file, 0
        sent = self._store.put_file(file, path, facts)
        known.add(data)
        return file, sent

    def _put_manifest(self, manifest: Manifest) -> Manifest:
        for _ in range(_MOST_NUMBERS):
            self._number = manifest.number + 1
            if self._store.put(manifest.key, layout.encode(manifest), only_new=True):
                return manifest
            # A publisher of this attempt that was killed has left one that the listing did not show.
            manifest = dataclasses.replace(manifest, number=self._number)
        raise AgentError("store-refused", f"{manifest.key} and those before it are taken")

    def _note(
        self, checkpoint: Checkpoint, signature: Signature, manifest: Manifest, at: float | None
    ) -> None:
        self._seen[checkpoint.path] = signature
        self._last_ns = max(self._last_ns, checkpoint.changed_ns)
        self._manifests[manifest.key] = manifest
        self.published = Published(manifest, at)
        alive = {path for path in self._seen if path.exists()}
        self._seen = {path: known for path, known in self._seen.items() if path in alive}
        self._checksums.forget_removed()

    def _prune(self, double: Manifest | None = None) -> None:
        """A manifest goes first, then the data that no other names. What cannot be removed is said, and stays.

        ``double``: what was put once more, after one that is kept beside the last ones.
        """
        if self._hurry() or not self._to_prune(double):
            return
        try:
            # Whoever has published meanwhile may have named the same data.
            self._read_manifests(layout.newest_first(self._store.keys(layout.CHECKPOINTS)))
            if any(manifest.attempt > self._attempt for manifest in self._manifests.values()):
                # The run goes on elsewhere, and what it goes on from is not ours to remove.
                return
            for manifest in self._to_prune(double):
                self._store.delete(manifest.key)
                del self._manifests[manifest.key]
                of_it = {layout.data_key(file.sha256) for file in manifest.files}
                for key in layout.unused_data(of_it, self._manifests.values()):
                    if self._known is not None:
                        self._known.discard(key)
                    self._store.delete(key)
        except AgentError as error:
            self._say(f"warning: older checkpoints stay in the store: {error.message}")

    def _to_prune(self, double: Manifest | None) -> list[Manifest]:
        if double is None or self._keep_last is None:
            return layout.to_prune(list(self._manifests.values()), self._keep_last, self._keep_best)
        once = [each for each in self._manifests.values() if each != double]
        return [double, *layout.to_prune(once, max(1, self._keep_last) + 1, self._keep_best)]

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


def _content(manifest: Manifest, notes: Sequence[Path]) -> set[tuple[str, str]]:
    """What it is made of, but for notes."""
    left_out = {path.name for path in notes}
    return {(file.path, file.sha256) for file in manifest.files if Path(file.path).name not in left_out}


def _order(key: str) -> tuple[int, int]:
    return layout.parse_manifest_key(key) or (0, 0)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _signature(files: Sequence[Path]) -> Signature:
    found = []
    for path in files:
        try:
            facts = path.stat()
        except FileNotFoundError:
            continue
        found.append(identity(path, facts))
    return tuple(sorted(found))
