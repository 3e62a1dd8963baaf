"""A terminal for programs that report their progress to nothing else."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import termios
import time
from collections.abc import Iterator, Sequence
from typing import Callable

from runctl.agent.attempt.attempt import Attempt
from runctl.agent.attempt.children import Exited
from runctl.agent.errors import AgentError

BLOCK = 1 << 16


def run_in_terminal(
    attempt: Attempt,
    argv: Sequence[str],
    take: Callable[[bytes], bool],
    stuck: Callable[[float], AgentError],
    silence: float,
) -> Exited:
    """Run a program of the set-up in a terminal, to its end.

    ``take`` gets what it draws, again and again, also nothing, and says whether anything has moved on. When nothing has
    for ``silence`` seconds, the program is ended and what ``stuck`` makes of them is raised.
    """
    moved = time.monotonic()
    with terminal() as (ours, theirs):
        env = {**os.environ, **attempt.marks()}
        pid = attempt.children.start(argv, output=theirs, env=env, cwd=attempt.folder.path)
        while not attempt.children.ended(pid) and attempt.shutdown() is None:
            now = time.monotonic()
            if take(read(ours)):
                moved = now
            if now - moved > silence:
                attempt.children.end_all(1.0)
                raise stuck(silence)
            attempt.children.pause(1.0, also=[ours])
        exited = attempt.wait_setup(pid)
        take(read(ours))
    return exited


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
