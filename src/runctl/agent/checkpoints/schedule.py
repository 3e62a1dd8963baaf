"""How often a checkpoint is worth its time, when one is late, and what going without costs. Pure.

The interval is Daly's ("A higher order estimate of the optimum checkpoint interval for restart dumps", 2006), of which
Young's (1974) is the first term. Interruptions are as likely at any moment: times between them are exponential.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

LATE_AFTER = 3.0
"""Intervals after which a checkpoint that has not come is late."""
SHORTEST_SECONDS = 30.0
"""Between two requests for a checkpoint, however cheap one is."""
FIRST_COST_SECONDS = 30.0
"""What a checkpoint is taken to cost until one has been measured."""


def best_interval(cost: float, between_interruptions: float) -> float:
    """Seconds of training between two checkpoints of ``cost`` seconds each that lose the least time."""
    if cost >= between_interruptions / 2:
        return max(SHORTEST_SECONDS, between_interruptions)
    ratio = cost / (2 * between_interruptions)
    interval = math.sqrt(2 * cost * between_interruptions) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - cost
    return max(SHORTEST_SECONDS, interval)


def late_seconds(now: float, newest: float, every: float) -> float:
    """By how much the newest checkpoint (or the script's start, without one) is older than it should be; 0 if not."""
    return max(0.0, now - newest - LATE_AFTER * every)


def time_without_checkpoints(work: float, between_interruptions: float, restart: float) -> float:
    """Seconds that ``work`` seconds of training take on average where each interruption loses all of it.

    Infinite where that is beyond what a number can hold.
    """
    try:
        return (between_interruptions + restart) * math.expm1(work / between_interruptions)
    except OverflowError:
        return math.inf


def time_with_checkpoints(
    work: float, between_interruptions: float, restart: float, *, every: float, cost: float
) -> float:
    """The same with a checkpoint of ``cost`` seconds after every ``every`` seconds of training."""
    segments = max(1.0, work / every)
    each = time_without_checkpoints(min(work, every) + cost, between_interruptions, restart)
    return segments * each


def fits(size: int, bytes_per_second: float | None, seconds: float) -> bool:
    """Whether so many bytes can be sent in the time that is left, by the speed that was measured; unknown is yes."""
    return seconds > 0 and (bytes_per_second is None or size <= bytes_per_second * seconds)


def sent_before_the_newest(
    remaining: Sequence[int], bytes_per_second: float | None, seconds: float
) -> int | None:
    """Which checkpoint is sent first when the newest cannot be sent in time: the newest of those that can.

    ``remaining`` are the bytes that are left to send of each, the newest first; ``None``: the newest itself is sent.
    """
    if not remaining or fits(remaining[0], bytes_per_second, seconds):
        return None
    return next((i for i, left in enumerate(remaining) if i and fits(left, bytes_per_second, seconds)), None)


def expected_extra_seconds(
    work: float, between_interruptions: float, restart: float, *, checkpoints: bool
) -> float:
    """What interruptions add to ``work`` seconds of training: without checkpoints, or at the best interval.

    Times the price of the machine this is what going without costs.
    """
    if not checkpoints:
        return time_without_checkpoints(work, between_interruptions, restart) - work
    every = best_interval(FIRST_COST_SECONDS, between_interruptions)
    taken = time_with_checkpoints(work, between_interruptions, restart, every=every, cost=FIRST_COST_SECONDS)
    return taken - work
