"""Which processes belong to a folder machine, and how all of them are ended.

A folder has no kernel to keep its processes together, so they are known by what they inherit: a variable in their
environment, the process that started them, the group and session that they were started in. One that gives up all
of these at once gets away.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_KERNEL_THREAD = 0x00200000
"""PF_KTHREAD in a process's flags (linux/sched.h)."""


@dataclass(frozen=True)
class Seen:
    """One living process."""

    pid: int
    parent: int
    groups: frozenset[int]
    """Ids of its process group and, where the system tells it, its session."""
    marked: bool
    """Its environment carries the machine's mark."""


def members(seen: Iterable[Seen], groups: set[int], *, never: Collection[int] = ()) -> set[int]:
    """The processes that belong to the machine: marked, in one of its groups, or started by one that belongs."""
    children: dict[int, list[int]] = {}
    found: list[int] = []
    for process in seen:
        children.setdefault(process.parent, []).append(process.pid)
        if process.marked or not process.groups.isdisjoint(groups):
            found.append(process.pid)
    belonging: set[int] = set()
    while found:
        pid = found.pop()
        if pid not in belonging and pid not in never:
            belonging.add(pid)
            found.extend(children.get(pid, ()))
    return belonging


def find(mark: str) -> list[Seen]:
    """Every living process of this computer that can be seen; ``mark`` is ``NAME=value``."""
    return list(_find_in_proc(mark.encode()) if sys.platform == "linux" else _ask_ps(mark))


def end(find: Callable[[], set[int]], *, grace_seconds: float, limit_seconds: float = 10.0) -> None:
    """None of the found processes is left: SIGTERM, then SIGKILL after the grace, to late children too.

    Raises `TimeoutError` naming what is left when the kernel does not end one of them.
    """
    asked: set[int] = set()
    started = time.monotonic()
    while remaining := find():
        waited = time.monotonic() - started
        if waited > grace_seconds + limit_seconds:
            raise TimeoutError(f"these processes do not end: {', '.join(map(str, sorted(remaining)))}")
        kill = waited >= grace_seconds
        for pid in remaining if kill else remaining - asked:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL if kill else signal.SIGTERM)
        asked |= remaining
        time.sleep(0.02)


def _find_in_proc(mark: bytes) -> Iterable[Seen]:
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        process = Path(entry.path)
        try:
            # The name in parentheses may hold anything, also blanks and parentheses.
            fields = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] not in "ZX":
            groups = frozenset((int(fields[2]), int(fields[3])))
            marked = not int(fields[6]) & _KERNEL_THREAD and _has_mark(process, mark)
            yield Seen(int(entry.name), int(fields[1]), groups, marked)


def _has_mark(process: Path, mark: bytes) -> bool:
    """One that is just becoming a program has no environment for a moment."""
    for _ in range(5):
        try:
            environment = (process / "environ").read_bytes()
        except OSError:
            return False
        if environment:
            return mark in environment.split(b"\0")
        time.sleep(0.01)
    return False


def _ask_ps(mark: str) -> Iterable[Seen]:
    """Where there is no /proc: ``ps -E`` appends a process's environment to its command."""
    columns = ["-o", "pid=", "-o", "ppid=", "-o", "pgid=", "-o", "stat=", "-o", "command="]
    table = subprocess.run(["ps", "-axww", "-E", *columns], capture_output=True, text=True, check=True).stdout
    return parse_ps(table, mark)


def parse_ps(table: str, mark: str) -> list[Seen]:
    """The table of ``ps`` with pid, ppid, pgid, stat and command with environment."""
    seen = []
    for line in table.splitlines():
        fields: Sequence[str] = line.split(None, 4)
        if len(fields) < 4 or fields[3].startswith("Z"):
            continue
        command = f" {fields[4]} " if len(fields) > 4 else ""
        seen.append(
            Seen(int(fields[0]), int(fields[1]), frozenset((int(fields[2]),)), f" {mark} " in command)
        )
    return seen
