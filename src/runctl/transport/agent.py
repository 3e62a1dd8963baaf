"""Speaking to the agent on a machine, over whatever transport; it is put there when it is missing."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from runctl.agent.after_run import Stay
from runctl.agent.encoding import to_json
from runctl.agent.package import QUICK
from runctl.agent.spec import STATE_DIRECTORY, AttemptStatus, ContainerSpec, LogFrame, MachineMount, RunSpec
from runctl.core.clock import Clock, SystemClock
from runctl.core.errors import HostKeyChanged, MachineError, Unreachable
from runctl.core.journal import Journal
from runctl.core.progress import SILENT, Progress
from runctl.core.waiting import Backoff
from runctl.transport.answers import answered, count, failed, mapping, record, run_id_in, sequence, status_of
from runctl.transport.commands import tail
from runctl.transport.interface import Completed, Transport
from runctl.transport.log_reader import LogReader
from runctl.transport.tree_session import PolledTreeSession, StreamedTreeSession, TreeSession

_PREPARE = """\
id -u
id -g
mkdir -p -- "$1/bin" 2>/dev/null
[ -w "$1/bin" ]
"""
"""``sh -c _PREPARE sh STATE``: the login user's ids; exit code 0 when it can write the agent's folder."""

_NO_TREE = "0" * 64
"""A digest that no tree has."""
_POLL_SECONDS = 10
_POLL_BYTES = 1 << 20
_SIGNALLED = 128
"""Exit codes above it say that a signal ended a program."""
_FIRST_RETRY_SECONDS, _MOST_RETRY_SECONDS = 0.5, 15.0
_HEADROOM = timedelta(seconds=15)
"""On top of a long poll, before its machine counts as silent; asking again repeats nothing."""


class AgentClient:
    """The agent on one machine. Safe to use from several threads, as its transport is."""

    def __init__(
        self,
        transport: Transport,
        *,
        agent_file: Path | Callable[[], Path],
        state_directory: PurePosixPath | str = STATE_DIRECTORY,
        python: str = "python3",
        env: Mapping[str, str] | None = None,
        progress: Progress = SILENT,
        clock: Clock | None = None,
        journal: Journal | None = None,
    ) -> None:
        """``agent_file`` is the zipapp, or makes it; it is needed (for its name) by the first call.

        ``python`` runs it on the machine, with ``env`` added. Several versions of the agent may be on a machine
        side by side: a run's supervisor goes on with the one that started it.
        """
        self.transport = transport
        self.state_directory = PurePosixPath(state_directory)
        self._agent_file = agent_file
        self._python = python
        self._env = {"RUNCTL_AGENT_STATE": str(self.state_directory), **(env or {})}
        self._progress = progress
        self._clock = clock or SystemClock()
        self.journal = journal or Journal()
        """Where whoever changes something on the machine writes it."""

    def call(
        self,
        verb: str,
        request: Mapping[str, Any],
        *,
        payload: bytes | BinaryIO | None = None,
        timeout: timedelta | None = None,
        private: bool = False,
    ) -> Any:
        """What the agent answers (its ``ok``). ``payload`` follows the request on the agent's stdin.

        ``private``: the request holds secrets (see `Transport.run`).

        Installs the agent when the machine has none, or another version. Raises `MachineError` with the agent's
        code, message and hint.
        """
        line = _line(request)
        if payload is None or isinstance(payload, bytes):
            done = self._installed(lambda: self._run(verb, line + (payload or b""), timeout, private))
            return answered(verb, done)
        with tempfile.TemporaryFile() as whole:
            # One file that can be read again when the agent has to be installed first.
            whole.write(line)
            shutil.copyfileobj(payload, whole)

            def send() -> Completed:
                whole.seek(0)
                return self._stream_in(verb, whole)

            return answered(verb, self._installed(send))

    def pour(self, verb: str, request: Mapping[str, Any], on_bytes: Callable[[bytes], None]) -> None:
        """A verb that answers with a stream of its own has ended; its errors are in the stream, as JSON lines."""
        err = bytearray()

        def once() -> Completed:
            argv = self._argv(verb)
            if not self.transport.streams:
                done = self.transport.run(argv, stdin=_line(request))
                if not self._is_missing(done):
                    on_bytes(done.stdout)
                return done
            code = self.transport.stream(
                argv, stdin=BytesIO(_line(request)), on_stdout=on_bytes, on_stderr=err.extend
            )
            return Completed((verb,), code, b"", bytes(err))

        done = self._installed(once)
        if done.exit_code != 0:
            raise failed(verb, done)

    def version(self) -> Mapping[str, Any]:
        """What the agent knows of itself and the machine: ``protocol``, ``digest``, ``python``, ``docker``, …"""
        return mapping(self.call("version", {}))

    def limits(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What ends the machine by itself, changed as the request says; see `runctl.agent.machine.limits`."""
        return dict(mapping(self.call("limits", request)))

    def check(self, container: ContainerSpec) -> None:
        """The machine can run such a container: it has an engine, Compose and the GPUs that are asked for.

        Raises what `start` would raise.
        """
        self.call("check", {"container": to_json(container)})

    def start(self, spec: RunSpec) -> AttemptStatus:
        """The attempt has been taken up. Starting the same spec again returns the same attempt."""
        request = {"spec": to_json(spec)}
        return status_of(spec.run_id, self.call("start", request, private=bool(spec.env or spec.compose_env)))

    def restart(self, run_id: str, env: Mapping[str, str]) -> AttemptStatus:
        """The run has another attempt, as its last one was; ``env`` has the values of its variables."""
        answer = self.call("start-again", {"run_id": run_id, "env": dict(env)}, private=bool(env))
        return status_of(run_id, answer)

    def status(self, run_id: str, attempt: int | None = None) -> AttemptStatus:
        """One attempt, the newest when ``attempt`` is ``None``."""
        return status_of(run_id, self.call("status", _attempt(run_id, attempt)))

    def attempts(
        self, *, running: bool = False, timeout: timedelta | None = None
    ) -> tuple[AttemptStatus, ...]:
        """Every attempt that the machine knows of, or those that have not ended, with what it uses now."""
        answer = self.call("list", {"running": True} if running else {}, timeout=timeout)
        return tuple(status_of(None, each) for each in sequence(answer, "attempts"))

    def stop(
        self,
        run_id: str,
        attempt: int | None = None,
        *,
        grace: timedelta | None = None,
        force: bool = False,
    ) -> AttemptStatus:
        """The attempt has ended: SIGTERM, ``grace`` (the spec's own), SIGKILL; ``force`` goes straight to it."""
        request: dict[str, Any] = {**_attempt(run_id, attempt), "force": force}
        if grace is not None:
            request["grace_seconds"] = grace.total_seconds()
        return status_of(run_id, self.call("stop", request))

    def interrupt(
        self, run_id: str, attempt: int | None = None, *, notice: timedelta, moves: str = ""
    ) -> AttemptStatus:
        """The attempt ends as if its provider had just announced the machine's end in that time; the machine stays.

        ``moves`` says where a run that is moved goes, and why: it ends as MOVED, and its volumes are let go.

        Raises `MachineError` (code ``has-ended``).
        """
        request = {**_attempt(run_id, attempt), "seconds": notice.total_seconds(), "moves": moves}
        return status_of(run_id, self.call("interrupt", request))

    def fetched(self, run_id: str, attempt: int, *, only_read: bool = False) -> Stay | None:
        """Whoever calls has all that they want of the run; with ``only_read``, of its log, and the machine sees to its
        results itself. Why the machine stays all the same; ``None``: it ends now.

        Raises `MachineError` (``run-goes-on``, ``not-rented``).
        """
        request = {**_attempt(run_id, attempt), "only_read": only_read}
        stay = mapping(self.call("fetched", request)).get("stay")
        return None if stay is None else record(Stay, stay)

    def kept_runs(self) -> tuple[Mapping[str, Any], ...]:
        """What the machine keeps of each run: ``run_id``, ``ended``, ``work_bytes``, ``result_bytes``."""
        return tuple(
            {
                "run_id": run_id_in(kept),
                "ended": kept.get("ended") is True,
                "work_bytes": count(kept, "work_bytes"),
                "result_bytes": count(kept, "result_bytes"),
            }
            for kept in sequence(self.call("runs", {}), "runs")
        )

    def prune(self, run_ids: Sequence[str], *, results: bool) -> None:
        """The machine keeps nothing of these runs but checkpoints and output; those neither with ``results``.

        What is on a volume stays. Raises `MachineError` (``run-goes-on``) before anything is removed.
        """
        self.call("prune", {"run_ids": list(run_ids), "results": results})

    def mounts(self, provided: Mapping[str, str] | None = None) -> tuple[MachineMount, ...]:
        """The volumes' file systems that are mounted.

        ``provided`` are the ids, by mount point, of those that the provider mounts itself.
        """
        request = {} if provided is None else {"provided": dict(provided)}
        return tuple(record(MachineMount, each) for each in sequence(self.call("mounts", request), "mounts"))

    def attach(
        self, volume_id: str, mount_point: str, *, progress: Progress = SILENT, **options: Any
    ) -> Mapping[str, Any]:
        """The attached volume is mounted; ``options`` are the verb's own (``format``, ``fstype``, …).

        A volume that has to be read to its end before it may be formatted is read in pieces, with progress.
        """
        request = {"volume_id": volume_id, "mount_point": mount_point, **to_json(options)}
        answer = mapping(self.call("attach", request))
        while "examined_bytes" in answer:
            done, total = int(answer["examined_bytes"]), int(answer["size_bytes"])
            progress.update(
                f"{volume_id}: reading all of it, as only a blank volume is formatted", done=done, total=total
            )
            answer = mapping(self.call("attach", {**request, "examined_bytes": done}))
        return answer

    def detach(self, volume_id: str, *, force: bool = False) -> Mapping[str, Any]:
        """The volume is flushed and unmounted. Detaching it from the machine is the provider's."""
        return mapping(self.call("detach", {"volume_id": volume_id, "force": force}))

    def has_image(self, reference: str) -> bool:
        """Whether the machine's engine has it; one that does not answer has none."""
        return mapping(self.call("image", {"reference": reference})).get("present") is True

    def entrust(
        self,
        run_id: str,
        *,
        logins: Sequence[Mapping[str, str]] = (),
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        """The machine can get the run's image: logged in, and with the build's secrets (in base64), until it has it."""
        request = {"run_id": run_id, "logins": list(logins), "secrets": dict(secrets or {})}
        self.call("entrust", request, private=True)

    def forget_entrusted(self, run_id: str) -> None:
        """Nothing of it is left on the machine."""
        self.call("entrust", {"run_id": run_id, "forget": True})

    def trees(self, project: str, digest: str | None) -> TreeSession:
        """A session about the project's trees; its first question is the status of the one with this digest."""
        if not self.transport.streams:
            return PolledTreeSession(self.call, {"project": project, "digest": digest})

        def converse(stdin: BinaryIO, on_stdout: Callable[[bytes], None]) -> Completed:
            err = bytearray()
            code = self.transport.stream(
                self._quick("sync", project, digest or _NO_TREE),
                stdin=stdin,
                on_stdout=on_stdout,
                on_stderr=err.extend,
            )
            return Completed(("sync",), code, b"", bytes(err))

        return StreamedTreeSession(converse, self._installed)

    def logs(
        self,
        run_id: str,
        attempt: int | None = None,
        *,
        offset: int = 0,
        follow: bool = True,
        on_bytes: Callable[[bytes], None],
        on_heartbeat: Callable[[LogFrame], None] = lambda _: None,
        on_silence: Callable[[float], None] = lambda _: None,
        patience: timedelta = timedelta(minutes=5),
    ) -> LogFrame:
        """Hand over the log's bytes from ``offset`` and return the last frame.

        With ``follow`` that is the end of the attempt (``frame.end``), proven by the log's length; without, the
        log as far as it is written. When the machine cannot be reached it is tried again from the same byte,
        for as long as ``patience`` since anything arrived, then `Unreachable` is raised. Before each new attempt
        ``on_silence`` is called with the seconds since anything arrived; what it raises ends the following.
        """
        reader = LogReader(offset, on_bytes, on_heartbeat)
        request = _attempt(run_id, attempt)
        alive = self._clock.monotonic()
        backoff = Backoff(self._clock, first=_FIRST_RETRY_SECONDS, most=_MOST_RETRY_SECONDS)
        while True:
            before = reader.offset
            reader.restart()
            try:
                if self.transport.streams:
                    self._follow_stream(reader, request, follow=follow)
                else:
                    self._follow_by_polling(reader, request, follow=follow)
            except HostKeyChanged:
                raise
            except Unreachable as error:
                if reader.offset > before or reader.frame is not None:
                    alive = self._clock.monotonic()
                    backoff.reset()
                silent = self._clock.monotonic() - alive
                on_silence(silent)
                if silent >= patience.total_seconds():
                    raise
                self._progress.note(f"{error.message}; trying again from byte {reader.offset} of the log")
                backoff.sleep()
            else:
                assert reader.frame is not None  # noqa: S101 - both ways return only with a last frame
                return reader.frame

    def _follow_stream(self, reader: LogReader, request: Mapping[str, Any], *, follow: bool) -> None:
        err = bytearray()

        def once() -> Completed:
            code = self.transport.stream(
                self._argv("logs"),
                stdin=BytesIO(_line({**request, "offset": reader.offset, "follow": follow})),
                on_stdout=reader.feed,
                on_stderr=err.extend,
            )
            return Completed(("logs",), code, b"", bytes(err))

        done = self._installed(once)
        if not reader.complete:
            if done.exit_code > _SIGNALLED:
                # As when the machine ends: its processes go first, then the connection.
                raise Unreachable(f"the log's sender was ended on the machine (exit code {done.exit_code})")
            if done.exit_code != 0:
                raise failed("logs", done)
            raise Unreachable("the log ended before its end marker")

    def _follow_by_polling(self, reader: LogReader, request: Mapping[str, Any], *, follow: bool) -> None:
        while True:
            before = reader.offset
            line = _line(
                {
                    **request,
                    "offset": reader.offset,
                    "follow": False,
                    "wait_seconds": _POLL_SECONDS if follow else 0,
                    "max_bytes": _POLL_BYTES,
                }
            )
            wait = timedelta(seconds=_POLL_SECONDS) + _HEADROOM
            done = self._installed(lambda line=line, wait=wait: self._run("logs", line, wait))  # type: ignore[misc]
            reader.restart()
            reader.feed(done.stdout)
            if reader.frame is None or not reader.complete:
                raise failed("logs", done)
            if reader.frame.end is not None:
                return
            if not follow and reader.offset - before < _POLL_BYTES:
                return

    def install(self) -> None:
        """This version of the agent is on the machine."""
        self._progress.detail(f"installing the agent at {self._path}")
        state = str(self.state_directory)
        ready = self.transport.run(["sh", "-c", _PREPARE, "sh", state])
        if ready.exit_code != 0:
            ids = ready.stdout.decode(errors="replace").split()
            if len(ids) != 2:
                raise failed("install", ready)
            folders = [state, f"{state}/bin"]
            prepared = self.transport.run(
                ["install", "-d", "-m", "0755", "-o", ids[0], "-g", ids[1], "--", *folders], as_root=True
            )
            if prepared.exit_code != 0:
                # One line for each folder that could not be made, and all say the same.
                said = "".join(tail(prepared.stderr).splitlines()[-1:])
                raise MachineError(
                    f"cannot make {state} on the machine: {said}",
                    hint="the user needs a state folder that it may write (XDG_DATA_HOME moves that of this computer),"
                    " or sudo without a password",
                )
        self.transport.put(self._file.read_bytes(), self._path)

    @cached_property
    def _file(self) -> Path:
        return self._agent_file() if callable(self._agent_file) else self._agent_file

    @cached_property
    def _path(self) -> PurePosixPath:
        digest = hashlib.sha256(self._file.read_bytes()).hexdigest()[:16]
        return self.state_directory / "bin" / f"agent-{digest}.pyz"

    def _argv(self, verb: str) -> list[str]:
        return [*self._interpreter(), str(self._path), verb]

    def _quick(self, *arguments: str) -> list[str]:
        """For a verb that needs nothing but the standard library: without anybody's start-up files and packages."""
        return [*self._interpreter(), "-I", "-S", "-c", QUICK, str(self._path), *arguments]

    def _interpreter(self) -> list[str]:
        return ["env", *(f"{name}={value}" for name, value in self._env.items()), self._python]

    def _run(self, verb: str, stdin: bytes, timeout: timedelta | None, private: bool = False) -> Completed:
        return self.transport.run(self._argv(verb), stdin=stdin, timeout=timeout, private=private)

    def _stream_in(self, verb: str, source: BinaryIO) -> Completed:
        out, err = bytearray(), bytearray()
        argv = self._argv(verb)
        code = self.transport.stream(argv, stdin=source, on_stdout=out.extend, on_stderr=err.extend)
        return Completed(tuple(argv), code, bytes(out), bytes(err))

    def _installed(self, call: Callable[[], Completed]) -> Completed:
        """Do it, and when the agent was not there, put it there and do it again."""
        done = call()
        if self._is_missing(done):
            self.install()
            done = call()
        return done

    def _is_missing(self, done: Completed) -> bool:
        return (
            done.exit_code == 2
            and b"can't open file" in done.stderr
            and self._path.name.encode() in done.stderr
        )


def _line(request: Mapping[str, Any]) -> bytes:
    return json.dumps(to_json(request), separators=(",", ":")).encode() + b"\n"


def _attempt(run_id: str, attempt: int | None) -> dict[str, Any]:
    return {"run_id": run_id} if attempt is None else {"run_id": run_id, "attempt": attempt}
