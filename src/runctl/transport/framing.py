"""Finding where a command's own output begins and ends, and its exit code, in what a shell sends back."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from runctl.core.errors import MachineError

WRAPPER = """\
word=$1
shift
printf '\\036%s %s\\n' "$word" "$$"
printf '\\036%s %s\\n' "$word" "$$" >&2
exec 3>&2 2>/dev/null
(exec 2>&3 3>&-; exec "$@")
code=$?
printf '\\036%s %s\\n' "$word" "$code"
printf '\\036%s %s\\n' "$word" "$code" >&3
"""
"""POSIX shell, the same for every command: ``sh -c WRAPPER sh WORD PROGRAM ARGUMENT...``; the mark is `mark_of` the
word, so that a command that lists the arguments of processes never shows it.

It says on both outputs where the program's own bytes begin (with its process id) and end (with the exit code). So
what a login shell's start-up files print is told apart, ssh's own exit code 255 from a program's, and a broken
connection from an end. ``exec`` keeps a program named like a shell's builtin a program; the shell's own stderr
goes nowhere because it would announce a program that a signal ended.
"""

_LONGEST_NUMBER = 12


def mark_of(word: str) -> str:
    """What the wrapper writes for that word: after a control character (record separator)."""
    return f"\x1e{word}"


class Part(Enum):
    """What of a stream has been seen."""

    BEFORE = "before"
    BODY = "body"
    NUMBER = "number"
    AFTER = "after"


class Framed:
    """One output stream between its two marks, fed in pieces of any size.

    Only a piece that may be the beginning of the second mark is held back.
    """

    def __init__(self, mark: str, sink: Callable[[bytes], None]) -> None:
        self._mark = mark.encode() + b" "
        self._sink = sink
        self._buffer = b""
        self.part = Part.BEFORE
        self.process_id: int | None = None
        """Of the wrapper on the machine, once the stream has begun."""
        self.exit_code: int | None = None
        """Once the stream has ended."""

    def feed(self, data: bytes) -> None:
        """Take the next piece; hand on what is certainly the program's own.

        Raises `MachineError` where a mark is not followed by a number.
        """
        self._buffer += data
        if self.part is Part.BEFORE:
            self._find_beginning()
        if self.part is Part.BODY:
            self._pass_the_body_on()
        if self.part is Part.NUMBER:
            number, newline, _ = self._buffer.partition(b"\n")
            if newline:
                self.exit_code = _number(number)
                self.part = Part.AFTER
            elif len(number) > _LONGEST_NUMBER:
                raise _no_number(number)
        if self.part is Part.AFTER:
            self._buffer = b""

    def _find_beginning(self) -> None:
        start = self._buffer.find(self._mark)
        if start < 0:
            self._buffer = self._buffer[-(len(self._mark) + _LONGEST_NUMBER) :]
            return
        number, newline, rest = self._buffer[start + len(self._mark) :].partition(b"\n")
        if not newline and len(number) > _LONGEST_NUMBER:
            raise _no_number(number)
        if newline:
            self.process_id = _number(number)
            self.part = Part.BODY
            self._buffer = rest

    def _pass_the_body_on(self) -> None:
        end = self._buffer.find(self._mark)
        if end >= 0:
            body, self._buffer = self._buffer[:end], self._buffer[end + len(self._mark) :]
            self.part = Part.NUMBER
        else:
            keep = _overlap(self._buffer, self._mark)
            cut = len(self._buffer) - keep
            body, self._buffer = self._buffer[:cut], self._buffer[cut:]
        if body:
            self._sink(body)


def _number(text: bytes) -> int:
    """Decimal digits alone: ``int`` would also take signs, spaces, underscores and other scripts' digits."""
    if not text.isdigit() or len(text) > _LONGEST_NUMBER:
        raise _no_number(text)
    return int(text)


def _no_number(text: bytes) -> MachineError:
    return MachineError(
        f"the machine sent {text[:40]!r} where a number belongs: it is not what runctl's own wrapper writes",
        hint="does something on the machine rewrite the output of commands?",
        code="bad-answer",
    )


def _overlap(data: bytes, mark: bytes) -> int:
    """How many bytes at the end of ``data`` are the beginning of ``mark``."""
    start = data.rfind(mark[:1], max(0, len(data) - len(mark) + 1))
    # The mark's first character occurs in it only once, so the last one decides.
    return len(data) - start if start >= 0 and mark.startswith(data[start:]) else 0
