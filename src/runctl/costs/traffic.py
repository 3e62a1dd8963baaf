"""What requests to an object store, and data that leave a provider's region, come to. Pure.

Both are planned with, and never in the ledger: no provider tells how many of them one command has made.
"""

from __future__ import annotations

from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.costs.rates import Rate, TieredRate

GIB = 1 << 30
LISTED_AT_ONCE = 1000
"""Objects in one answer of a store."""


@dataclass(frozen=True)
class Requests:
    """What reading objects costs, at most."""

    reads: int
    listings: int
    usd: Decimal
    source: str


def requests_for(objects: int, size_bytes: int, piece_bytes: int, reads: Rate, writes: Rate) -> Requests:
    """Of so many objects that are read in pieces of that size; stores bill a listing as they bill a write."""
    pieces, listings = objects + size_bytes // piece_bytes, -(-objects // LISTED_AT_ONCE)
    total = (reads.usd * pieces + writes.usd * listings) / 1000
    return Requests(pieces, listings, total, reads.source)


@dataclass(frozen=True)
class DataOut:
    """What a GiB costs that leaves the region for this computer."""

    usd_per_gib: Decimal
    free_gib: int
    """So many GiB of a month cost nothing, of all that the account sends anywhere."""
    usd: Decimal | None
    """What is about to be sent, where that is known: at most, as the month's free GiB may be used up."""
    source: str


def data_out_of(rate: TieredRate, size_bytes: int | None = None) -> DataOut:
    """Of what is about to leave."""
    paid = rate.first.usd
    free = next((tier.start for tier in rate.tiers if tier.usd > 0), Decimal(0))
    total = None if size_bytes is None else paid * size_bytes / GIB
    return DataOut(paid, int(free), total, rate.source)
