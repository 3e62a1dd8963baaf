"""What the agent remembers: one folder per attempt, with what it was asked, what it is doing, how it ended."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from runctl._dataclasses import dataclass
from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.deadline_spec import ProgressStatus
from runctl.agent.encoding import from_json
from runctl.agent.end_reason import EndReason
from runctl.agent.errors import AgentError
from runctl.agent.interruption import Notice
from runctl.agent.machine import durable
from runctl.agent.machine.processes import Identity
from runctl.agent.machine.root import state_directory
from runctl.agent.spec import EndRecord, RunSpec, RunState, SavedFolder, without_values

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""Fits a folder name, a container name and a systemd unit."""

RESERVE_BYTES = 64 * 1024
"""Kept back in each attempt's folder, so that its end can be written on a full disk."""


@dataclass(frozen=True)
class Live:
    """What the supervisor writes down while it works."""

    state: RunState = RunState.PENDING
    phase: str = ""
    tree: Optional[str] = None
    """Digest of the project tree that the run was started with."""
    created_at: float = 0.0
    started_at: Optional[float] = None
    supervisor: Optional[Identity] = None
    script: Optional[Identity] = None
    container_id: Optional[str] = None
    image: Optional[str] = None
    image_digest: Optional[str] = None
    compose_project: Optional[str] = None
    """By whose label everything is found that was started beside the container."""
    follower: Optional[Identity] = None
    """Who copies the container's output into the log."""
    checkpoint_dir: Optional[str] = None
    output_dir: Optional[str] = None
    saved: Optional[SavedFolder] = None
    resumed: Optional[CheckpointStatus] = None
    """What it went on from; ``None``: from the beginning."""
    rebalance_at: Optional[float] = None
    """When the provider recommended to move, in seconds since the epoch."""
    machine_ends_at: Optional[float] = None
    """When the provider takes the machine back, in seconds since the epoch."""
    let_go: bool = False
    """It has saved everything, and uses no volume any more."""
    checkpoint_every: Optional[float] = None
    """Seconds between two requests for a checkpoint, as they are made now."""


@dataclass(frozen=True)
class StopRequest:
    """What `stop` leaves for the supervisor."""

    reason: EndReason = EndReason.STOPPED
    grace_seconds: float = 30.0
    requested_at: float = 0.0
    message: str = "stopped on request"
    notice: Optional[Notice] = None
    """Of the machine's end; ``None``: it stays."""
    caused_by: Optional[int] = None
    """The rank of another machine of the run for which this one ends."""
    for_restart: bool = False
    """The script alone ends, and begins again on the machines that are left."""

    @property
    def machine_ends_at(self) -> Optional[float]:
        """When the provider takes the machine back, in seconds since the epoch; ``None``: it stays."""
        return None if self.notice is None else self.notice.machine_ends_at


@dataclass(frozen=True)
class HeldLease:
    """A run's lease as the process that keeps it has written it down."""

    until: float
    """By when everything that needs it must have stopped, by `runctl.agent.lease.clock`; 0: it is lost."""
    seconds: float = 0.0
    """How long it is held after each renewal."""
    wanted_by: str = ""
    """Who asks for the run to be handed over."""
    trouble: str = ""
    """Why it was not renewed at the last try."""


@dataclass(frozen=True)
class AttemptFolder:
    """Everything about one attempt of one run."""

    path: Path

    @property
    def run_id(self) -> str:
        """The run that it is an attempt of."""
        return self.path.parent.name

    @property
    def attempt(self) -> int:
        """Counted from 1."""
        return int(self.path.name)

    @property
    def log(self) -> Path:
        """The script's output and our own lines, append-only."""
        return self.path / "log"

    @property
    def work(self) -> Path:
        """The run's own copy of the project."""
        return self.path / "work"

    @property
    def lock(self) -> Path:
        """Held by whoever writes an end on behalf of a dead supervisor."""
        return self.path / "lock"

    def spec(self) -> Optional[RunSpec]:
        """What it was asked to run; ``None`` while it is being made."""
        data = durable.read_json(self.path / "spec.json")
        return None if data is None else from_json(RunSpec, data)

    def live(self) -> Live:
        """What the supervisor wrote last."""
        return from_json(Live, durable.read_json(self.path / "status.json") or {})

    def end(self) -> Optional[EndRecord]:
        """How it ended; ``None`` as long as nobody can tell."""
        data = durable.read_json(self.path / "end.json")
        return None if data is None else from_json(EndRecord, data)

    def stop_request(self) -> Optional[StopRequest]:
        """What `stop` asked for."""
        data = durable.read_json(self.path / "stop.json")
        return None if data is None else from_json(StopRequest, data)

    def checkpoint(self) -> Optional[CheckpointStatus]:
        """The newest checkpoint, as it was found last."""
        data = durable.read_json(self.path / "checkpoint.json")
        return None if data is None else from_json(CheckpointStatus, data)

    def write_checkpoint(self, status: CheckpointStatus) -> None:
        """Replace what is known; it need not survive a power cut."""
        durable.write_json(self.path / "checkpoint.json", status)

    def progress(self) -> Optional[ProgressStatus]:
        """How far the script said last that it is."""
        data = durable.read_json(self.path / "progress.json")
        return None if data is None else from_json(ProgressStatus, data)

    def write_progress(self, status: ProgressStatus) -> None:
        """Replace what is known; it need not survive a power cut."""
        durable.write_json(self.path / "progress.json", status)

    def write_spec(self, spec: RunSpec) -> None:
        """Keep the request; it may hold secrets and is for its owner alone."""
        durable.write_json(self.path / "spec.json", spec)

    def write_live(self, live: Live) -> None:
        """Replace what is known; nothing depends on it surviving a full disk."""
        durable.write_json(self.path / "status.json", live)

    def write_stop(self, request: StopRequest) -> None:
        """Leave a word for the supervisor."""
        durable.write_json(self.path / "stop.json", request)

    def notice(self) -> Optional[Notice]:
        """The interruption that a user plays."""
        data = durable.read_json(self.path / "notice.json")
        return None if data is None else from_json(Notice, data)

    def write_notice(self, notice: Notice) -> None:
        """Leave it for the supervisor."""
        durable.write_json(self.path / "notice.json", notice)

    def write_end(self, end: EndRecord) -> None:
        """The end is on disk, and on a full disk too: it takes the reserve's place. The run's secrets are not."""
        try:
            durable.write_into(self.path / "reserve", end, self.path / "end.json")
        except FileNotFoundError:
            durable.write_json(self.path / "end.json", end)
        self.forget_secrets()

    def forget_secrets(self) -> None:
        """No value of a variable is left in this folder; the names stay, to tell what the run was asked for."""
        for name in ("environ.json", "compose-override.json", "compose.txt"):
            (self.path / name).unlink(missing_ok=True)
        spec = self.spec()
        bare = None if spec is None else without_values(spec)
        if bare is None or bare == spec:
            return
        try:
            durable.write_json(self.path / "spec.json", bare)
        except OSError:
            # A full disk: it becomes shorter where it is.
            durable.write_into(self.path / "spec.json", bare, self.path / "spec.json")

    def log_bytes(self) -> int:
        """Length of the log now."""
        try:
            return self.log.stat().st_size
        except FileNotFoundError:
            return 0

    def reserve(self) -> None:
        """Take the room that the end will need. Raises `OSError` on a full disk."""
        fd = os.open(self.path / "reserve", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, durable.PRIVATE)
        try:
            os.write(fd, b"\0" * RESERVE_BYTES)
            os.fsync(fd)
        finally:
            os.close(fd)


def taking_up_folder(run_id: str) -> Path:
    """What this machine keeps of its claim to the run. Raises `AgentError` (``bad-request``) for a bad name."""
    return _checked_folder(state_directory() / "taking-up", run_id)


def lease_file(run_id: str) -> Path:
    """Where the `HeldLease` is."""
    return taking_up_folder(run_id) / "lease.json"


def _checked_folder(above: Path, run_id: str) -> Path:
    if not RUN_ID.fullmatch(run_id):
        raise AgentError("bad-request", f"{run_id!r} is not a run id", "letters, digits, - and _, at most 64")
    return above / run_id


def attempt_folder(run_id: str, attempt: int) -> AttemptFolder:
    """Where this attempt is or would be. Raises `AgentError` (``bad-request``) for a name that is none."""
    run_folder = _checked_folder(state_directory() / "runs", run_id)
    if attempt < 1:
        raise AgentError("bad-request", f"attempts are counted from 1, not {attempt}")
    return AttemptFolder(run_folder / str(attempt))


def attempts(run_id: Optional[str] = None) -> list[AttemptFolder]:
    """Attempts on this machine, oldest first, of one run or of all."""
    runs = state_directory() / "runs"
    if run_id is not None and not RUN_ID.fullmatch(run_id):
        return []
    folders = [runs / run_id] if run_id is not None else sorted(p for p in runs.iterdir() if p.is_dir())
    found: list[AttemptFolder] = []
    for folder in folders:
        if folder.is_dir():
            numbers = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())
            found.extend(AttemptFolder(folder / str(number)) for number in numbers)
    kept = [folder for folder in found if (folder.path / "spec.json").exists()]
    return sorted(kept, key=lambda folder: (folder.live().created_at, folder.attempt))


def find(request: Mapping[str, Any]) -> AttemptFolder:
    """The attempt that a request is about, the newest of the run if it names none.

    Raises `AgentError` (``no-such-run``).
    """
    run_id = request.get("run_id")
    if not isinstance(run_id, str) or not run_id:
        raise AgentError("bad-request", "the request names no run_id")
    attempt = request.get("attempt")
    found = [folder for folder in attempts(run_id) if attempt is None or folder.attempt == int(attempt)]
    if not found:
        which = run_id if attempt is None else f"{run_id} (attempt {attempt})"
        raise AgentError("no-such-run", f"there is no run {which} on this machine")
    return max(found, key=lambda folder: folder.attempt)


def changed(live: Live, **values: Any) -> Live:
    """The same with these values."""
    return dataclasses.replace(live, **values)
