"""What can be compared of a bill that tells one sum for all the time of a thing. Pure.

When a thing existed is the ledger's to say, where that has it: a provider may write down what it bills at the end, or
days later.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from enum import Enum

from runctl._dataclasses import dataclass
from runctl.core.money import usd
from runctl.costs.entries import Entry
from runctl.providers.abilities.bill import BilledAmount, OneSum


class _Lies(Enum):
    """Where a thing's time lies, seen from the time in question."""

    INSIDE = "inside"
    ACROSS = "across"
    OUTSIDE = "outside"


@dataclass(frozen=True)
class Comparable:
    """Both sides, of the same things."""

    amounts: tuple[BilledAmount, ...]
    entries: tuple[Entry, ...]
    left_out: tuple[str, ...]
    """A sentence on each thing that is on neither side, as only a part of its time lies in between."""


def comparable(
    amounts: Sequence[BilledAmount],
    entries: Sequence[Entry],
    since: datetime,
    until: datetime,
    *,
    in_one_sum: Collection[str] = (),
) -> Comparable:
    """What of both sides is of the time from ``since`` to ``until`` alone.

    ``entries`` are those of that time, and those of all things that an amount is the one sum of. ``in_one_sum`` are the
    kinds of things that are billed so, whether there is an amount yet or not.
    """
    sums = {amount.one_sum.id: amount for amount in amounts if amount.one_sum is not None}
    lies = {
        **{found.id: _lies(found.first, found.last, since, until) for found in _one_sums(amounts)},
        **{
            entry.resource_id: _lies(entry.began_at, entry.ended_at, since, until)
            for entry in entries
            if entry.resource_id is not None and entry.began_at is not None and entry.kind.value in in_one_sum
        },
    }
    kept = {identifier for identifier, where in lies.items() if where is _Lies.INSIDE}
    kinds = {entry.resource_id: entry.kind.value for entry in entries}
    return Comparable(
        tuple(amount for amount in amounts if amount.one_sum is None or amount.one_sum.id in kept),
        tuple(
            entry
            for entry in entries
            if all(each in kept for each in (entry.resource_id, entry.machine) if each in lies)
        ),
        tuple(
            _why_not(identifier, kinds, sums) for identifier, where in lies.items() if where is _Lies.ACROSS
        ),
    )


def _one_sums(amounts: Sequence[BilledAmount]) -> list[OneSum]:
    return [amount.one_sum for amount in amounts if amount.one_sum is not None]


def _lies(first: datetime, last: datetime | None, since: datetime, until: datetime) -> _Lies:
    """``last`` is ``None`` for what goes on."""
    if first >= until or (last is not None and last < since):
        return _Lies.OUTSIDE
    return _Lies.INSIDE if first >= since and last is not None and last < until else _Lies.ACROSS


def _why_not(identifier: str, kinds: Mapping[str | None, str], sums: Mapping[str, BilledAmount]) -> str:
    amount = sums.get(identifier)
    if amount is None:
        named, billed = (
            f"{kinds[identifier]} {identifier}",
            "what is billed for it in one sum is not told yet",
        )
    else:
        named, billed = amount.usage, f"{usd(amount.usd)} is billed for it in one sum"
    return f"{named} is not compared: {billed}, and not all of its time lies in between"
