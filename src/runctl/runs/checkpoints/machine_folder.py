"""A folder of a machine that has checkpoints, this computer among the machines; its agent judges and reads them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from runctl.checkpoints.arriving import ARRIVING
from runctl.checkpoints.interface import CheckpointLocation, Identity, Transferred
from runctl.checkpoints.pruning import went_on_from
from runctl.core.errors import Conflict, MachineError, NotFound
from runctl.core.progress import SILENT, Progress
from runctl.core.run_models import Checkpoint, CheckpointFile, CheckpointState
from runctl.storage.copying import copy_files
from runctl.transport.agent import AgentClient
from runctl.transport.answers import count, mapping, sequence
from runctl.transport.files import Entry, MachineFiles


class MachineFolder(CheckpointLocation):
    """A folder of checkpoints, or one checkpoint, at a path of a machine."""

    def __init__(
        self,
        agent: AgentClient,
        path: str,
        label: str,
        here: AgentClient,
        *,
        is_shared: bool = False,
        is_here: bool = False,
        provider: str | None = None,
    ) -> None:
        """``here`` is the agent of this computer, where what is fetched goes; with ``is_here`` the folder is there.

        ``provider`` is whose machine it is.
        """
        self._agent, self._path, self._here = agent, path, here
        self._base = path
        """What names count from; the agent says it."""
        self.label, self.is_shared, self.is_here, self.provider = label, is_shared, is_here, provider

    @property
    def folder(self) -> Path:
        """What paths of files count from, once the agent was asked. Of this computer's folders only."""
        return Path(self._base)

    def checkpoints(self, progress: Progress = SILENT) -> tuple[Checkpoint, ...]:
        """See `CheckpointLocation.checkpoints`. Raises `NotFound` (code ``no-such-file``)."""
        progress.step(f"looking at {self.label}")
        return self._ask()

    def verify(
        self, checkpoints: Sequence[Checkpoint], progress: Progress = SILENT
    ) -> tuple[Checkpoint, ...]:
        """See `CheckpointLocation.verify`: the machine reads them."""
        verified: list[Checkpoint] = []
        for done, checkpoint in enumerate(checkpoints):
            progress.step(f"reading {checkpoint.name}")
            progress.update(done=done, total=len(checkpoints))
            verified += self._read(checkpoint)
        return tuple(verified)

    def described(self, checkpoint: Checkpoint, progress: Progress = SILENT) -> Checkpoint:
        """See `CheckpointLocation.described`."""
        return self.verify([checkpoint], progress)[0]

    def in_use(self, checkpoints: Sequence[Checkpoint]) -> Collection[Identity]:
        """See `CheckpointLocation.in_use`: by the attempts that run on the machine."""
        found = set()
        for status in self._agent.attempts(running=True):
            folder = PurePosixPath(status.checkpoint_dir) if status.checkpoint_dir else None
            base = PurePosixPath(self._base)
            if folder is None or not (base == folder or base in folder.parents or folder in base.parents):
                continue
            started = status.started_at or status.created_at or 0.0
            taken = went_on_from(checkpoints, datetime.fromtimestamp(started, UTC))
            if taken is not None:
                found.add(taken)
        return found

    def fetch(self, checkpoint: Checkpoint, folder: Path, progress: Progress = SILENT) -> Transferred:
        """See `CheckpointLocation.fetch`."""
        progress.step(f"reading {checkpoint.name}")
        entries = self._entries(checkpoint)
        progress.step(f"fetching {checkpoint.name}")
        target = MachineFiles(self._here)
        done = copy_files(
            MachineFiles(self._agent), self._base, target, str(folder), entries, progress=progress
        )
        target.finish(str(folder), (), ())
        return Transferred(*done)

    def accept(self, checkpoint: Checkpoint, folder: Path, progress: Progress = SILENT) -> Transferred:
        """See `CheckpointLocation.accept`."""
        path = PurePosixPath(self._path)
        for status in self._agent.attempts(running=True):
            if status.checkpoint_dir and PurePosixPath(status.checkpoint_dir) == path:
                raise Conflict(
                    f"{status.run_id} is running, and saves its own checkpoints to {self.label}",
                    hint=f"runctl runs stop {status.run_id}",
                    code="run-goes-on",
                )
        entries = [
            Entry(file.path, "f", 0o644, file.size_bytes, 0, file.sha256 or "") for file in checkpoint.files
        ]
        target = MachineFiles(self._agent)
        arriving = str(path / ARRIVING)
        done = copy_files(MachineFiles(self._here), str(folder), target, arriving, entries, progress=progress)
        request = {"path": self._path, "arriving": ARRIVING, "name": checkpoint.name}
        self._agent.call("checkpoints-place", request)
        return Transferred(*done)

    def remove(self, checkpoints: Sequence[Checkpoint], progress: Progress = SILENT) -> None:
        """See `CheckpointLocation.remove`. Notes beside a file stay: they belong to its neighbours, too."""
        progress.step(f"removing from {self.label}")
        kept = {file.path for each in self._ask() if each not in checkpoints for file in each.files}
        gone = [
            {"name": each.name, "files": [file.path for file in each.files if file.path not in kept]}
            for each in checkpoints
        ]
        self._agent.call("checkpoints-remove", {"path": self._base, "checkpoints": gone})

    def _read(self, checkpoint: Checkpoint) -> list[Checkpoint]:
        """The checkpoint after every byte was read. Raises `NotFound` when it is gone."""
        found = self._ask(names=[checkpoint.name], read=True)
        if not found:
            raise NotFound(f"{checkpoint.name} is not at {self.label} any more", code="no-checkpoint")
        return list(found)

    def _entries(self, checkpoint: Checkpoint) -> list[Entry]:
        request = {"path": self._path, "names": [checkpoint.name], "read": True}
        for each in sequence(self._agent.call("checkpoints", request), "checkpoints"):
            if each.get("why_not"):
                raise broken(checkpoint.name, str(each["why_not"]))
            return [_entry(row) for row in sequence(each, "files")]
        raise NotFound(f"{checkpoint.name} is not at {self.label} any more", code="no-checkpoint")

    def _ask(self, names: Sequence[str] = (), *, read: bool = False) -> tuple[Checkpoint, ...]:
        request = {"path": self._path, "names": list(names), "read": read}
        answer = mapping(self._agent.call("checkpoints", request))
        if answer.get("kind") == "missing":
            raise NotFound(f"there is no {self.label}", hint="check the path", code="no-such-file")
        self._base = str(answer.get("path"))
        return tuple(self._checkpoint(each) for each in sequence(answer, "checkpoints"))

    def _checkpoint(self, answer: Mapping[str, Any]) -> Checkpoint:
        name, saved_at, step = answer.get("name"), answer.get("saved_at"), answer.get("step")
        if not isinstance(name, str) or not isinstance(saved_at, float | int):
            raise MachineError(f"the agent answered {answer!r:.100} and not a checkpoint", code="bad-answer")
        entries = [_entry(row) for row in sequence(answer, "files")]
        why_not = str(answer.get("why_not") or "")
        # Of many formats nothing says what the bytes must be: that they were read does not prove them.
        state = CheckpointState.VERIFIED if answer.get("compared") else CheckpointState.COMPLETE
        return Checkpoint(
            name=name,
            step=None if step is None else count(answer, "step"),
            state=CheckpointState.BROKEN if why_not else state,
            problem=why_not,
            saved_at=datetime.fromtimestamp(saved_at, UTC),
            size_bytes=sum(entry.size for entry in entries),
            where=self.label,
            files=tuple(CheckpointFile(entry.path, entry.size, entry.text or None) for entry in entries),
        )


def broken(name: str, why: str) -> Conflict:
    """The error for a checkpoint that is not copied because it is broken."""
    return Conflict(
        f"{name} is not complete: {why}",
        hint="runctl checkpoint list shows those that are complete; --name takes one of them",
        code="broken-checkpoint",
    )


def _entry(row: Any) -> Entry:
    """Raises `MachineError` for what is not a file of a checkpoint, and for a path that leads out of its folder."""
    wrong = MachineError(f"the agent answered {row!r:.100} and not a file", code="bad-answer")
    if not isinstance(row, list) or len(row) != 5:
        raise wrong
    path, size, mode, mtime_ns, checksum = row
    if not isinstance(path, str) or not isinstance(checksum, str):
        raise wrong
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise wrong
    numbers = {"size": size, "mode": mode, "mtime": mtime_ns}
    checked = {name: count(numbers, name) for name in numbers}
    return Entry(path, "f", checked["mode"] & 0o777, checked["size"], checked["mtime"], checksum)
