"""A terminal for programs that say how far they are to nothing else."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import termios
import time
from collections.abc import Iterator
from typing import Callable

from runctl.agent.errors import AgentError
from runctl.agent.supervising.attempt import Attempt
from runctl.agent.supervising.children import Ended

BLOCK = 1 << 16


def drawn(
    attempt: Attempt, argv: list[str], take: Callable[[bytes], bool], stuck: Callable[[float], AgentError]
) -> Ended:
    """Run a program of the set-up in a terminal, to its end.

    ``take`` gets what it draws, again and again, also nothing, and says whether anything has moved on. Raises what
    ``stuck`` makes of the seconds for which nothing has: those that the run's container allows.
    """
    assert attempt.spec.container is not None  # noqa: S101 (the supervisor has looked)
    silence = attempt.spec.container.pull_timeout_seconds
    moved = time.monotonic()
    with terminal() as (ours, theirs):
        env = {**os.environ, **attempt.marks()}
        pid = attempt.children.start(argv, output=theirs, env=env, cwd=attempt.folder.path)
        while not attempt.children.ended(pid) and attempt.ending() is None:
            now = time.monotonic()
            if take(read(ours)):
                moved = now
            if now - moved > silence:
                attempt.children.end_all(1.0)
                raise stuck(silence)
            attempt.children.pause(1.0, also=[ours])
        ended = attempt.wait_setup(pid)
        take(read(ours))
    return ended


@contextlib.contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Two ends of a terminal, wide enough that nothing of a line is left out; ours does not block."""
    ours, theirs = pty.openpty()
    try:
        os.set_blocking(ours, False)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 200, 300, 0, 0))
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


def read(fd: int) -> bytes:
    """What has been written to the other end and not been read yet."""
    pieces = []
    with contextlib.suppress(BlockingIOError, OSError):
        while True:
            block = os.read(fd, BLOCK)
            if not block:
                break
            pieces.append(block)
    return b"".join(pieces)
