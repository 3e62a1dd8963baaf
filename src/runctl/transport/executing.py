"""Running a command to its end and streaming one are the same but for what becomes of the output."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from datetime import timedelta
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from runctl.core.errors import MachineError, NotFound
from runctl.transport.commands import GET, NO_SUCH_FILE, refuse_password, relative, tail
from runctl.transport.interface import Completed, Transport


class Executing(Transport):
    """A transport that has one way of running a command."""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: timedelta | None = None,
        as_root: bool = False,
        private: bool = False,
    ) -> Completed:
        """Run a command to its end and return all of its output."""
        out, err = bytearray(), bytearray()
        code = self._execute(
            argv,
            BytesIO(stdin),
            out.extend,
            err.extend,
            timeout=timeout,
            as_root=as_root,
            live=False,
            private=private,
        )
        completed = Completed(tuple(argv), code, bytes(out), bytes(err))
        if as_root:
            refuse_password(completed, self._where())
        return completed

    def stream(
        self,
        argv: Sequence[str],
        *,
        stdin: BinaryIO | None = None,
        on_stdout: Callable[[bytes], None],
        on_stderr: Callable[[bytes], None],
        as_root: bool = False,
        private: bool = False,
    ) -> int:
        """Run a command, hand over its output as soon as the transport can, and return its exit code."""
        return self._execute(
            argv, stdin, on_stdout, on_stderr, timeout=None, as_root=as_root, live=True, private=private
        )

    def get(self, source: PurePosixPath, sink: BinaryIO) -> int:
        """Write the file's bytes to ``sink`` and return how many. Raises `NotFound`."""
        total, err = 0, bytearray()

        def take(data: bytes) -> None:
            nonlocal total
            sink.write(data)
            total += len(data)

        command = ["sh", "-c", GET, "sh", relative(source)]
        code = self._execute(command, None, take, err.extend, timeout=None, as_root=False, live=False)
        if code == NO_SUCH_FILE:
            raise NotFound(f"{source} does not exist on {self._where()}")
        if code != 0:
            raise MachineError(f"cannot read {source} on {self._where()}: {tail(err)}")
        return total

    @abstractmethod
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
        private: bool = False,
    ) -> int:
        """The exit code of the command, after all of its output.

        ``live``: somebody watches the output come. ``private``: as of `run`.
        """

    @abstractmethod
    def _where(self) -> str:
        """The machine, for a person."""
