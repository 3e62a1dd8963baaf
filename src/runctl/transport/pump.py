"""Bytes between a child process and callbacks, in the calling thread."""

from __future__ import annotations

import contextlib
import io
import os
import selectors
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import IO, BinaryIO

CHUNK = 65536
_CHECK_SECONDS = 0.1


class Outcome(Enum):
    """Why `pump` returned."""

    EOF = "eof"
    """The child closed both outputs, or has ended and everything it wrote has been handed over."""
    TIMEOUT = "timeout"
    FINISHED = "finished"
    """``finished`` said so."""


def pump(
    process: subprocess.Popen[bytes],
    *,
    stdin: BinaryIO | None,
    on_stdout: Callable[[bytes], None],
    on_stderr: Callable[[bytes], None],
    deadline: float | None = None,
    finished: Callable[[], bool] = lambda: False,
    may_feed: Callable[[], bool] = lambda: True,
    while_silent: Callable[[], None] = lambda: None,
) -> Outcome:
    """Feed ``stdin`` to the child and hand over its output until it ends or ``deadline`` (monotonic) passes.

    Nothing is read from ``stdin`` before ``may_feed`` says so. ``while_silent`` is called again and again,
    also while nothing comes.
    The child must have pipes for all three. A process that it left behind with its outputs still open is not
    waited for. Neither the child nor its outputs are closed here. What a callback raises goes on.
    """
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None  # noqa: S101 - a contract between two modules
    callbacks = {process.stdout.fileno(): on_stdout, process.stderr.fileno(): on_stderr}
    for fd in callbacks:
        os.set_blocking(fd, False)
    with selectors.DefaultSelector() as selector, _Feed(process.stdin, stdin, selector) as feed:
        for fd in callbacks:
            selector.register(fd, selectors.EVENT_READ)
        while callbacks:
            if not feed.started and may_feed():
                feed.start()
            if finished():
                return Outcome.FINISHED
            wait = _CHECK_SECONDS
            if deadline is not None:
                wait = min(wait, deadline - time.monotonic())
                if wait <= 0:
                    return Outcome.TIMEOUT
            # Asked before select: whatever it wrote before it ended is then seen by this select.
            ended = process.poll() is not None
            ready = [key.fd for key, _ in selector.select(0 if ended else wait)]
            if ended and not any(fd in callbacks for fd in ready):
                return Outcome.EOF
            while_silent()
            for fd in ready:
                if fd not in callbacks:
                    feed.turn(fd)
                    continue
                data = os.read(fd, CHUNK)
                if data:
                    callbacks[fd](data)
                else:
                    selector.unregister(fd)
                    del callbacks[fd]
    return Outcome.EOF


class _Feed:
    """A child's stdin, filled from any kind of source without ever blocking the loop."""

    def __init__(self, sink: IO[bytes], source: BinaryIO | None, selector: selectors.BaseSelector) -> None:
        self.started = False
        self._sink = sink
        self._sink_fd = sink.fileno()
        self._selector = selector
        self._source = source
        self._source_fd: int | None = None
        self._pending = memoryview(b"")
        self._read_end: BinaryIO | None = None

    def start(self) -> None:
        """Read from the source from now on."""
        self.started = True
        if self._source is None:
            self._close()
            return
        os.set_blocking(self._sink_fd, False)
        kind = _kind(self._source)
        if kind == "unknown":
            self._source = self._read_end = _through_a_pipe(self._source)
        if kind != "ready":
            try:
                self._selector.register(self._source, selectors.EVENT_READ)
                self._source_fd = self._source.fileno()
            except PermissionError:
                # epoll refuses what never makes a reader wait, /dev/null for one.
                kind = "ready"
        if kind == "ready":
            self._selector.register(self._sink_fd, selectors.EVENT_WRITE)

    def __enter__(self) -> _Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def turn(self, fd: int) -> None:
        """Read or write, whichever ``fd`` is ready for."""
        if fd == self._source_fd:
            self._read()
            if self._pending:
                self._selector.unregister(fd)
                self._selector.register(self._sink_fd, selectors.EVENT_WRITE)
            return
        if not self._pending:
            self._read()
        if self._pending:
            self._write()
        if not self._pending and self._source_fd is not None and self._source is not None:
            self._selector.unregister(self._sink_fd)
            self._selector.register(self._source_fd, selectors.EVENT_READ)

    def _read(self) -> None:
        assert self._source is not None  # noqa: S101 - turn() is not called after close
        data = (
            self._source.read1(CHUNK)
            if isinstance(self._source, io.BufferedIOBase)
            else self._source.read(CHUNK)
        )
        if data:
            self._pending = memoryview(data)
        elif data is not None:
            self._close()

    def _write(self) -> None:
        try:
            written = os.write(self._sink_fd, self._pending)
        except BlockingIOError:
            return
        except BrokenPipeError:
            # The child wants no more; its own outcome says whether that is an error.
            self._close()
            return
        self._pending = self._pending[written:]

    def _close(self) -> None:
        for fd in (self._source_fd, self._sink_fd):
            if fd is not None:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(fd)
        self._pending = memoryview(b"")
        self._source = None
        self._source_fd = None
        self._sink_fd = -1
        # A buffered writer may hold nothing here: only os.write was used.
        with contextlib.suppress(BrokenPipeError):
            self._sink.close()
        if self._read_end is not None:
            self._read_end.close()
            self._read_end = None


def _kind(source: BinaryIO) -> str:
    if isinstance(source, io.BytesIO):
        return "ready"
    try:
        mode = os.fstat(source.fileno()).st_mode
    except (OSError, AttributeError, ValueError):
        return "unknown"
    return "ready" if stat.S_ISREG(mode) or stat.S_ISBLK(mode) else "waits"


def _through_a_pipe(source: BinaryIO) -> BinaryIO:
    """A pipe that a daemon thread fills from a source that only knows ``read``."""
    read_fd, write_fd = os.pipe()

    def copy() -> None:
        with (
            os.fdopen(write_fd, "wb", buffering=0) as sink,
            contextlib.suppress(BrokenPipeError, ValueError, OSError),
        ):
            read = source.read1 if isinstance(source, io.BufferedIOBase) else source.read
            while data := read(CHUNK):
                rest = memoryview(data)
                while rest:
                    rest = rest[sink.write(rest) or 0 :]

    threading.Thread(target=copy, name="runctl-stdin", daemon=True).start()
    return os.fdopen(read_fd, "rb", buffering=0)
