"""Which blocks of a volume from a snapshot are still slow: each until it was first read, or until a rate came to it.

All bytes are there from the beginning; only the time that they take is kept here. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

BLOCK_BYTES = 512 * 1024


@dataclass
class LazyBlocks:
    """The blocks of one volume. Not safe to use from several threads by itself."""

    created: float
    """When, in seconds since 1970: a rate goes on while nobody is attached."""
    latency: float
    """Seconds that the first read of a block takes."""
    rate: float
    """Bytes per second that come by themselves, in order; 0 for none."""
    ranks: dict[int, int]
    """By index of a block: how many come before it."""
    read: set[int] = field(default_factory=set)
    """Those that were read, or written, and are fast for it."""
    on_their_way: dict[int, float] = field(default_factory=dict)
    """When blocks that somebody reads just now will be there."""

    @classmethod
    def of(cls, indices: Iterable[int], *, latency: float, rate: float, now: float) -> LazyBlocks:
        """None of them has been read."""
        return cls(now, latency, rate, {index: rank for rank, index in enumerate(indices)})

    def wait(self, offset: int, size: int, now: float) -> float:
        """How long a read of these bytes has to wait. Its blocks come side by side, and are fast from then on."""
        longest = 0.0
        for index in range(offset // BLOCK_BYTES, (offset + max(size, 1) - 1) // BLOCK_BYTES + 1):
            if self.is_fast(index, now):
                continue
            at = self.on_their_way.setdefault(index, now + self.latency)
            longest = max(longest, at - now)
            if at <= now:
                del self.on_their_way[index]
                self.read.add(index)
        return longest

    def overwrite(self, offset: int, size: int) -> None:
        """Blocks of which every byte is written need not come any more."""
        first = -(-offset // BLOCK_BYTES)
        for index in range(first, (offset + size) // BLOCK_BYTES):
            if index in self.ranks:
                self.read.add(index)

    def is_fast(self, index: int, now: float) -> bool:
        """Whether it was read, came by itself, or never was slow."""
        rank = self.ranks.get(index)
        return rank is None or index in self.read or self._came(now) > rank

    def missing(self, now: float) -> int:
        """How many are still slow."""
        came = self._came(now)
        return sum(1 for index, rank in self.ranks.items() if rank >= came and index not in self.read)

    def _came(self, now: float) -> int:
        return int((now - self.created) * self.rate / BLOCK_BYTES) if self.rate else 0

    def save(self, path: Path, now: float) -> None:
        """Written whole or not at all. Who is on its way counts as read: it will be there before anybody looks."""
        read = self.read | {index for index, at in self.on_their_way.items() if at <= now}
        state = {
            "created": self.created,
            "latency": self.latency,
            "rate": self.rate,
            "blocks": list(self.ranks),
            "read": sorted(read),
        }
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(state))
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> LazyBlocks | None:
        """What `save` wrote; ``None`` where nothing is."""
        try:
            state = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        ranks = {index: rank for rank, index in enumerate(state["blocks"])}
        return cls(state["created"], state["latency"], state["rate"], ranks, set(state["read"]))
