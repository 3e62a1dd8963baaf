"""The process that publishes beside a training (``publish``), and the one that fetches before it (``restore``).

Of a run on several machines rank 0 publishes checkpoints, and each its own log and end.

Commands come as JSON lines on stdin, answers go to stdout. What is known is written into the attempt's folder, for
``status``. Nothing that goes wrong here reaches the training.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from runctl.agent.attempt.log import Log
from runctl.agent.checkpoint_spec import CheckpointStatus, StoreSpec
from runctl.agent.checkpoints import choosing, layout
from runctl.agent.checkpoints.publisher import Published, Publisher
from runctl.agent.checkpoints.restoring import restore
from runctl.agent.checkpoints.stores import Store, is_prefix, open_prefix, open_store
from runctl.agent.disks.run_folders import run_folders
from runctl.agent.encoding import dumps, from_json
from runctl.agent.errors import AgentError, counted
from runctl.agent.machine import durable
from runctl.agent.records import AttemptFolder, attempt_folder
from runctl.agent.spec import EndRecord, RunSpec, without_values
from runctl.agent.stored_run import SPEC, status_key
from runctl.agent.supervising.log_copy import StoredLog, copy
from runctl.agent.supervising.status import observe

POLL_SECONDS = 1.0
BUSY_SHARE = 100
"""Looking for new checkpoints takes one part in so many of a core at most."""
LOG_SECONDS = 15.0
"""What of the log may be missing in the store when the machine is gone without a word."""
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0
"""Seconds between two tries at a store that fails."""
FETCHED = "resume"
"""In the run's folder: what another run has saved, fetched from its store."""


def publish(arguments: list[str]) -> int:
    """Publish the checkpoints and the log of ``RUN_ID ATTEMPT`` until stdin ends."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
        # A machine that goes down tells everybody; the supervisor says when the end is.
        signal.signal(number, signal.SIG_IGN)
    folder, spec = _asked_for(arguments)
    if spec.store is None:
        raise AgentError("no-such-run", f"{spec.run_id} has no store")
    _Process(folder, spec, spec.store).run()
    return 0


def fetch(arguments: list[str]) -> int:
    """Bring the newest checkpoint of ``RUN_ID ATTEMPT``, or the one with that ``NAME``, onto this machine; 1 where that
    fails, with why in the log."""
    folder, spec = _asked_for(arguments[:2])
    name = arguments[2] if len(arguments) > 2 else None
    log = Log(folder.log)
    own = run_folders(spec, folder).checkpoints
    address, target = "", own
    try:
        if spec.store is not None:
            address = f"{spec.store.url}/{spec.run_id}"
            _fetch(open_store(spec.store, spec.run_id, os.environ, tries=6), own, address, log, name)
        if (
            choosing.newest(own).chosen is None
            and spec.resume_from is not None
            and is_prefix(spec.resume_from)
        ):
            address, target = spec.resume_from, folder.path.parent / FETCHED
            store = open_prefix(address, spec.store, os.environ, tries=6)
            _fetch(store, target, address, log)
            if choosing.newest(target).chosen is None:
                raise AgentError("no-checkpoint", "there is none")  # noqa: TRY301 (told like those found there)
    except (AgentError, OSError) as error:
        log.line(f"the newest checkpoint cannot be fetched from {address}: {_message(error)}")
        return 1
    return 0


def _fetch(store: Store, target: Path, address: str, log: Log, name: str | None = None) -> None:
    try:
        restored = restore(store, target, log.line, name=name)
    finally:
        store.close()
    if restored is not None:
        manifest = restored.manifest
        log.line(
            f"fetched {manifest.name} of attempt {manifest.attempt} from {address}:"
            f" {counted(len(manifest.files), 'file')}, {manifest.size:,} bytes in {restored.seconds:.1f} s,"
            " checksums compared"
        )


def _asked_for(arguments: list[str]) -> tuple[AttemptFolder, RunSpec]:
    run_id, number = arguments
    folder = attempt_folder(run_id, int(number))
    spec = folder.spec()
    if spec is None:
        raise AgentError("no-such-run", f"there is no run in {folder.path}")
    return folder, spec


class _Process:
    def __init__(self, folder: AttemptFolder, spec: RunSpec, store_spec: StoreSpec) -> None:
        self._folder, self._spec, self._url = folder, spec, store_spec.url
        self._checkpoints = run_folders(spec, folder).checkpoints
        self._log = Log(folder.log)
        self._store: Store = open_store(store_spec, spec.run_id, os.environ)
        self._stored_log = StoredLog(
            self._store, spec.attempt, spec.node.rank if spec.node is not None else 0
        )
        self._publisher = Publisher(
            self._store,
            self._checkpoints,
            spec.run_id,
            spec.attempt,
            keep_last=store_spec.keep_last,
            keep_best=store_spec.keep_best,
            say=self._log.line,
            hurry=lambda: bool(select.select([sys.stdin], [], [], 0)[0]),
        )
        self._written: CheckpointStatus | None = None
        self._told: object = None
        self._trouble = ""
        self._pause, self._next_try = FIRST_PAUSE, 0.0
        self._next_log = time.monotonic() + LOG_SECONDS

    def run(self) -> None:
        wait = POLL_SECONDS
        while True:
            ready, _, _ = select.select([sys.stdin], [], [], wait)
            if ready:
                line = sys.stdin.readline()
                if not line:
                    break
                self._command(json.loads(line))
                continue
            began = time.process_time()
            self._tick()
            spent = time.process_time() - began
            wait = max(POLL_SECONDS, min(BUSY_SHARE * spent, 30.0))
        self._store.close()

    def _command(self, command: dict[str, Any]) -> None:
        if "finish" in command:
            answer = self._finish(float(command["finish"]))
        else:
            end = from_json(EndRecord, command["seal"])
            sealed = self._seal(end, float(command["until"]), is_over=bool(command["is_over"]))
            answer = {"sealed": sealed}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    def _tick(self) -> None:
        if time.monotonic() < self._next_try:
            return
        try:
            began = time.monotonic()
            if self._spec.saves_for_all and self._publisher.publish_new(time.time()):
                self._note_seconds(time.monotonic() - began)
            if time.monotonic() >= self._next_log:
                self._copy_log()
                self._tell_status()
                self._next_log = time.monotonic() + LOG_SECONDS
        except (AgentError, OSError) as error:
            if getattr(error, "code", "") != "changed":
                self._failed(_message(error))
        else:
            self._works()
        if self._spec.saves_for_all:
            self._write_status(self._publisher.published)

    def _failed(self, why: str) -> None:
        if not self._trouble:
            self._log.line(
                f"warning: {self._what()} not published to {self._url}: {why}; the training goes on"
            )
        self._trouble = why
        self._next_try = time.monotonic() + self._pause
        self._pause = min(LONGEST_PAUSE, self._pause * 2)

    def _what(self) -> str:
        return "checkpoints are" if self._spec.saves_for_all else "the log is"

    def _works(self) -> None:
        if self._trouble:
            self._log.line(f"{self._what()} published to {self._url} again")
        self._trouble, self._pause = "", FIRST_PAUSE

    def _finish(self, until: float) -> dict[str, Any]:
        if not self._spec.saves_for_all:
            return {"left": []}
        pause = FIRST_PAUSE / 2
        while True:
            published = self._publisher.finish(until)
            self._write_status(published)
            if not published.left or time.time() + pause >= until:
                break
            if self._trouble != published.left[0].why:
                self._trouble = published.left[0].why
                self._log.line(f"the last checkpoint is not published yet: {self._trouble}")
            time.sleep(pause)
            pause = min(pause * 2, 10.0)
        manifest = published.manifest
        return {
            "name": manifest.name if manifest is not None else None,
            "step": manifest.step if manifest is not None else None,
            "sha256": checksum_of(manifest) if manifest is not None else "",
            "left": [{"name": left.name, "size": left.size, "why": left.why} for left in published.left],
        }

    def _seal(self, end: EndRecord, until: float, *, is_over: bool) -> bool:
        pause = FIRST_PAUSE / 4
        while True:
            try:
                if self._copy_log() == end.log_bytes:
                    self._tell_status()
                    self._stored_log.seal(end)
                    if is_over and self._spec.saves_for_all:
                        self._forget_values()
                    return True
            except (AgentError, OSError) as error:
                sys.stderr.write(f"the log is not in the store: {_message(error)}\n")
            if time.time() + pause >= until:
                return False
            time.sleep(pause)
            pause = min(pause * 2, 10.0)

    def _copy_log(self) -> int:
        return copy(self._log.fd, self._stored_log)

    def _forget_values(self) -> None:
        """What is secret in the spec, which whoever started the run has put into the store, is not there any more."""
        bare = without_values(self._spec)
        with contextlib.suppress(AgentError):
            if bare != self._spec and SPEC in self._store.keys(SPEC):
                self._store.put(SPEC, dumps(bare).encode())

    def _tell_status(self) -> None:
        """Whoever reads the store knows how far the attempt is, and which image it has got."""
        if not self._spec.saves_for_all:
            return
        status = observe(self._folder)
        newest = status.checkpoint.path if status.checkpoint is not None else ""
        known = (status.state, status.started_at, status.image_digest, status.resumed, newest)
        if known != self._told:
            self._store.put(status_key(self._spec.attempt), dumps(status).encode())
            self._told = known

    def _note_seconds(self, seconds: float) -> None:
        with contextlib.suppress(OSError):
            durable.write_json(self._folder.path / "publishing.json", {"seconds": round(seconds, 3)})

    def _write_status(self, published: Published) -> None:
        status = status_of(published, self._checkpoints, self._trouble or published.trouble)
        if status is not None and status != self._written:
            with contextlib.suppress(OSError):
                self._folder.write_checkpoint(status)
                self._written = status


def status_of(published: Published, folder: Path, trouble: str) -> CheckpointStatus | None:
    """What is said of the newest checkpoint that is in the store; ``None`` without one and without trouble. Pure."""
    manifest = published.manifest
    if manifest is None:
        return CheckpointStatus("", 0.0, trouble=trouble) if trouble else None
    at = published.published_at if published.published_at is not None else manifest.created_at
    return CheckpointStatus(
        str(folder / manifest.name), manifest.created_at, manifest.step, at, checksum_of(manifest), trouble
    )


def checksum_of(manifest: layout.Manifest) -> str:
    """SHA-256 of the file; of a folder, that of its files' list as ``sha256sum`` writes it, sorted by name. Pure."""
    alone = next((file.sha256 for file in manifest.files if file.path == manifest.name), None)
    if alone is not None:
        return alone
    above = 0 if manifest.name == layout.WHOLE_FOLDER else len(manifest.name) + 1
    inside = sorted((file.path[above:], file.sha256) for file in manifest.files)
    return hashlib.sha256("".join(f"{sha256}  {name}\n" for name, sha256 in inside).encode()).hexdigest()


def _message(error: BaseException) -> str:
    return getattr(error, "message", "") or getattr(error, "strerror", "") or str(error)
