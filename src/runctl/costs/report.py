"""What was spent, by whatever it is asked by: the entries of the ledger, cut and summed. Pure.

Every grouping sums differences of the same accrued amounts (`runctl.costs.billing`), so that all of them come to the
same total.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from runctl._dataclasses import dataclass
from runctl.costs.billing import NOTHING, day_start, next_month
from runctl.costs.entries import NONE, By, ClosedSum, Entry, EntryKind


@dataclass(frozen=True)
class RunTime:
    """A time in which an instance worked for a run."""

    run_id: str
    instance_id: str
    start: datetime
    end: datetime | None
    attempt: int = 1


@dataclass(frozen=True)
class CostLine:
    """One group of a report."""

    key: str
    usd: Decimal
    saved_usd: Decimal
    """What the same would have cost more on demand."""
    things: int
    """Rented things that cost something of it."""


@dataclass(frozen=True)
class CostReport:
    """What was spent from one moment to another."""

    since: datetime
    until: datetime
    by: By
    lines: tuple[CostLine, ...]
    usd: Decimal
    """The sum of the lines, to the last digit."""
    saved_usd: Decimal
    unpriced: tuple[str, ...] = ()
    """Things of which no price is known: they are not in the sums."""
    estimated: tuple[str, ...] = ()
    """Things whose end the provider did not tell: it was taken to be when they were last heard of."""
    unsettled: tuple[str, ...] = ()
    """Why the ledger may not know all of it, a sentence each."""


@dataclass
class _Sum:
    usd: Decimal = NOTHING
    list_usd: Decimal = NOTHING
    things: int = 0


Piece = tuple[str, datetime, datetime]
"""A key, and the time of an entry that belongs to it."""


def report(
    entries: Sequence[Entry],
    by: By,
    since: datetime,
    until: datetime,
    runs: Sequence[RunTime] = (),
    *,
    closed: Sequence[ClosedSum] = (),
    unsettled: Sequence[str] = (),
) -> CostReport:
    """What the entries cost from ``since`` to ``until``; ``runs`` are needed by run only.

    ``closed`` are sums of entries that are not among these; see `Ledger.closed_sums`.
    """
    sums = {each.key: _Sum(each.usd, each.list_usd, each.things) for each in closed}
    pieces = _pieces(by, runs)
    unpriced, estimated = [], []
    for entry in entries:
        began = entry.began_at
        if began is None:
            continue
        start, end = max(since, began), until if entry.ended_at is None else min(until, entry.ended_at)
        if end < start or start >= until:
            continue
        name = entry.told_id or f"{entry.machine} {entry.part}".strip()
        if not entry.is_priced:
            unpriced.append(name)
        if entry.estimated:
            estimated.append(name)
        before = (NOTHING, NOTHING) if began >= since else _both(entry, since)
        seen: set[str] = set()
        cut = list(pieces(entry, start, end))
        for index, (key, _, to) in enumerate(cut):
            # Whatever is billed beyond a short life's end, as a minimum, is its last piece's.
            after = _both(entry, until if index == len(cut) - 1 else to)
            total = sums.setdefault(key, _Sum())
            total.usd += after[0] - before[0]
            total.list_usd += after[1] - before[1]
            total.things += key not in seen
            seen.add(key)
            before = after
    lines = [
        CostLine(key, total.usd, total.list_usd - total.usd, total.things) for key, total in sums.items()
    ]
    ordered = by in {By.DAY, By.MONTH}
    lines.sort(key=lambda line: line.key if ordered else (-line.usd, line.key))
    return CostReport(
        since,
        until,
        by,
        tuple(lines),
        sum((line.usd for line in lines), NOTHING),
        sum((line.saved_usd for line in lines), NOTHING),
        tuple(unpriced),
        tuple(estimated),
        tuple(unsettled),
    )


_KEYS: Mapping[By, Callable[[Entry], str | None]] = {
    By.PROJECT: lambda entry: entry.project,
    By.USER: lambda entry: entry.owner,
    By.PROVIDER: lambda entry: entry.provider,
    By.KIND: lambda entry: entry.kind.value,
}


def _pieces(by: By, runs: Sequence[RunTime]) -> Callable[[Entry, datetime, datetime], Iterator[Piece]]:
    if by is By.DAY:
        return _by_day
    if by is By.MONTH:
        return _by_month
    if by is By.RUN:
        known: dict[str, list[RunTime]] = {}
        for run in runs:
            known.setdefault(run.instance_id, []).append(run)
        for times in known.values():
            times.sort(key=lambda time: (time.start, time.run_id))
        return lambda entry, start, end: by_run(entry, start, end, known)
    key = _KEYS[by]

    def whole(entry: Entry, start: datetime, end: datetime) -> Iterator[Piece]:
        yield key(entry) or NONE, start, end

    return whole


def _both(entry: Entry, until: datetime) -> tuple[Decimal, Decimal]:
    """What was accrued until then, as it was paid and on demand."""
    usd = entry.cost(until)
    return usd, entry.list_cost(until) if entry.has_list_price else usd


def _by_day(entry: Entry, start: datetime, end: datetime) -> Iterator[Piece]:
    del entry
    while True:
        until = day_start(start) + timedelta(days=1)
        yield f"{start:%Y-%m-%d}", start, min(end, until)
        if until >= end:
            return
        start = until


def _by_month(entry: Entry, start: datetime, end: datetime) -> Iterator[Piece]:
    del entry
    while True:
        until = next_month(start)
        yield f"{start:%Y-%m}", start, min(end, until)
        if until >= end:
            return
        start = until


def by_run(
    entry: Entry, start: datetime, end: datetime, runs: Mapping[str, Sequence[RunTime]]
) -> Iterator[Piece]:
    """The time of an entry, cut by the runs that its instance worked for; each moment belongs to one run at most.

    What was rented for a run is the run's from its first to its last second. Of several runs at once, it is that
    which began first.
    """
    machine = entry.machine or (entry.resource_id if entry.kind is EntryKind.INSTANCE else None)
    times = runs.get(machine or "", ())
    own = entry.run_id
    if own is not None or not times:
        yield own or NONE, start, end
        return
    first = start
    for run in times:
        begun, over = max(run.start, start), end if run.end is None else min(run.end, end)
        if over <= begun or over <= start:
            continue
        if begun > start:
            yield NONE, start, begun
        yield run.run_id, begun, over
        start = over
    # A life that was over at once has a minimum, and belongs to nobody.
    if start < end or start == first:
        yield NONE, start, end
