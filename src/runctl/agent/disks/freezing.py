"""A file system that holds still while its volume's snapshot begins, and never for longer than was said.

Writers wait meanwhile. Whoever asked may be killed in between, so a process of its own thaws when the time is up.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from dataclasses import dataclass

from runctl.agent.errors import AgentError

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
"""Of <linux/fs.h>; what fsfreeze(8) calls."""
MOST_SECONDS = 120.0


@dataclass(frozen=True)
class Frozen:
    """What `Disks.freeze` did."""

    volume_id: str
    how: str
    """``frozen``: nothing is written until `Disks.thaw`, or until the time is up. ``flushed``: what was written so far
    is on the volume, where freezing is not possible. ``unmounted``: nobody writes to it."""
    mount_points: tuple[str, ...] = ()
    why: str = ""
    """Why it is only flushed."""


def freeze(point: str, hold_seconds: float) -> None:
    """The file system holds still, for so many seconds at the most. Raises `OSError` where it cannot."""
    # The watchman first: should we be killed after the freezing, it is there already.
    watch(point, hold_seconds)
    try:
        _ioctl(point, FIFREEZE)
    except OSError:
        _dismiss(point)
        raise


def thaw(point: str) -> bool:
    """The file system goes on. Returns whether it was frozen until now."""
    try:
        _ioctl(point, FITHAW)
    except OSError:
        return False
    finally:
        _dismiss(point)
    return True


def watch(point: str, hold_seconds: float) -> None:
    """A process that nobody has to keep alive thaws it when the time is up.

    Raises `OSError` where one watches it already.
    """
    handle = os.open(point, os.O_RDONLY | os.O_DIRECTORY)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        listener.bind(_address(point))
        child = os.fork()
        if child != 0:
            os.waitpid(child, 0)
            return
        try:
            os.setsid()
            if os.fork() == 0:
                _keep_watch(handle, listener, hold_seconds)
        finally:
            os._exit(0)
    finally:
        listener.close()
        os.close(handle)


def _keep_watch(handle: int, listener: socket.socket, hold_seconds: float) -> None:
    _let_go_of_everything_but(handle, listener.fileno())
    listener.settimeout(hold_seconds)
    try:
        listener.recv(1)
    except socket.timeout:
        fcntl.ioctl(handle, FITHAW, 0)


def _dismiss(point: str) -> None:
    """The watchman goes, and with it what keeps the file system from being unmounted."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            try:
                speaker.sendto(b".", _address(point))
            except ConnectionRefusedError:
                return
            time.sleep(0.01)


def _address(point: str) -> str:
    """In the abstract namespace: it is gone with the process, and needs no file."""
    return f"\0runctl-freeze-{os.stat(point).st_dev:x}"  # noqa: PTH116


def checked_hold(seconds: object) -> float:
    """Raises `AgentError` (``bad-request``)."""
    if not isinstance(seconds, (int, float)) or not 0 < seconds <= MOST_SECONDS:
        raise AgentError("bad-request", f"hold_seconds is a number up to {MOST_SECONDS:g}")
    return float(seconds)


def _let_go_of_everything_but(*kept: int) -> None:
    """Whoever reads what we write must see its end, also while the watchman sits there."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    for number in range(3, 1024):
        if number not in kept:
            with contextlib.suppress(OSError):
                os.close(number)
    os.chdir("/")


def _ioctl(point: str, request: int) -> None:
    handle = os.open(point, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(handle, request, 0)
    finally:
        os.close(handle)
