"""Whether a volume made from a snapshot is better read, or left to the rate that was paid for. Pure."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from runctl._dataclasses import dataclass
from runctl.core.money import usd
from runctl.core.text import time_span
from runctl.providers.abilities.filling import VolumeOrigin
from runctl.storage.machines import Estimate


class Way(StrEnum):
    """How the blocks get there."""

    DONE = "done"
    """They are there."""
    WAIT = "wait"
    """The initialisation rate brings them; it is paid already."""
    READ = "read"
    """Every block is read."""


@dataclass(frozen=True)
class Decision:
    """What to do, and what was weighed."""

    way: Way
    reason: str
    seconds: float
    considered: tuple[str, ...] = ()
    """In words: each way with its time and price."""


def decide(origin: VolumeOrigin, size_bytes: int, reading: Estimate) -> Decision:
    """Wait where a rate is paid for and reading would not be done in half the time; else read.

    ``reading`` is what reading everything takes and costs at the least: blocks that EBS has to fetch come slower.
    """
    if origin.complete:
        return Decision(Way.DONE, "all its blocks are loaded", 0.0)
    facts = [f"reading every block: at least {_span(reading.seconds)}, {_price(reading)}"]
    if origin.rate_mibps is None:
        if origin.rate_price is not None and origin.rate_seconds is not None:
            facts.append(
                "a new volume from the snapshot with the highest initialisation rate: about"
                f" {_span(origin.rate_seconds)}, {usd(origin.rate_price.usd)}"
            )
        return Decision(Way.READ, "it was made without an initialisation rate", reading.seconds, tuple(facts))
    left = origin.remaining_seconds
    if left is None:
        share = 1 - (origin.progress or 0) / 100
        left = int(size_bytes * share / (origin.rate_mibps * (1 << 20)))
    facts.insert(
        0, f"its initialisation rate of {origin.rate_mibps} MiB/s: about {_span(left)}, paid already"
    )
    if left <= reading.seconds * 2:
        return Decision(
            Way.WAIT, "its initialisation rate brings the blocks, and is paid already", left, tuple(facts)
        )
    return Decision(Way.READ, "reading is done in less than half the time", reading.seconds, tuple(facts))


def _price(reading: Estimate) -> str:
    if reading.usd is None:
        return "at a price that is not known"
    return usd(reading.usd) if reading.usd else "on a machine that runs anyway"


def _span(seconds: float) -> str:
    return time_span(timedelta(seconds=max(1, round(seconds))))
