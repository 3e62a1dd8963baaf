"""Reading every block of a device: what makes EBS fetch each block of a snapshot, so that nobody waits for it later."""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Callable

from runctl.agent.errors import AgentError
from runctl.agent.fill.report import Report

MIB = 1 << 20
READ = MIB
"""Bytes in one read: EBS counts up to 256 KiB (SSD) or 1 MiB (HDD) as one operation, and the kernel splits."""
PAGE = 4096
THREADS = 32
STRETCH = 256 * MIB
TRIES = 3
DEVICE_SECONDS = 60.0
"""How long a device may take to appear after the volume was attached."""
_OPENER = (
    "import os, socket, sys;"
    "d = os.open(sys.argv[1], os.O_RDONLY | int(sys.argv[2]));"
    "socket.send_fds(socket.socket(fileno=0), [b'.'], [d])"
)


def stretches(size: int, each: int = STRETCH) -> list[tuple[int, int]]:
    """Begin and end of what is read in one go, in order, without gaps. Pure."""
    return [(begin, min(size, begin + each)) for begin in range(0, size, each)]


def device_of(reference: str) -> Path:
    """The device of an attached volume by its serial, never by guessing names; or the path given.

    Raises `AgentError` (``no-device``).
    """
    if not reference.startswith("vol-"):
        return Path(reference)
    deadline = time.monotonic() + DEVICE_SECONDS
    while True:
        found = _by_serial(reference.replace("-", "", 1))
        if found is not None:
            return found
        if time.monotonic() >= deadline:
            raise AgentError(
                "no-device", f"no device of this machine is {reference}", "is the volume still attached?"
            )
        time.sleep(0.5)


def _by_serial(serial: str) -> Path | None:
    for file in sorted(Path("/sys/block").glob("*/device/serial")):
        with suppress(OSError):
            if file.read_text(encoding="ascii", errors="replace").strip() == serial:
                return Path("/dev") / file.parent.parent.name
    for link in sorted(Path("/dev/disk/by-id").glob(f"*{serial}*")):
        if "-part" not in link.name and link.exists():
            return link.resolve()
    return None


def read_device(device: Path, report: Report, *, threads: int = THREADS) -> None:
    """Every block has been read; the report's last line says how many bytes. Raises `AgentError`."""
    begun = time.monotonic()
    descriptor, direct = _open(device)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if not size:
            raise AgentError("empty-device", f"{device} has no blocks", "is the volume still attached?")
        report.say("plan", device=str(device), bytes=size, direct=direct)
        moved = _Counter()
        with ThreadPoolExecutor(threads) as pool:
            stop = threading.Event()
            try:
                _all(pool, descriptor, size, moved, stop, report, threads)
            except BaseException:
                stop.set()
                raise
        report.say(
            "result",
            device=str(device),
            bytes=moved.value,
            seconds=round(time.monotonic() - begun, 3),
            direct=direct,
        )
    finally:
        os.close(descriptor)


class _Counter:
    def __init__(self) -> None:
        self.value = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self.value += count


def _all(
    pool: ThreadPoolExecutor,
    descriptor: int,
    size: int,
    moved: _Counter,
    stop: threading.Event,
    report: Report,
    threads: int,
) -> None:
    begun = time.monotonic()
    left = iter(stretches(size, min(STRETCH, max(READ, size // (threads * 4) // READ * READ))))
    running: set[Future[None]] = set()
    more = True
    while more or running:
        while more and len(running) < threads:
            span = next(left, None)
            if span is None:
                more = False
            else:
                running.add(pool.submit(_read, descriptor, span, moved.add, stop))
        ended, running = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
        for future in ended:
            future.result()
        report.progress(
            last=not (more or running),
            bytes=moved.value,
            of_bytes=size,
            moved=moved.value,
            seconds=round(time.monotonic() - begun, 3),
        )


def _read(descriptor: int, span: tuple[int, int], add: Callable[[int], None], stop: threading.Event) -> None:
    """Direct reads need memory that begins at a page, which an anonymous map does, and whole pages at a time."""
    at, end = span
    view = memoryview(mmap.mmap(-1, READ))
    while at < end and not stop.is_set():
        wanted = min(READ, -(-(end - at) // PAGE) * PAGE)
        count = min(end - at, _once(descriptor, view[:wanted], at))
        at += count
        add(count)


def _once(descriptor: int, into: memoryview, at: int) -> int:
    for attempt in range(TRIES):
        try:
            count = os.preadv(descriptor, [into], at)
        except OSError as error:
            if attempt + 1 == TRIES:
                raise AgentError(
                    "read-failed",
                    f"the device cannot be read at byte {at:,}: {error.strerror}",
                    "check the volume's status: aws ec2 describe-volume-status",
                ) from error
            time.sleep(1.0)
        else:
            if not count:
                raise AgentError("read-failed", f"the device ended at byte {at:,}", "is it still attached?")
            return count
    raise AssertionError


def _open(device: Path) -> tuple[int, bool]:
    """A descriptor to read from, and whether reads go past the page cache."""
    refused: OSError | None = None
    for flag in (os.O_DIRECT, 0):
        try:
            return os.open(device, os.O_RDONLY | flag | os.O_CLOEXEC), bool(flag)
        except PermissionError as error:
            refused = error
            opened = _opened_by_root(device, flag)
            if opened is not None:
                return opened, bool(flag)
        except FileNotFoundError as error:
            raise AgentError("no-device", f"there is no {device}", "is the volume still attached?") from error
        except OSError as error:
            refused = error
    raise AgentError(
        "cannot-read",
        "{} cannot be opened: {}".format(device, refused.strerror if refused else ""),
        "the login user needs sudo without a password",
    )


def _opened_by_root(device: Path, flag: int) -> int | None:
    """Root opens it and hands it over; everything else is done as the login user, so that a stop reaches it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = subprocess.run(
            ["sudo", "-n", sys.executable, "-c", _OPENER, str(device), str(flag)],
            stdin=theirs.fileno(),
            capture_output=True,
            check=False,
        )
        if done.returncode:
            return None
        ours.settimeout(5)
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        return descriptors[0] if descriptors else None
