"""A transport whose every command is scripted; one that nobody scripted fails the test."""

# ruff: noqa: ARG002 (the interface has arguments that a script does not look at)
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from datetime import timedelta
from pathlib import PurePosixPath
from typing import BinaryIO, ClassVar

from runctl._dataclasses import dataclass
from runctl.core.errors import NotFound
from runctl.transport.interface import Completed, Transport

Answer = Completed | BaseException


@dataclass
class _Scripted:
    matches: Callable[[tuple[str, ...]], bool]
    answers: list[Answer]


@dataclass
class FakeTransport(Transport):
    """Answers scripted commands, in memory; unscripted ones raise `AssertionError`."""

    name: ClassVar[str] = "fake"
    streams: ClassVar[bool] = True

    calls: list[tuple[str, ...]] = field(default_factory=list)
    """Every command, in order."""
    files: dict[PurePosixPath, bytes] = field(default_factory=dict)
    closed: bool = False
    _script: list[_Scripted] = field(default_factory=list)

    def on(
        self, matches: Sequence[str] | Callable[[tuple[str, ...]], bool], *answers: Answer | bytes | int
    ) -> None:
        """Script a command: its beginning, or a predicate. Each answer serves once, the last one for ever.

        An answer is bytes (stdout, exit code 0), an exit code, a `Completed`, or an exception to raise.
        """
        if callable(matches):
            predicate = matches
        else:
            beginning = tuple(matches)

            def predicate(argv: tuple[str, ...]) -> bool:
                return argv[: len(beginning)] == beginning

        self._script.insert(0, _Scripted(predicate, [_answer(answer) for answer in answers]))

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: timedelta | None = None,
        as_root: bool = False,
        private: bool = False,
    ) -> Completed:
        """The scripted answer."""
        command = tuple(argv)
        self.calls.append(command)
        for scripted in self._script:
            if scripted.matches(command):
                answer = scripted.answers.pop(0) if len(scripted.answers) > 1 else scripted.answers[0]
                if isinstance(answer, BaseException):
                    raise answer
                return answer
        raise AssertionError(f"no answer was scripted for {command}")

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
        """The scripted answer, in one piece."""
        done = self.run(argv, stdin=stdin.read() if stdin else b"", as_root=as_root, private=private)
        on_stdout(done.stdout)
        on_stderr(done.stderr)
        return done.exit_code

    def put(self, data: bytes | BinaryIO, target: PurePosixPath, *, mode: int = 0o644) -> None:
        """Kept in `files`."""
        self.files[target] = data if isinstance(data, bytes) else data.read()

    def get(self, source: PurePosixPath, sink: BinaryIO) -> int:
        """From `files`."""
        if source not in self.files:
            raise NotFound(f"{source} does not exist")
        return sink.write(self.files[source])

    def close(self) -> None:
        """Remembered in `closed`."""
        self.closed = True


def _answer(answer: Answer | bytes | int) -> Answer:
    if isinstance(answer, bytes):
        return Completed((), 0, answer, b"")
    if isinstance(answer, int):
        return Completed((), answer, b"", b"")
    return answer
