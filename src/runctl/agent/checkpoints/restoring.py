"""Brings the newest checkpoint of a run's prefix onto a machine that has none of it, compared with its checksums."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable

from runctl._dataclasses import dataclass
from runctl.agent.checkpoints import choosing, layout
from runctl.agent.checkpoints.folders import incomplete
from runctl.agent.checkpoints.formats import QUIET_SECONDS
from runctl.agent.checkpoints.layout import Manifest, StoredFile
from runctl.agent.checkpoints.store_files import LARGE, THREADS
from runctl.agent.checkpoints.stores import Store
from runctl.agent.errors import AgentError, counted

PARTIAL = ".runctl-restore-"
"""Begins the name of the folder that is filled first; never a checkpoint's."""
REPLACED = ".runctl-replaced"
"""In that folder: what a restored folder has taken the place of."""
BROKEN = ("store-missing", "store-corrupt")


@dataclass(frozen=True)
class Restored:
    """A checkpoint that is on the machine now."""

    manifest: Manifest
    fetched: int
    """Bytes; 0 where the machine had all of it."""
    seconds: float


def restore(
    store: Store,
    folder: Path,
    say: Callable[[str], None],
    now: float | None = None,
    name: str | None = None,
) -> Restored | None:
    """The newest checkpoint in the store that is whole is in the folder; ``None`` where the store has none.

    A checkpoint of the folder's own that is newer stays what is resumed from, and then nothing is fetched. The one
    before is taken where the newest in the store is broken, and ``say`` is told. With a ``name`` it is the newest of
    that name, whatever the folder has. Raises `AgentError` where the store does not answer, refuses, or has none of
    that name, and `OSError` where the folder cannot be written.
    """
    moment = time.time() if now is None else now
    own = _own(folder, moment) if name is None else None
    keys = layout.newest_first(store.keys(layout.CHECKPOINTS))
    for key in keys:
        try:
            manifest = layout.decode(store.read(key))
            if name is not None and manifest.name != name:
                continue
            if own is not None and not is_newer(manifest, own):
                return None
            return _fetched(store, manifest, folder, moment)
        except ValueError as error:
            say(f"{key} in the store cannot be used: {error}")
        except AgentError as error:
            if error.code not in BROKEN:
                raise
            say(f"{key} in the store cannot be used: {error.message}")
    if name is not None:
        raise AgentError("no-checkpoint", f"the store has no {name} that can be used")
    if keys:
        raise AgentError(
            "no-checkpoint",
            f"none of {counted(len(keys), 'checkpoint')} in the store can be used",
            "runctl checkpoint verify says what is wrong with each",
        )
    return None


def is_newer(manifest: Manifest, own: float) -> bool:
    """Whether a checkpoint in the store was saved after the folder's own newest (seconds since the epoch). Pure.

    Two clocks may have told the times; less than a second is no difference.
    """
    return manifest.created_at > own + 1.0


def _own(folder: Path, now: float) -> float | None:
    # The run's script has not begun, or has ended: nobody writes there.
    choice = choosing.newest(folder, now + QUIET_SECONDS + 1)
    return None if choice.chosen is None else choice.changed_ns / 1e9


def _fetched(store: Store, manifest: Manifest, folder: Path, now: float) -> Restored:
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(PARTIAL + "*"):
        # Of a machine that died meanwhile.
        shutil.rmtree(left, ignore_errors=True)
    _check_room(folder, manifest)
    partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder))
    try:
        _fetch_all(store, manifest.files, partial)
        why = incomplete(partial / manifest.name, now + 3600)
        if why:
            raise AgentError("store-corrupt", f"{manifest.name} is not complete: {why}")
        # A new checkpoint must be newer than what was fetched, and that not be taken for one that is still written,
        # whatever the clock of the machine before said.
        moment = min(manifest.created_at, now - QUIET_SECONDS)
        for file in manifest.files:
            source = partial / file.path
            source.chmod(file.mode & 0o777)
            os.utime(source, (moment, moment))
        _put_in_place(manifest, partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Restored(manifest, manifest.size, time.monotonic() - began)


def _put_in_place(manifest: Manifest, partial: Path, folder: Path) -> None:
    """What belongs to the checkpoint besides, and then itself, by one change of name: whoever sees it sees all of it.

    One that is the whole folder has no name of its own: its files are put there one by one.
    """
    main = partial / manifest.name
    for file in manifest.files:
        source, target = partial / file.path, folder / file.path
        if source == main or (main != partial and main in source.parents):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
    if main == partial:
        return
    target = folder / manifest.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        # A folder cannot take the place of one that has files; what is there is older, and not complete.
        target.rename(partial / REPLACED)
    main.replace(target)


def _fetch_all(store: Store, files: Sequence[StoredFile], into: Path) -> None:
    for file in files:
        (into / file.path).parent.mkdir(parents=True, exist_ok=True)
    large = [file for file in files if file.size > LARGE]
    with ThreadPoolExecutor(THREADS) as pool:
        jobs = [pool.submit(store.fetch, file, into / file.path) for file in files if file not in large]
        try:
            for file in large:
                store.fetch(file, into / file.path)
            for job in jobs:
                job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _check_room(folder: Path, manifest: Manifest) -> None:
    facts = os.statvfs(folder)
    free = facts.f_bavail * facts.f_frsize
    if free < manifest.size:
        raise AgentError(
            "disk-full",
            f"{manifest.name} has {manifest.size:,} bytes, and {folder} has room for {free:,}",
            "take a larger volume, or mount one",
        )
