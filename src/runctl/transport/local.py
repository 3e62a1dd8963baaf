"""Commands on this computer, with the manners of a machine far away."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, ClassVar

from runctl.core.errors import MachineError, NotFound
from runctl.core.text import time_span
from runctl.transport.commands import exit_code, interactive, sudo
from runctl.transport.executing import Executing
from runctl.transport.interface import CommandTimeout
from runctl.transport.pump import CHUNK, Outcome, pump

_PATIENCE_SECONDS = 2.0
"""Between SIGTERM and SIGKILL for a command that has to end."""


class LocalTransport(Executing):
    """This computer. Commands start in the home folder, in a process group of their own."""

    name: ClassVar[str] = "local"
    streams: ClassVar[bool] = True

    def __init__(self, *, env: Mapping[str, str] | None = None, directory: Path | None = None) -> None:
        """``env`` is added to this process's environment; commands start in ``directory`` (the home folder)."""
        self._env = dict(env or {})
        self._directory = directory

    def put(self, data: bytes | BinaryIO, target: PurePosixPath, *, mode: int = 0o644) -> None:
        """``target`` holds exactly these bytes; written beside it and renamed, parents made."""
        path = self._absolute(target)
        source = BytesIO(data) if isinstance(data, bytes) else data
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                dir=path.parent, prefix=f".{path.name[:100]}.", delete=False
            ) as sink:
                try:
                    shutil.copyfileobj(source, sink, CHUNK)
                    sink.flush()
                    os.fchmod(sink.fileno(), mode)
                    Path(sink.name).replace(path)
                except BaseException:
                    Path(sink.name).unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise MachineError(f"cannot write {path}: {error.strerror or error}") from error

    def get(self, source: PurePosixPath, sink: BinaryIO) -> int:
        """Write the file's bytes to ``sink`` and return how many. Raises `NotFound`."""
        path = self._absolute(source)
        total = 0
        try:
            with path.open("rb") as file:
                while data := file.read(CHUNK):
                    sink.write(data)
                    total += len(data)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"{path} does not exist on this computer") from error
        except (PermissionError, IsADirectoryError) as error:
            raise MachineError(f"cannot read {path}: {error.strerror}") from error
        return total

    def terminal(self, argv: Sequence[str] = ()) -> int:
        """Hand this terminal to a shell (or ``argv``) and return its exit code."""
        command = list(argv) or [os.environ.get("SHELL", "/bin/sh")]
        return interactive(command, env=self._env, directory=self._directory)

    def _absolute(self, path: PurePosixPath) -> Path:
        return (self._directory or Path.home()) / path

    def _where(self) -> str:
        return "this computer"

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
        deadline = time.monotonic() + timeout.total_seconds() if timeout is not None else None
        needs_sudo = as_root and os.geteuid() != 0
        try:
            process = subprocess.Popen(
                sudo(argv) if needs_sudo else list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **self._env},
                cwd=self._directory or Path.home(),
                start_new_session=True,
            )
        except OSError as error:
            # What a shell on a machine says and does about it.
            on_stderr(os.fsencode(f"{argv[0]}: {error.strerror}\n"))
            return 127 if isinstance(error, FileNotFoundError) else 126
        with process:
            try:
                outcome = pump(
                    process, stdin=stdin, on_stdout=on_stdout, on_stderr=on_stderr, deadline=deadline
                )
                if outcome is not Outcome.TIMEOUT:
                    process.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
                    return exit_code(process.returncode)
            except subprocess.TimeoutExpired:
                _end(process, needs_sudo=needs_sudo)
            except BaseException:
                _end(process, needs_sudo=needs_sudo)
                raise
            _end(process, needs_sudo=needs_sudo)
        raise CommandTimeout(
            f"{argv[0]} did not end within {timeout and time_span(timeout)} on this computer"
        )


def _end(process: subprocess.Popen[bytes], *, needs_sudo: bool) -> None:
    """The command's whole process group is gone."""
    _signal(process.pid, signal.SIGTERM, needs_sudo=needs_sudo)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE_SECONDS)
    # Whoever ignored it, or was left behind by a leader that did not.
    _signal(process.pid, signal.SIGKILL, needs_sudo=needs_sudo)
    process.wait()


def _signal(group: int, number: signal.Signals, *, needs_sudo: bool) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return
    except PermissionError:
        if needs_sudo:
            subprocess.run(
                sudo(["kill", f"-{number.value}", "--", f"-{group}"]),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
