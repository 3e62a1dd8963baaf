"""Progress on stderr: a spinner on a terminal, plain lines elsewhere, warnings alone under ``--quiet``."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, TextIO, cast

from runctl.core.text import printable

if TYPE_CHECKING:
    from rich.status import Status

    from runctl.core.progress import Progress

LINE_INTERVAL = 10.0
"""Seconds between two lines about the same step where there is no terminal."""


def progress_for(
    stream: TextIO,
    *,
    quiet: bool = False,
    verbose: bool = False,
    monotonic: Callable[[], float] = time.monotonic,
) -> Progress:
    """The kind of progress that suits where stderr goes."""
    if quiet:
        return WarningsOnly(stream)
    if stream.isatty():
        return TerminalProgress(stream, verbose=verbose, monotonic=monotonic)
    return LineProgress(stream, verbose=verbose, monotonic=monotonic)


def finish(progress: Progress) -> None:
    """The running step's line is complete, and what is written next begins on a line of its own."""
    if isinstance(progress, TerminalProgress):
        progress.finish()


class LogOutput:
    """A log that is written to a stream which progress may share: a terminal, or a file that gets both.

    While the block runs there is no spinner, and what progress writes begins on a line of its own, also after a log
    line that is not complete (a bar that redraws itself). Safe for progress from other threads.
    """

    def __init__(self, progress: Progress, stream: TextIO, *, shared: bool | None = None) -> None:
        self._stream = stream
        self._progress = progress if isinstance(progress, WarningsOnly) else None
        if self._progress is not None and not (
            _same_file(self._progress.stream, stream) if shared is None else shared
        ):
            self._progress = None
        self._lock = self._progress.lock if self._progress is not None else threading.RLock()
        self.mid_line = False
        """The last line that was written is not complete."""

    def __enter__(self) -> LogOutput:
        if self._progress is not None:
            self._progress.log = self
            finish(self._progress)
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.log = None

    def write(self, data: bytes) -> None:
        """The bytes as they are, at once."""
        with self._lock:
            self._stream.buffer.write(data)
            self._stream.flush()
            if data:
                self.mid_line = not data.endswith(b"\n")

    def end_line(self) -> str:
        """What completes the line; nothing where it is complete."""
        before, self.mid_line = self.mid_line, False
        return "\n" if before else ""


def _same_file(first: TextIO, second: TextIO) -> bool:
    try:
        return os.path.sameopenfile(first.fileno(), second.fileno())
    except (OSError, ValueError):
        return False


class _Forgiving(io.TextIOBase):
    """A stream that may go away: nobody reading stderr is no reason to stop renting or saving in the middle."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream behind it; decides which characters a spinner may be made of."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether that is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The terminal's, for its size."""
        return self._stream.fileno()

    def write(self, text: str, /) -> int:
        """Written, or dropped."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushed, or dropped."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class WarningsOnly:
    """``--quiet``."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = _Forgiving(stream)
        self.stream = stream
        """Where it goes."""
        self.lock = threading.RLock()
        self.log: LogOutput | None = None
        """A log that is being written to the same place."""

    def step(self, message: str) -> None:
        """Not shown."""

    def update(self, message: str = "", *, done: int | None = None, total: int | None = None) -> None:
        """Not shown."""

    def note(self, message: str) -> None:
        """Not shown."""

    def detail(self, message: str) -> None:
        """Not shown."""

    def warn(self, message: str) -> None:
        """A line of its own."""
        self._write(f"warning: {message}")

    def _write(self, text: str) -> None:
        with self.lock:
            self._stream.write(self._line_end() + printable(text) + "\n")
            self._stream.flush()

    def _line_end(self) -> str:
        return self.log.end_line() if self.log is not None else ""


class LineProgress(WarningsOnly):
    """One line a step, and one now and then while it lasts: for logs and pipes."""

    def __init__(
        self, stream: TextIO, *, verbose: bool = False, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(stream)
        self._verbose = verbose
        self._monotonic = monotonic
        self._last_line = 0.0
        self._last_text = ""

    def step(self, message: str) -> None:
        """A line."""
        self._line(message)

    def update(self, message: str = "", *, done: int | None = None, total: int | None = None) -> None:
        """A line, when it says something new and the last one is a while ago."""
        text = _with_count(message, done, total)
        if text and text != self._last_text and self._monotonic() - self._last_line >= LINE_INTERVAL:
            self._line(f"  {text}")
            self._last_text = text

    def note(self, message: str) -> None:
        """A line."""
        self._line(message)

    def detail(self, message: str) -> None:
        """A line under ``--verbose``."""
        if self._verbose:
            self._line(f"  {message}")

    def _line(self, text: str) -> None:
        self._last_line = self._monotonic()
        self._write(text)


class TerminalProgress(WarningsOnly):
    """A spinner next to the step under way, and a line that stays for each that ended."""

    def __init__(
        self, stream: TextIO, *, verbose: bool = False, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(stream)
        from rich.console import Console

        self._console = Console(file=cast("IO[str]", self._stream), highlight=False, soft_wrap=True)
        self._verbose = verbose
        self._monotonic = monotonic
        self._status: Status | None = None
        self._message = ""
        self._since = 0.0

    def step(self, message: str) -> None:
        """The step before is over; this one spins, unless a log is being shown: then it is a detail."""
        self.finish()
        if self.log is not None:
            self.detail(message)
            return
        self._message, self._since = message, self._monotonic()
        self._status = self._console.status(_plain(message))
        self._status.start()

    def update(self, message: str = "", *, done: int | None = None, total: int | None = None) -> None:
        """Shown beside the spinner; where no step is under way, for itself until one begins or the command ends."""
        if self.log is not None:
            return
        text = _with_count(message, done, total)
        if self._status is None and text:
            self._message = ""
            self._status = self._console.status(_plain(text))
            self._status.start()
        elif self._status is not None and not self._message:
            self._status.update(_plain(text))
        elif self._status is not None:
            self._status.update(_plain(f"{self._message}: {text}" if text else self._message))

    def note(self, message: str) -> None:
        """A line above the spinner."""
        self._line(message)

    def detail(self, message: str) -> None:
        """A faint line under ``--verbose``."""
        if self._verbose:
            self._line(message, style="dim")

    def warn(self, message: str) -> None:
        """A line above the spinner, in yellow."""
        self._line(f"warning: {message}", style="yellow")

    def finish(self) -> None:
        """The spinner is gone; what it stood for stays as a line with its time."""
        if self._status is not None:
            status, self._status = self._status, None
            status.stop()
            if not self._message:
                return
            self._line(f"{self._message} ({self._monotonic() - self._since:.1f} s)", style="dim")

    def _line(self, text: str, style: str | None = None) -> None:
        with self.lock:
            self._stream.write(self._line_end())
            self._console.print(printable(text), style=style, markup=False, emoji=False)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(printable(text))


def _with_count(message: str, done: int | None, total: int | None) -> str:
    if done is None:
        return message
    count = f"{done:,} of {total:,}" if total is not None else f"{done:,}"
    return f"{message} {count}".strip()
