"""Ends a tree of processes: SIGTERM once to whom it is for, the whole grace for what lives, then SIGKILL."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Iterable, Sequence
from typing import Callable

from runctl._dataclasses import dataclass
from runctl.agent.machine import processes, stop_targets
from runctl.agent.machine.processes import Process
from runctl.agent.machine.stop_targets import History, Key, Member

POLL_SECONDS = 0.2
"""A shell's child that ends sends us no signal."""


@dataclass(frozen=True)
class Shutdown:
    """When what runs was told to end, and how long it may take."""

    began: float
    """On the monotonic clock."""
    grace: float
    everybody_told: bool = False
    """Everybody on the machine has got SIGTERM already, by an init that tells all when the machine goes down."""

    @property
    def elapsed(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self.began

    @property
    def over(self) -> bool:
        """The grace has been had."""
        return self.elapsed >= self.grace

    @property
    def late(self) -> bool:
        """The rest of the grace is for what has not been told yet."""
        return self.elapsed >= self.grace * stop_targets.LAST_CALL


class ProcessStopper:
    """Who of a run's processes has been told to end."""

    def __init__(self, send: Callable[[Iterable[int], int], None] = processes.send) -> None:
        self._send = send
        self._history = History()
        self.requested = False
        """The run has been told to end."""
        self.told_at: float | None = None
        """When the first of its processes got SIGTERM, in seconds since the epoch."""

    @property
    def told(self) -> frozenset[Key]:
        """Processes that have got SIGTERM."""
        return frozenset(self._history.told)

    def request(self, roots: Sequence[int], table: dict[int, Process], shutdown: Shutdown) -> list[int]:
        """Whoever SIGTERM is for now has got it; returns them."""
        tree = {pid: table[pid] for pid in roots if pid in table}
        for pid in roots:
            tree.update((process.pid, process) for process in processes.descendants(pid, table))
        members = run_members(tree.values())
        if not members:
            # It has ended by itself, before anybody could tell it.
            return []
        first, self.requested = not self.requested, True
        if first:
            targets = stop_targets.first_targets(roots, members)
        else:
            targets = stop_targets.next_targets(roots, members, self._history, late=shutdown.late)
        self._history = stop_targets.after_telling(self._history, targets, members, first=first)
        if not (first and shutdown.everybody_told):
            self._send(targets, signal.SIGTERM)
        if targets and self.told_at is None:
            self.told_at = time.time()
        return targets


def ask_for_checkpoint(
    root: int, number: int, send: Callable[[Iterable[int], int], None] = processes.send
) -> list[int]:
    """Those below ``root``, itself included, that have a handler for this signal have got it; returns them."""
    table = processes.table()
    tree = [table[root]] if root in table else []
    targets = stop_targets.checkpoint_targets(
        [root], run_members([*tree, *processes.descendants(root, table)]), number
    )
    send(targets, number)
    return targets


def run_members(tree: Iterable[Process]) -> dict[int, Member]:
    """These processes, with their command lines and what they do with signals (where the kernel tells: Linux)."""
    return {process.pid: _member(process) for process in tree if process.state not in "ZX"}


def _member(process: Process) -> Member:
    argv: tuple[str, ...] = ()
    caught = ignored = frozenset()  # type: frozenset[int]
    folder = processes.PROC / str(process.pid)
    with contextlib.suppress(OSError):
        arguments = (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        argv = tuple(part.decode(errors="replace") for part in arguments if part or len(arguments) > 1)
        status = (folder / "status").read_text(errors="replace")
        caught, ignored = parse_signals(status, "SigCgt"), parse_signals(status, "SigIgn")
    return Member(process.pid, process.parent, argv, process.name, process.started, caught, ignored)


def parse_signals(status: str, field: str) -> frozenset[int]:
    """The signals of a mask in ``/proc/PID/status`` (proc(5))."""
    found = re.search(rf"^{field}:\s*([0-9a-f]+)$", status, re.MULTILINE)
    mask = int(found.group(1), 16) if found else 0
    return frozenset(number for number in range(1, 65) if mask >> (number - 1) & 1)
