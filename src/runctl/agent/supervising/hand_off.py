"""The end of an attempt whose machine is taken back: its checkpoint verified, its volumes free for the next machine.

The machine itself is left alone: only its provider may end it, as another end hides the reason and costs money.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Callable, Generic, TypeVar

from runctl._dataclasses import dataclass
from runctl.agent.attempt.attempt import Attempt
from runctl.agent.checkpoints import choosing
from runctl.agent.checkpoints.folders import Checksums, files_of
from runctl.agent.checkpoints.layout import WHOLE_FOLDER
from runctl.agent.disks import mount_table, mountns
from runctl.agent.disks.volumes import detach
from runctl.agent.errors import AgentError
from runctl.agent.interruption import NOTICE_SECONDS, SEAL_SECONDS, VOLUMES_SECONDS, HandOff, Notice
from runctl.agent.machine.processes import LINUX
from runctl.agent.machine.root import as_root, call_as_root, folder_root, on_machine
from runctl.agent.spec import MountSpec

PATIENCE_SECONDS = 0.5
"""Between two attempts to unmount what another run on the machine still saves to."""
BLOCK = 1 << 20
MACHINES_NAMESPACE = ("nsenter", "--target", "1", "--mount", "--")

T = TypeVar("T")


class HandOver:
    """Made when the script has ended. Nothing here outlasts the machine, or raises."""

    def __init__(self, attempt: Attempt, notice: Notice) -> None:
        """``notice``: by which the attempt has ended."""
        self._attempt = attempt
        self._ends_at = notice.machine_ends_at
        self.moves, self.is_rehearsal = notice.moves, notice.is_rehearsal
        self._stages = attempt.stages
        self._plan = attempt.plan_for(notice)
        self._checkpoint: Path | None = None
        self._checksum: Background[str | None] | None = None
        self._published_sha256: str | None = None
        self._step: int | None = None
        self._instead: str | None = None
        self._left: list[str] = []

    @property
    def until(self) -> float:
        """By when everything must be done, in seconds since the epoch."""
        return self._plan.volumes

    @property
    def _left_seconds(self) -> float:
        return self.until - time.time()

    @property
    def _checksum_until(self) -> float:
        """A file that is still read cannot be unmounted."""
        ended_at = self._stages.get("script_ended", self._ends_at - NOTICE_SECONDS)
        return self.until - min(VOLUMES_SECONDS + SEAL_SECONDS, max(0.0, self.until - ended_at) / 2)

    @property
    def _name(self) -> str | None:
        """The checkpoint's, as a manifest has it."""
        if self._checkpoint is None:
            return self._instead
        return self._checkpoint.relative_to(self._attempt.folders.checkpoints).as_posix()

    def record(self) -> HandOff:
        """What has been done until now; the checksum is waited for while there is time."""
        checksum = self._published_sha256
        if checksum is None and self._checksum is not None:
            checksum = self._checksum.result(self._checksum_until - time.time())
        name = self._name
        if name == WHOLE_FOLDER and self._checkpoint is not None:
            name = self._checkpoint.name
        return HandOff(
            self._ends_at,
            dict(self._stages),
            name,
            checksum,
            self._step,
            tuple(self._left),
            self.is_rehearsal,
            self.moves,
        )

    def reached(self, stage: str) -> None:
        """The stage is done now."""
        self._stages[stage] = time.time()

    def leave(self, what: str) -> None:
        """Say what is not done, in the log too."""
        self._left.append(what)
        self._attempt.log.line(what)

    def verify(self, *, killed: bool) -> None:
        """The newest complete checkpoint is known. ``killed``: the script may have been writing."""
        # What cannot be checked counts when nobody writes to it any more, and nobody does.
        now = time.time() if killed else time.time() + 3600
        folder = self._attempt.folders.checkpoints

        def find() -> tuple[choosing.Choice, int | None, float]:
            choice = choosing.newest(folder, now, Checksums(lambda: time.time() < self._plan.seal))
            if choice.chosen is None:
                return choice, None, 0.0
            files = files_of(choice.chosen) if choice.chosen.is_dir() else [choice.chosen]
            return choice, choosing.step_of(choice.chosen), max(file.stat().st_mtime for file in files)

        found = Background(find).result(self._plan.seal - time.time())
        if found is None:
            self.leave("the newest checkpoint could not be checked in time: the next attempt checks it")
            return
        choice, self._step, saved_at = found
        for line in choosing.described(choice, folder):
            self._attempt.log.line("checkpoint " + line)
        path = choice.chosen
        if path is None:
            self.leave("there is no complete checkpoint: the next attempt starts from the beginning")
            return
        self._checkpoint = path
        self.reached("verified")
        heard_at = self._stages.get("heard", saved_at)
        if saved_at < heard_at - 1:
            self.leave(
                f"the script saved nothing after the notice: its newest checkpoint is {heard_at - saved_at:.0f} s older"
            )

    def published(self, name: str, sha256: str) -> None:
        """The checkpoint of this name is in the store, which has its checksum."""
        if name == self._name:
            self._published_sha256 = sha256
        self.reached("published")

    def goes_with_the_machine(self, published: str | None, step: int | None, sha256: str) -> None:
        """The newest checkpoint is on this machine alone: what is handed over is what the store has, if anything."""
        if not self.is_rehearsal:
            self._checkpoint = None
            self._instead, self._step, self._published_sha256 = published, step, sha256 or None

    def compute_checksum(self) -> None:
        """Where nobody who publishes it has: the checkpoint is read once more, while there is time."""
        path = self._checkpoint
        if path is not None and self._published_sha256 is None:
            self._checksum = Background(lambda: checksum_of(path, self._checksum_until))

    def release_volumes(self) -> None:
        """What was written is on the run's volumes; they are unmounted and, if the machine may, detached."""
        volumes = {m.volume_id: m for m in self._attempt.spec.mounts if m.volume_id is not None}
        if not volumes:
            return
        # From here on nothing is written to the log: its length and checksum are known.
        sources = [on_machine(mount.source) for mount in volumes.values()]
        if Background(lambda: flush(sources)).result(self._left_seconds) is not True:
            self._left.append("what was written to the volumes could not be flushed in time")
            return
        self.reached("flushed")
        if self.is_rehearsal:
            return
        own_namespace = bool(mountns.to_bind(self._attempt.spec)) and folder_root() is None
        if own_namespace:
            Background(lambda: leave_volumes(volumes.values())).result(self._left_seconds)
        self._attempt.update(let_go=True)
        unmounted = [volume for volume in sorted(volumes) if self._unmounted(volume, own_namespace)]
        if len(unmounted) == len(volumes):
            self.reached("unmounted")
        self._detach(unmounted)

    def _unmounted(self, volume: str, own_namespace: bool) -> bool:
        """Runs beside this one may still save to it: they are waited for."""
        why = "no time was left"
        while time.time() < self.until - PATIENCE_SECONDS:
            done = Background(lambda: unmount(volume, own_namespace=own_namespace)).result(self._left_seconds)
            if done is None:
                why = "it took too long"
                break
            if done.ok:
                return True
            why = done.why
            if not done.may_change:
                break
            time.sleep(PATIENCE_SECONDS)
        self._left.append(f"volume {volume} is still mounted: {why}")
        return False

    def _detach(self, volumes: Sequence[str]) -> None:
        results = [self._detached(volume) for volume in volumes]
        if results and all(results):
            self.reached("detached")

    def _detached(self, volume: str) -> bool:
        done = Background(lambda: detach_by_api(volume)).result(self._left_seconds)
        if done is not None and done.ok:
            return True
        why = done.why if done is not None else "it took too long"
        self._left.append(f"volume {volume} is unmounted, and stays attached until the machine ends: {why}")
        return False


@dataclass(frozen=True)
class Done:
    """How something went that may fail."""

    why: str = ""
    """Why it failed; empty if it did not."""
    may_change: bool = False
    """It may succeed a moment later."""

    @property
    def ok(self) -> bool:
        """It is done."""
        return not self.why


class Background(Generic[T]):
    """A function that runs in a thread of its own: a disk may hang for ever."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._found: list[T] = []
        self._function = function
        self._thread = threading.Thread(target=self._call, name="hand-off", daemon=True)
        self._thread.start()

    def result(self, seconds: float) -> T | None:
        """What it returns; ``None`` when it has not returned in this time, or failed."""
        self._thread.join(max(0.0, seconds))
        return self._found[0] if self._found else None

    def _call(self) -> None:
        with contextlib.suppress(OSError, ValueError, AgentError):
            self._found.append(self._function())


def checksum_of(path: Path, until: float) -> str | None:
    """SHA-256 of a file, or of a folder's list of files as ``sha256sum`` writes it, sorted by name; ``None`` where that
    takes longer than ``until``. Raises `OSError`."""
    if path.is_file():
        return _sha256(path, until)
    lines = []
    for name, file in sorted((file.relative_to(path).as_posix(), file) for file in files_of(path)):
        digest = _sha256(file, until)
        if digest is None:
            return None
        lines.append(f"{digest}  {name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sha256(path: Path, until: float) -> str | None:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(BLOCK):
            if time.time() >= until:
                return None
            digest.update(data)
    return digest.hexdigest()


def flush(folders: Iterable[Path]) -> bool:
    """What was written to their file systems is on the disks. Raises `OSError`."""
    for folder in folders:
        if LINUX:
            subprocess.run(["sync", "-f", str(folder)], capture_output=True, check=False)
        else:
            os.sync()
    return True


def leave_volumes(volumes: Iterable[MountSpec]) -> None:
    """Where this process sees the machine's mounts in a namespace of its own, these are not mounted there any more."""
    wanted = set()
    for mount in volumes:
        with contextlib.suppress(OSError):
            wanted.add(on_machine(mount.source).stat().st_dev)
    wanted.discard(Path("/").stat().st_dev)
    for entry in reversed(mount_table.own_mounts()):
        major, minor = map(int, entry.device_number.split(":"))
        if os.makedev(major, minor) in wanted:
            subprocess.run(as_root(["umount", entry.mount_point]), capture_output=True, check=False)


def unmount(volume: str, *, own_namespace: bool) -> Done:
    """The volume is mounted nowhere on the machine; ``own_namespace``: this process sees other mounts than it has."""
    try:
        if own_namespace:
            call_as_root("detach", {"volume_id": volume}, through=MACHINES_NAMESPACE)
        else:
            detach({"volume_id": volume})
    except AgentError as error:
        return Done(error.message, error.code == "disk-busy")
    return Done()


def detach_by_api(volume: str) -> Done:
    """EC2 takes the volume from this machine, if the machine's role may ask for that."""
    from runctl.agent.cloud.ec2 import this_machine

    try:
        this_machine().detach_volume(volume)
    except AgentError as error:
        return Done(error.message)
    return Done()
