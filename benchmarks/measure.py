"""Measuring: two things in turn, many times, and the medians' ratio."""

from __future__ import annotations

import itertools
import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    what: str
    ours: float
    """Median, in ``unit``."""
    peer: str
    """Who it is compared with; empty where a number stands alone."""
    theirs: float | None
    rounds: int
    target: float | None = None
    """The ratio (or, without a peer, the number) not to be above."""
    unit: str = "s"

    @property
    def ratio(self) -> float | None:
        """Ours by theirs; below one is faster."""
        return self.ours / self.theirs if self.theirs else None

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; ``None`` without one."""
        if self.target is None:
            return None
        return (self.ratio if self.ratio is not None else self.ours) <= self.target


class Skipped(Exception):
    """This benchmark cannot run here; the message says why."""


Benchmark = Callable[[], Iterator[Result]]
"""Yields its rows as they are known; raises `Skipped`."""


def interleaved(
    what: str,
    ours: Callable[[], object],
    peer: str,
    theirs: Callable[[], object],
    *,
    rounds: int,
    before: Callable[[], object] = lambda: None,
    target: float | None = None,
) -> Result:
    """Time both in turn, so that what else the computer does hits both; one unmeasured round first.

    ``before`` runs ahead of every single measurement and is not timed.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        # The one who goes first changes, too.
        order = (0, 1) if number % 2 else (1, 0)
        for index in order:
            before()
            started = time.perf_counter()
            (ours, theirs)[index]()
            elapsed = time.perf_counter() - started
            if number:
                times[index].append(elapsed)
    return Result(what, statistics.median(times[0]), peer, statistics.median(times[1]), rounds, target)


def cpu_time(what: str, run: Callable[[], object], *, rounds: int, target: float) -> Result:
    """The processor time of the processes that a call starts, for what has no peer: other work on the computer leaves
    that nearly as it is. One unmeasured round first; ``target`` is in seconds."""
    used = [_children_seconds()]
    for _ in range(rounds + 1):
        run()
        used.append(_children_seconds())
    spent = [after - before for before, after in itertools.pairwise(used)]
    return Result(what, statistics.median(spent[1:]), "", None, rounds, target)


def _children_seconds() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def command(argv: Sequence[str], **environment: str) -> Callable[[], None]:
    """A call that runs a program to its end and fails if it fails."""
    env = {**os.environ, **environment}

    def run() -> None:
        done = subprocess.run(list(argv), env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(
                f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.decode()[-2000:]}"
            )

    return run
