"""Traces of spot capacity: read from files, or made from statistics."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import msgspec

from runctl._dataclasses import dataclass
from runctl.core.errors import UsageError

Means = Literal["available", "preempted"]
"""What a number above 0 in a file says. Copies of public traces with the opposite meaning circulate."""
FORM = 'a trace is {"metadata": {"gap_seconds": 300}, "data": [1, 1, 0, …]}, one number for each probe'


@dataclass(frozen=True)
class Trace:
    """Whether one pool (a type in a zone) had capacity, probed at equal distances."""

    name: str
    gap: float
    """Seconds from one probe to the next."""
    available: tuple[bool, ...]

    @cached_property
    def lost(self) -> tuple[int, ...]:
        """For each probe the next one, itself included, without capacity; the number of probes where there is none."""
        following, found = len(self.available), []
        for probe in range(len(self.available) - 1, -1, -1):
            if not self.available[probe]:
                following = probe
            found.append(following)
        return tuple(reversed(found))

    @property
    def share(self) -> float:
        """The share of the probes with capacity."""
        return sum(self.available) / len(self.available)


class _Metadata(msgspec.Struct):
    gap_seconds: float


class _File(msgspec.Struct):
    metadata: _Metadata
    data: list[float]


def read_trace(path: Path, means: Means = "available") -> Trace:
    """The trace in a file of the form of github.com/skypilot-org/spot-traces. Raises `UsageError`."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a trace: {error}", hint=FORM) from error
    if found.metadata.gap_seconds <= 0:
        raise UsageError(f"{path} is not a trace: gap_seconds is not above 0", hint=FORM)
    if not found.data:
        raise UsageError(f"{path} is not a trace: it holds no probe", hint=FORM)
    available = tuple((number > 0) == (means == "available") for number in found.data)
    return Trace(path.stem, found.metadata.gap_seconds, available)


def read_traces(paths: Sequence[Path], means: Means = "available") -> list[Trace]:
    """One for each pool, probed at the same distances. Raises `UsageError`."""
    traces = [read_trace(path, means) for path in paths]
    for trace in traces[1:]:
        if trace.gap != traces[0].gap:
            raise UsageError(
                f"{traces[0].name} was probed every {traces[0].gap:g} s, {trace.name} every {trace.gap:g} s",
                hint="traces that are replayed together need the same gap_seconds",
            )
    return traces


@dataclass(frozen=True)
class CapacityChange:
    """A pool gets capacity, or loses it."""

    at: float
    """Seconds since the traces' start."""
    pool: int
    """Which of the traces."""
    available: bool


def changes(traces: Sequence[Trace]) -> list[CapacityChange]:
    """All changes in the order of their times, how each pool begins among them."""
    found = [
        CapacityChange(number * trace.gap, pool, now)
        for pool, trace in enumerate(traces)
        for number, (before, now) in enumerate(zip((None, *trace.available), trace.available, strict=False))
        if now is not before
    ]
    return sorted(found, key=lambda change: (change.at, change.pool))


def synthetic_traces(
    count: int,
    *,
    between_interruptions: float,
    availability: float,
    length: float,
    gap: float = 300.0,
    seed: int = 0,
) -> list[Trace]:
    """Pools that have and lack capacity in turn, independently, for exponentially distributed times.

    Times in seconds. ``between_interruptions`` is the mean time for which capacity lasts.
    """
    random_number = random.Random(seed)  # noqa: S311 (no secret comes of it)
    outage = between_interruptions * (1 - availability) / availability
    traces = []
    for number in range(1, count + 1):
        up = random_number.random() < availability
        until, available = 0.0, []
        for probe in range(max(1, int(length // gap))):
            while until <= probe * gap:
                mean = between_interruptions if up else outage
                until += random_number.expovariate(1 / mean) if mean else 0.0
                up = not up
            # `up` is already what follows `until`.
            available.append(not up)
        traces.append(Trace(f"pool-{number}", gap, tuple(available)))
    return traces
