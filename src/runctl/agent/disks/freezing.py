"""A file system that holds still while its volume's snapshot begins, and never for longer than was said.

Writers wait meanwhile. Whoever asked may be killed in between, so a process of its own thaws when the time is up.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time

from runctl._dataclasses import dataclass
from runctl.agent.errors import AgentError

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
"""Of <linux/fs.h>; what fsfreeze(8) calls."""
MOST_SECONDS = 120.0
ANSWER_SECONDS = 2.0
MESSAGE_BYTES = 512
_RENEW, _THAW, _LEAVE = b"renew", b"thaw", b"leave"
_RENEWED, _THAWED, _NOT_FROZEN, _LEFT, _NOT_YOURS = (
    b"renewed",
    b"thawed",
    b"not-frozen",
    b"left",
    b"not-yours",
)


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


def freeze(point: str, hold_seconds: float, holder: str) -> None:
    """The file system holds still, for so many seconds at the most. Raises `OSError` where it cannot.

    With the ``holder`` of an earlier call it does so for that long from now on: a command that was killed is given once
    more. While another one holds it, it cannot be frozen.
    """
    # The watchman first: should we be killed after the freezing, it is there already.
    takes_over = not _watch(point, hold_seconds, holder)
    try:
        _ioctl(point, FIFREEZE)
    except OSError as error:
        if takes_over and error.errno == errno.EBUSY:
            return
        _ask(point, _LEAVE, holder)
        _wait_until_gone(point)
        raise


def thaw(point: str, holder: str) -> bool:
    """The file system goes on, unless somebody else holds it. Returns whether ``holder`` held it until now."""
    answer = _ask(point, _THAW, holder)
    if answer == _NOT_YOURS:
        return False
    if answer is None:
        # Its watchman was killed, or there never was one.
        try:
            _ioctl(point, FITHAW)
        except OSError:
            return False
        return True
    _wait_until_gone(point)
    return answer == _THAWED


def _watch(point: str, hold_seconds: float, holder: str) -> bool:
    """A process that nobody has to keep alive thaws it when the time is up: a new one, or (``False``) the holder's own.

    Raises `OSError` where it watches for another holder.
    """
    for _ in range(2):
        try:
            watch(point, hold_seconds, holder)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            answer = _ask(point, _RENEW, holder, hold_seconds) if holder else _NOT_YOURS
            if answer == _RENEWED:
                return False
            if answer is not None:
                break
            # Its time was up just now.
        else:
            return True
    raise OSError(errno.EBUSY, "another command holds it")


def watch(point: str, hold_seconds: float, holder: str = "") -> None:
    """The watchman is there. Raises `OSError` where one is already."""
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
                _keep_watch(handle, listener, hold_seconds, holder)
        finally:
            os._exit(0)
    finally:
        listener.close()
        os.close(handle)


def _keep_watch(handle: int, listener: socket.socket, hold_seconds: float, holder: str) -> None:
    _let_go_of_everything_but(handle, listener.fileno())
    deadline = time.monotonic() + hold_seconds
    while True:
        listener.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            message, sender = listener.recvfrom(MESSAGE_BYTES)
        except socket.timeout:
            fcntl.ioctl(handle, FITHAW, 0)
            return
        action, seconds, who = _parsed(message)
        if who != holder:
            answer = _NOT_YOURS
        elif action == _RENEW:
            deadline, answer = time.monotonic() + seconds, _RENEWED
        elif action == _THAW:
            answer = _THAWED
            try:
                fcntl.ioctl(handle, FITHAW, 0)
            except OSError:
                answer = _NOT_FROZEN
        elif action == _LEAVE:
            answer = _LEFT
        else:
            continue
        with contextlib.suppress(OSError):
            listener.sendto(answer, sender)
        if answer in (_THAWED, _NOT_FROZEN, _LEFT):
            return


def _parsed(message: bytes) -> tuple[bytes, float, str | None]:
    """Action, seconds and holder; anybody on the machine can send us anything."""
    action, _, rest = message.partition(b" ")
    seconds, _, holder = rest.partition(b" ")
    try:
        return action, min(MOST_SECONDS, max(0.0, float(seconds))), holder.decode("ascii")
    except ValueError:
        return b"", 0.0, None


def _ask(point: str, action: bytes, holder: str, seconds: float = 0.0) -> bytes | None:
    """The watchman's answer; ``None`` where there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
        speaker.bind(f"\0runctl-asks-{os.getpid()}-{os.urandom(8).hex()}")
        speaker.settimeout(ANSWER_SECONDS)
        try:
            speaker.sendto(b"%s %g %s" % (action, seconds, holder.encode()), _address(point))
            return speaker.recv(MESSAGE_BYTES)
        except (ConnectionRefusedError, socket.timeout):
            return None


def _wait_until_gone(point: str) -> None:
    """The watchman's hold on the file system, which keeps it from being unmounted, ends a moment after its answer."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
            try:
                speaker.connect(_address(point))
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


def checked_holder(name: object) -> str:
    """Who holds a volume still: any short name, empty for nobody who will come back. Raises `AgentError`."""
    if not isinstance(name, str) or not name.isascii() or not (name.isprintable() and len(name) <= 128):
        raise AgentError("bad-request", "holder is a short name")
    return name


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
