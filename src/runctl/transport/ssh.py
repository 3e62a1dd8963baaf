"""Commands and bytes over the system's OpenSSH."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shlex
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, ClassVar

from runctl._dataclasses import dataclass
from runctl.core.clock import SystemClock
from runctl.core.errors import (
    CredentialsError,
    InstanceEnded,
    MachineError,
    RunctlError,
    Unreachable,
)
from runctl.core.text import time_span
from runctl.core.waiting import Backoff
from runctl.transport.commands import (
    PUT,
    interactive,
    relative,
    sized,
    sudo,
    tail,
)
from runctl.transport.executing import Executing
from runctl.transport.framing import WRAPPER, Framed, Part, mark_of
from runctl.transport.interface import CommandTimeout, PortForward
from runctl.transport.known_hosts import KnownHosts
from runctl.transport.pump import Outcome, pump
from runctl.transport.silence import Silence, StillThere, nothing_known
from runctl.transport.ssh_connection import (
    SshConnections,
    SshTarget,
    private_directory,
    read_log,
)
from runctl.transport.ssh_failure import SshHints, session_refused

_SLOTS = 6
"""Connections to one machine at the same time; each takes sshd's MaxSessions (10) commands."""
_QUEUE_SECONDS = 30.0
_KILL_SECONDS = 15.0

_KILLER = """\
read -r line <"/proc/$1/stat" || exit 0
line=${line##*) }
set -- $line
wanted=$4
for number in TERM KILL; do
    tries=0
    while [ "$tries" -lt 20 ]; do
        found=
        for stat in /proc/[0-9]*/stat; do
            read -r line 2>/dev/null <"$stat" || continue
            pid=${line%% *}
            line=${line##*) }
            set -- $line
            [ "$4" = "$wanted" ] && [ "$1" != Z ] || continue
            found=yes
            if [ "$tries" -eq 0 ]; then kill -s "$number" "$pid"; fi
        done
        [ -n "$found" ] || exit 0
        tries=$((tries + 1))
        sleep 0.1
    done
done
"""
"""Ends every process of the session that the wrapper (its id is ``$1``) leads or belongs to: sshd gives each
command a session of its own. SIGTERM, two seconds, SIGKILL."""


@dataclass
class _Call:
    """One attempt at a command: what came back besides the program's own bytes."""

    out: Framed
    err: Framed

    def has_begun(self) -> bool:
        return self.err.part is not Part.BEFORE or self.out.part is not Part.BEFORE

    @property
    def ended(self) -> bool:
        return self.out.part is Part.AFTER and self.err.part is Part.AFTER


class SshTransport(Executing):
    """OpenSSH with a shared connection (see `SshConnections`). The login shell is a POSIX one."""

    name: ClassVar[str] = "ssh"
    streams: ClassVar[bool] = True

    def __init__(
        self,
        target: SshTarget,
        *,
        runtime_dir: Path,
        known_hosts: Path,
        identity: Path | None = None,
        host_keys: Callable[[], Sequence[str]] | None = None,
        authorize: Callable[[str], None] | None = None,
        connect_timeout: timedelta = timedelta(seconds=10),
        still_there: StillThere = nothing_known,
        strict_host_key: bool = False,
        on_first_key: Callable[[str], None] = lambda _: None,
        hints: SshHints | None = None,
    ) -> None:
        """Nothing happens until the first command.

        ``identity`` is a private key file; with ``authorize``, one of our own (see `one_time_key`), and
        ``authorize`` is called with its public half just before every new connection, so that whoever gives the
        machine lets it in for a moment. ``host_keys`` says what the machine's host keys are, from a source that can be
        trusted (its console output). Without it the first key that answers is recorded, ``on_first_key`` is told its
        fingerprint, and from then on no other is accepted; with ``strict_host_key`` that is `HostKeyUnknown`.
        ``still_there`` raises `InstanceEnded` when the provider says that the machine has ended; it is asked when the
        machine is silent or cannot be reached. ``hints`` are what its errors advise.
        """
        self.target = target
        self._still_there = still_there
        self._connections = SshConnections(
            target=target,
            runtime_dir=runtime_dir,
            known_hosts=KnownHosts(known_hosts),
            identity=identity,
            host_keys=host_keys,
            authorize=authorize,
            connect_timeout=connect_timeout,
            strict_host_key=strict_host_key,
            on_first_key=on_first_key,
            hints=hints or SshHints(),
        )
        self._slot = 0
        self._lock = threading.Lock()

    def put(self, data: bytes | BinaryIO, target: PurePosixPath, *, mode: int = 0o644) -> None:
        """``target`` holds exactly these bytes; written beside it and renamed, parents made."""
        with sized(data) as (source, size):
            err = bytearray()
            code = self.stream(
                ["sh", "-c", PUT, "sh", relative(target), str(size), f"{mode:o}"],
                stdin=source,
                on_stdout=_ignore,
                on_stderr=err.extend,
            )
        if code != 0:
            raise MachineError(f"cannot write {target} on {self.target}: {tail(err)}")

    def terminal(self, argv: Sequence[str] = ()) -> int:
        """Hand this terminal to a shell (or ``argv``) on the machine and return its exit code."""
        with self._lock:
            slot = self._slot
        self._connections.ensure(slot)
        command = [shlex.join(argv)] if argv else []
        return interactive([*self._connections.session(slot), "-t", *self._connections.destination, *command])

    @contextlib.contextmanager
    def forwarding(self, forwards: Sequence[PortForward]) -> Iterator[None]:
        """See `Transport.forwarding`."""
        with self._lock:
            slot = self._slot
        with contextlib.ExitStack() as stack:
            if forwards:
                self._connections.ensure(slot)
            for forward in forwards:
                stack.enter_context(self._connections.forwarding(slot, forward.text))
            yield

    def close(self) -> None:
        """Let go of the shared connections; commands of other processes over them go on to their end."""
        self._connections.close()

    def _command(self, argv: Sequence[str], *, as_root: bool) -> list[str]:
        return sudo(argv) if as_root and self.target.user != "root" else list(argv)

    def _where(self) -> str:
        return str(self.target)

    def _execute(
        self,
        argv: Sequence[str],
        stdin: BinaryIO | None,
        on_stdout: Callable[[bytes], Any],
        on_stderr: Callable[[bytes], Any],
        *,
        timeout: timedelta | None,
        as_root: bool,
        live: bool,
        private: bool = False,  # noqa: ARG002 (nothing of it is kept anywhere)
    ) -> int:
        del live
        argv = self._command(argv, as_root=as_root)
        deadline = time.monotonic() + timeout.total_seconds() if timeout is not None else None
        give_up = time.monotonic() + _QUEUE_SECONDS
        repeated = False
        all_refused = Backoff(SystemClock())
        start = stdin.tell() if stdin is not None and stdin.seekable() else None
        while True:
            if stdin is not None and start is not None:
                stdin.seek(start)
            with self._lock:
                slot = self._slot
            self._ensure(slot)
            word = _new_word()
            call = _Call(Framed(mark_of(word), on_stdout), Framed(mark_of(word), on_stderr))
            log = self._once(
                call,
                slot=slot,
                command=_wrapped(word, argv),
                stdin=stdin,
                # What cannot be read a second time is not touched before the command has begun.
                may_feed=call.has_begun if start is None else _always,
                deadline=deadline,
                end=functools.partial(self._end, call, slot, as_root=as_root),
            )
            if call.err.exit_code is not None and call.ended:
                return call.err.exit_code
            if deadline is not None and time.monotonic() >= deadline:
                raise CommandTimeout(
                    f"{argv[0]} did not end within {timeout and time_span(timeout)} on {self.target}"
                )
            if call.has_begun():
                self._still_there(float("inf"))
                raise Unreachable(
                    f"the connection to {self.target} broke while {argv[0]} ran",
                    hint="whether it ended is not known",
                )
            if session_refused(log) and time.monotonic() < give_up:
                if self._next_slot(slot):
                    all_refused.sleep()
            elif not repeated:
                # The shared connection died between two commands; this one never began, so it may begin now.
                repeated = True
            else:
                raise Unreachable(
                    f"cannot run a command on {self.target} over ssh: {log.strip() or 'the connection ends'}",
                    hint="does the login user have a POSIX shell?",
                )

    def _ensure(self, slot: int) -> None:
        try:
            self._connections.ensure(slot)
        except (Unreachable, CredentialsError):
            # Another machine may have its address by now.
            self._still_there(float("inf"))
            raise

    def _next_slot(self, full: int) -> bool:
        """The next command takes another connection; whether that is the first again, as all are full."""
        with self._lock:
            if self._slot == full:
                self._slot = (full + 1) % _SLOTS
            return self._slot == 0

    def _once(
        self,
        call: _Call,
        *,
        slot: int,
        command: str,
        stdin: BinaryIO | None,
        may_feed: Callable[[], bool],
        deadline: float | None,
        end: Callable[[], None],
    ) -> str:
        """One session; returns ssh's log. ``end`` is called when it does not end in time or a callback raises."""
        with _log_file(self._connections.runtime_dir) as log:
            process = subprocess.Popen(
                [
                    *self._connections.session(slot),
                    *("-E", str(log), "-T"),
                    *self._connections.destination,
                    command,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            silence = Silence(self._still_there)

            def taken_by(feed: Callable[[bytes], None]) -> Callable[[bytes], None]:
                def take(data: bytes) -> None:
                    silence.heard()
                    feed(data)

                return take

            with process:
                try:
                    outcome = pump(
                        process,
                        stdin=stdin,
                        on_stdout=taken_by(call.out.feed),
                        on_stderr=taken_by(call.err.feed),
                        deadline=deadline,
                        finished=lambda: call.ended,
                        may_feed=may_feed,
                        while_silent=silence.check,
                    )
                except InstanceEnded:
                    # There is nothing left on the machine to be ended.
                    process.kill()
                    self.close()
                    raise
                except BaseException:
                    try:
                        end()
                    finally:
                        process.kill()
                    raise
                if outcome is Outcome.TIMEOUT:
                    end()
                if outcome is not Outcome.EOF:
                    process.kill()
            return read_log(log)

    def _end(self, call: _Call, slot: int, *, as_root: bool) -> None:
        """The command's session on the machine is ended, or the machine cannot be reached any more.

        Closing ours would not end it: it has no terminal that could hang up.
        """
        process_id = call.err.process_id or call.out.process_id
        if process_id is None or call.ended:
            return
        word = _new_word()
        killer = self._command(["sh", "-c", _KILLER, "sh", str(process_id)], as_root=as_root)
        for candidate in (slot, (slot + 1) % _SLOTS):
            try:
                self._connections.ensure(candidate)
            except RunctlError:
                # Why the command has to end is the better error.
                return
            ending = _Call(Framed(mark_of(word), _ignore), Framed(mark_of(word), _ignore))
            self._once(
                ending,
                slot=candidate,
                command=_wrapped(word, killer),
                stdin=None,
                may_feed=_always,
                deadline=time.monotonic() + _KILL_SECONDS,
                end=_nothing,
            )
            if ending.has_begun():
                return


def _new_word() -> str:
    return f"runctl-{secrets.token_hex(12)}"


def _wrapped(word: str, argv: Sequence[str]) -> str:
    return shlex.join(["sh", "-c", WRAPPER, "sh", word, *argv])


def _nothing() -> None:
    return


def _ignore(data: bytes) -> None:
    del data


def _always() -> bool:
    return True


@contextlib.contextmanager
def _log_file(directory: Path) -> Iterator[Path]:
    fd, name = tempfile.mkstemp(dir=private_directory(directory), prefix="session-", suffix=".log")
    os.close(fd)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
