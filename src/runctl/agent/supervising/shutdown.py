"""Ends a tree of processes: SIGTERM once to whom it is for, the whole grace for what lives, then SIGKILL."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Callable

from runctl.agent.machine import processes
from runctl.agent.machine.processes import Process
from runctl.agent.supervising import stop_targets
from runctl.agent.supervising.stop_targets import History, Key

POLL_SECONDS = 0.2
"""A shell's child that ends sends us no signal."""


@dataclass(frozen=True)
class Ending:
    """A request to end what runs, from which moment on and with how much patience."""

    began: float
    """On the monotonic clock."""
    grace: float
    told: bool = False
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


class Shutdown:
    """Who of a run's processes has been told to end."""

    def __init__(self, send: Callable[[Iterable[int], int], None] = processes.send) -> None:
        self._send = send
        self._history = History()
        self.asked = False
        """The run has been told to end."""

    @property
    def told(self) -> frozenset[Key]:
        """Processes that have got SIGTERM."""
        return frozenset(self._history.told)

    def ask(self, roots: Sequence[int], table: dict[int, Process], wish: Ending) -> list[int]:
        """Whoever SIGTERM is for now has got it; returns them."""
        tree = {pid: table[pid] for pid in roots if pid in table}
        for pid in roots:
            tree.update((one.pid, one) for one in processes.descendants(pid, table))
        members = processes.members(tree.values())
        first, self.asked = not self.asked, True
        if first:
            targets = stop_targets.first_targets(roots, members)
        else:
            targets = stop_targets.next_targets(roots, members, self._history, late=wish.late)
        self._history = stop_targets.after_telling(self._history, targets, members, first=first)
        if not (first and wish.told):
            self._send(targets, signal.SIGTERM)
        return targets
