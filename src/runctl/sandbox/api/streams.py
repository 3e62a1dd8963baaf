"""Copy bytes from one socket to another, by the kernel where it can."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket

PIPE_BYTES = 1 << 20
"""As large as an unprivileged user's pipe may be by default."""
_F_SETPIPE_SZ = 1031


def pump(source: socket.socket, sink: socket.socket, limit: int | None = None) -> int:
    """Copies everything from ``source`` to ``sink``, or ``limit`` bytes of it; returns how many.

    Both must block. Raises `OSError` when one side goes before its end.
    """
    if limit == 0:
        return 0
    if not hasattr(os, "splice"):
        return _copy(source, sink, limit)
    reading, writing = os.pipe()
    try:
        with contextlib.suppress(OSError):
            fcntl.fcntl(writing, _F_SETPIPE_SZ, PIPE_BYTES)
        return _splice(source.fileno(), sink.fileno(), (reading, writing), limit)
    finally:
        os.close(reading)
        os.close(writing)


def _splice(source: int, sink: int, pipe: tuple[int, int], limit: int | None) -> int:
    done = 0
    while limit is None or done < limit:
        wanted = PIPE_BYTES if limit is None else min(PIPE_BYTES, limit - done)
        waiting = os.splice(source, pipe[1], wanted)
        if waiting == 0:
            break
        done += waiting
        while waiting:
            waiting -= os.splice(pipe[0], sink, waiting)
    return done


def _copy(source: socket.socket, sink: socket.socket, limit: int | None) -> int:
    done = 0
    buffer = memoryview(bytearray(PIPE_BYTES))
    while limit is None or done < limit:
        wanted = PIPE_BYTES if limit is None else min(PIPE_BYTES, limit - done)
        count = source.recv_into(buffer[:wanted])
        if count == 0:
            break
        sink.sendall(buffer[:count])
        done += count
    return done
