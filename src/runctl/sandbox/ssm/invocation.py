"""One command of Run Command on one machine: delivered, run, timed, stopped, as the SSM agent does it.

The details (``sh -c`` on a script file, HOME unset, the command over when its output is closed, 137 read as a
timeout, the line that a failure adds to stderr) are those of github.com/aws/amazon-ssm-agent.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Protocol

STDOUT_BYTES = 24000
STDERR_BYTES = 8000
LIST_OUTPUT_BYTES = 2500
STOPPED_EXIT_CODE = 137
"""What the agent takes for a command that it has stopped, whoever did."""
CHUNK = 1 << 16
FINAL = frozenset({"Success", "Failed", "TimedOut", "Cancelled", "Undeliverable"})

_POLL_SECONDS = 0.05
_DEATH_SECONDS = 1.0
"""Within which a machine that takes its processes with it is seen to be down."""
_SHUTDOWN_SECONDS = 4.0
"""The same after SIGTERM, with which an orderly shutdown begins."""
_SCRIPT = 'umask 077 && mkdir -p "$1" && cat > "$1/_script.sh" && chmod 700 "$1/_script.sh"'
_START = 'cd -- "$1" || exit 1; exec sh -c "$2"'


class AnyMachine(Protocol):
    """The machine, of either kind."""

    @property
    def is_up(self) -> bool:
        """Whether it runs."""

    def popen(
        self,
        argv: Sequence[str],
        /,
        *,
        env: Mapping[str, str] | None = ...,
        stdin: int | IO[bytes] = ...,
        stdout: int | IO[bytes] = ...,
        stderr: int | IO[bytes] = ...,
    ) -> subprocess.Popen[bytes]:
        """Start a program in it as root. Raises `ProcessLookupError` when it is not up."""


class Gone(Exception):
    """The machine is gone for good."""


@dataclass(frozen=True)
class Order:
    """A command and its machine."""

    command_id: str
    instance_id: str
    region: str
    commands: tuple[str, ...]
    working_directory: str
    execution_seconds: float
    delivery_seconds: float


@dataclass(frozen=True)
class Progress:
    """Its state at one moment."""

    status: str
    details: str
    code: int
    started: datetime | None
    ended: datetime | None
    stdout: bytes
    """Empty until the end, and no longer than AWS hands out."""
    stderr: bytes


@dataclass
class Invocation:
    """Runs in a thread of its own, `run`; everything else may be called from any thread."""

    order: Order
    find: Callable[[], AnyMachine | None]
    """The machine, ``None`` while it cannot be reached. Raises `Gone`."""
    slots: threading.Semaphore
    """The agent works on so many commands at once."""
    keep: Callable[[str, IO[bytes]], None]
    """Called with ``stdout`` or ``stderr`` and all of it, when there is any, before the command counts as over."""
    sent: float = field(default_factory=time.monotonic)
    _progress: Progress = field(
        default_factory=lambda: Progress("Pending", "Pending", -1, None, None, b"", b"")
    )
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _lost: bool = False

    def progress(self) -> Progress:
        """Its state now."""
        with self._lock:
            late = time.monotonic() > self.sent + self.order.delivery_seconds + self.order.execution_seconds
            if self._lost and late and self._progress.status not in FINAL:
                self._finish_locked("TimedOut", "ExecutionTimedOut", -1)
            return self._progress

    def cancel(self) -> None:
        """Cancel it before it starts, or kill its process group."""
        with self._lock:
            self._cancelled.set()
            if self._lost and self._progress.status not in FINAL:
                self._finish_locked("Cancelled", "Cancelled", STOPPED_EXIT_CODE)

    def run(self) -> None:
        """Deliver, run, finish."""
        deadline = self.sent + self.order.delivery_seconds
        while not self.slots.acquire(timeout=_POLL_SECONDS):
            if self._ended_undelivered(deadline):
                return
        try:
            while not self._ended_undelivered(deadline):
                try:
                    machine = self.find()
                    if machine is not None:
                        self._execute(machine)
                        return
                except Gone:
                    self._finish("Undeliverable", "Undeliverable", -1)
                    return
                except ProcessLookupError:
                    # It went down while it was looked at; the delivery goes on until its time is over.
                    pass
                time.sleep(_POLL_SECONDS)
        finally:
            self.slots.release()

    def _ended_undelivered(self, deadline: float) -> bool:
        if self._cancelled.is_set():
            self._finish("Cancelled", "Cancelled", -1)
        elif time.monotonic() > deadline:
            self._finish("TimedOut", "DeliveryTimedOut", -1)
        else:
            return False
        return True

    def _execute(self, machine: AnyMachine) -> None:
        folder = (
            f"/var/lib/amazon/ssm/{self.order.instance_id}/document/orchestration/{self.order.command_id}"
            "/awsrunShellScript/0.awsrunShellScript"
        )
        script = "\n".join(self.order.commands) + "\n"
        path = _path_in(machine, folder)
        writer = machine.popen(
            ["sh", "-c", _SCRIPT, "sh", path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        with self._lock:
            self._progress = Progress("InProgress", "InProgress", -1, datetime.now(UTC), None, b"", b"")
        _, complaint = writer.communicate(script.encode("utf-8", "surrogateescape"))
        if writer.returncode != 0 and not self._lost_with(machine, writer.returncode):
            self._finish("Failed", "Failed", 1, b"", b"failed to create script file. " + complaint)
        elif writer.returncode == 0:
            self._run_script(machine, f"{path}/_script.sh")

    def _run_script(self, machine: AnyMachine, script: str) -> None:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = machine.popen(
                [
                    *("env", "-u", "HOME", "-u", "USER", "-u", "LOGNAME"),
                    *("sh", "-c", _START, "sh", self._start_folder(machine), shlex.quote(script)),
                ],
                env={
                    **_environment(machine),
                    "AWS_SSM_INSTANCE_ID": self.order.instance_id,
                    "AWS_SSM_REGION_NAME": self.order.region,
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            copiers = [_Copier(process.stdout, out), _Copier(process.stderr, err)]
            verdict = self._wait(process, copiers)
            for copier in copiers:
                copier.stop()
            code = process.wait()
            if verdict is None and self._lost_with(machine, code):
                return
            status, details, code, complaint = verdict or _verdict(code)
            if complaint:
                err.seek(0, os.SEEK_END)
                err.write(complaint)
            for name, file in (("stdout", out), ("stderr", err)):
                if file.seek(0, os.SEEK_END):
                    file.seek(0)
                    self.keep(name, file)
            out.seek(0)
            err.seek(0)
            self._finish(status, details, code, out.read(STDOUT_BYTES), err.read(STDERR_BYTES))

    def _wait(
        self, process: subprocess.Popen[bytes], copiers: list[_Copier]
    ) -> tuple[str, str, int, bytes] | None:
        """Until its process has ended and its output is closed; what was done to it if it was stopped."""
        deadline = time.monotonic() + self.order.execution_seconds
        pause = 0.002
        while process.poll() is None or not all(copier.done for copier in copiers):
            if self._cancelled.is_set():
                _kill(process)
                return "Cancelled", "Cancelled", STOPPED_EXIT_CODE, b""
            if time.monotonic() > deadline:
                _kill(process)
                return "TimedOut", "ExecutionTimedOut", STOPPED_EXIT_CODE, b""
            self._cancelled.wait(pause)
            pause = min(pause * 1.5, _POLL_SECONDS)
        return None

    def _start_folder(self, machine: AnyMachine) -> str:
        asked = self.order.working_directory
        if asked:
            return _path_in(machine, asked)
        # The agent's own folder; a machine that is a folder has no such place.
        default = _path_in(machine, "/usr/bin")
        return default if Path(default).is_dir() else _path_in(machine, "/")

    def _lost_with(self, machine: AnyMachine, code: int) -> bool:
        """Whether the process ended because its machine did: then nobody is left to report it."""
        killed_by = -code if code < 0 else code - 128
        patience = {9: _DEATH_SECONDS, 15: _SHUTDOWN_SECONDS}.get(killed_by, 0.0)
        limit = time.monotonic() + patience
        while machine.is_up and time.monotonic() < limit:
            time.sleep(_POLL_SECONDS)
        if machine.is_up or code == 0:
            return False
        with self._lock:
            self._lost = True
            if self._cancelled.is_set():
                self._finish_locked("Cancelled", "Cancelled", STOPPED_EXIT_CODE)
        return True

    def _finish(self, status: str, details: str, code: int, stdout: bytes = b"", stderr: bytes = b"") -> None:
        with self._lock:
            self._finish_locked(status, details, code, stdout, stderr)

    def _finish_locked(
        self, status: str, details: str, code: int, stdout: bytes = b"", stderr: bytes = b""
    ) -> None:
        if self._progress.status not in FINAL:
            self._progress = Progress(
                status,
                details,
                code,
                self._progress.started,
                datetime.now(UTC),
                stdout,
                stderr[:STDERR_BYTES],
            )


class _Copier:
    """Copies a pipe to a file until it is closed or `stop`."""

    def __init__(self, source: IO[bytes] | None, sink: IO[bytes]) -> None:
        assert source is not None  # noqa: S101 - a pipe was asked for
        self._source = source
        self._sink = sink
        self._lock = threading.Lock()
        self._stopped = False
        self.done = False
        threading.Thread(target=self._copy, daemon=True).start()

    def stop(self) -> None:
        """Nothing is written to the file any more; what a process that lives on writes is read and dropped."""
        with self._lock:
            self._stopped = True

    def _copy(self) -> None:
        with self._source as source:
            while data := os.read(source.fileno(), CHUNK):
                with self._lock:
                    if not self._stopped:
                        self._sink.write(data)
        self.done = True


def _verdict(code: int) -> tuple[str, str, int, bytes]:
    if code == 0:
        return "Success", "Success", 0, b""
    if code == STOPPED_EXIT_CODE:
        return "TimedOut", "ExecutionTimedOut", code, b""
    if code < 0:
        message = signal.strsignal(-code) or str(-code)
        return "Failed", "Failed", -1, f"failed to run commands: signal: {message.lower()}".encode()
    return "Failed", "Failed", code, f"failed to run commands: exit status {code}".encode()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _path_in(machine: AnyMachine, name: str) -> str:
    """Where the machine has the path: a folder machine has everything below its folder."""
    path = getattr(machine, "path", None)
    return str(path(name)) if path is not None else name


def _environment(machine: AnyMachine) -> Mapping[str, str]:
    """What makes the outside reachable from a sandbox machine, which AWS's machines need no variables for."""
    hardware = getattr(machine, "hardware", None)
    return dict(hardware.environment) if hardware is not None else {}
