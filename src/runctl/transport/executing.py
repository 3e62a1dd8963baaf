"""Running a command to its end and streaming one are the same but for what becomes of the output."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from datetime import timedelta
from io import BytesIO
from typing import Any, BinaryIO

from runctl.transport.commands import refuse_password
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
