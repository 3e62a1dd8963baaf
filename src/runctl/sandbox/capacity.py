"""How many instances there can be in a zone, of a type and in a market: what makes EC2 say that it has no capacity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Pool:
    """A set of instances that share capacity; ``None`` is any."""

    zone: str | None = None
    instance_type: str | None = None
    market: str | None = None
    """``spot`` or ``on-demand``."""

    def holds(self, other: Pool) -> bool:
        """Whether an instance of ``other`` is one of this pool."""
        pairs = (
            (self.zone, other.zone),
            (self.instance_type, other.instance_type),
            (self.market, other.market),
        )
        return all(own is None or own == others for own, others in pairs)


def has_room(wanted: Pool, count: int, limits: Mapping[Pool, int], running: Iterable[Pool]) -> bool:
    """Whether ``count`` more instances fit; ``limits`` is the most that there can be at once in each pool.

    What is above a limit already stays: EC2 refuses new instances, it does not end those that run.
    """
    running = list(running)
    return all(
        sum(limited.holds(instance) for instance in running) + count <= most
        for limited, most in limits.items()
        if limited.holds(wanted)
    )
