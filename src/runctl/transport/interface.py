"""What a way to a machine must offer. Above this nobody knows which it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import PurePosixPath
from typing import BinaryIO, ClassVar

from runctl._dataclasses import dataclass
from runctl.core.errors import Unreachable, Unsupported


class CommandTimeout(Unreachable):
    """The command did not end in time. It has been told to end; whether it did is not known."""

    code = "command-timeout"


@dataclass(frozen=True)
class Completed:
    """A command that ran to its end on the machine."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: bytes
    """Every byte of it, whatever the transport's own limits."""
    stderr: bytes


@dataclass(frozen=True)
class PortForward:
    """A port of this computer that leads to one that the machine reaches."""

    port: int
    host: str = "127.0.0.1"
    """As the machine sees it."""
    host_port: int = 0
    """0: the same as ``port``."""

    @property
    def text(self) -> str:
        """As ``ssh -L`` takes it: only this computer's own programs get to it."""
        return f"127.0.0.1:{self.port}:{self.host}:{self.host_port or self.port}"


def parse_forward(text: str) -> PortForward:
    """``8265``, or ``PORT:HOST:PORT`` as ``ssh -L`` has it. Raises `ValueError`."""
    first, *rest = text.split(":")
    ports = [first, *rest[1:]]
    if len(rest) not in (0, 2) or not all(each.isdecimal() and 0 < int(each) < 65536 for each in ports):
        raise ValueError(f"{text!r} is not a port to forward; write 8265, or 8265:127.0.0.1:8265")
    return PortForward(int(first), rest[0], int(rest[1])) if rest else PortForward(int(first))


class Transport(ABC):
    """Commands and bytes to one machine, as its login user.

    Every method raises `Unreachable` when the machine cannot be reached (never when a command merely failed) and
    `CredentialsError` when it is reached and refuses us. Safe to use from several threads. A command line is
    always an argument list: it reaches the program on the machine exactly as given.
    """

    name: ClassVar[str]
    """Such as ``ssh`` or ``local``; a provider may bring its own."""
    streams: ClassVar[bool]
    """Whether `stream` delivers output while the command runs, and stdin of any length. Where it is false
    output arrives in pieces of seconds, or at the end; followers poll."""

    @abstractmethod
    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: timedelta | None = None,
        as_root: bool = False,
        private: bool = False,
    ) -> Completed:
        """Run a command to its end and return all of its output.

        With ``private`` stdin and arguments may hold secrets: where a transport would leave them in a history that
        others of the account can read, it takes a way that leaves nothing, and warns where there is none.
        ``as_root`` needs the login user's passwordless sudo (or root's own channel). Raises `CommandTimeout`.
        """

    @abstractmethod
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
        """Run a command, hand over its output as it comes, and return its exit code.

        ``stdin`` is read to its end (``None``: empty). When the callbacks raise, the command is ended and the
        exception goes on. A connection that breaks in the middle raises `Unreachable`. ``private`` as of `run`.
        """

    @abstractmethod
    def put(self, data: bytes | BinaryIO, target: PurePosixPath, *, mode: int = 0o644) -> None:
        """``target`` holds exactly these bytes; written beside it and renamed, parents made."""

    @abstractmethod
    def get(self, source: PurePosixPath, sink: BinaryIO) -> int:
        """Write the file's bytes to ``sink`` and return how many. Raises `NotFound` where the file does not exist."""

    def terminal(self, argv: Sequence[str] = ()) -> int:
        """Hand this terminal to a shell (or ``argv``) on the machine and return its exit code.

        Raises `Unsupported` where the transport has no terminals.
        """
        raise Unsupported(f"{self.name} has no terminals")

    def forwarding(self, forwards: Sequence[PortForward]) -> AbstractContextManager[None]:
        """While the block lasts, each port here leads to the machine.

        Raises `Unsupported` where the transport forwards none, and `MachineError` for a port that is taken.
        """
        if forwards:
            raise Unsupported(f"{self.name} forwards no ports", hint="--transport ssh does")
        return nullcontext()

    def close(self) -> None:
        """Let go of connections. The transport may be used again afterwards."""
