"""What the ledger learns from what a provider says of a thing. Pure.

A provider's times count wherever it gives them: when a machine was launched, when it stopped or ended. This computer's
clock stands in where it does not, and then never makes a time negative or a past one later. An end that was only
estimated gives way to whatever the provider says later, also that the thing exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from runctl.core.machine_models import (
    Instance,
    InstanceState,
    Market,
    Snapshot,
    SnapshotState,
    Volume,
    VolumeState,
)
from runctl.core.tags import ATTEMPT, NAME, RUN
from runctl.costs.billing import BillingRules, Interval, PriceStep, settled, stepped, whole_seconds
from runctl.costs.entries import Entry, EntryKind, EntryState
from runctl.costs.rates import Per

_BILLED = frozenset({InstanceState.PENDING, InstanceState.RUNNING})
_GONE = frozenset({VolumeState.DELETING, VolumeState.DELETED})


def with_instance(
    entry: Entry, instance: Instance, now: datetime, rules: BillingRules, list_usd: Decimal | None = None
) -> Entry:
    """The entry of an instance that is seen so at ``now``; ``list_usd`` is what an hour of it costs on demand."""
    run_id, _, attempt = (instance.tags.get(ATTEMPT) or instance.tags.get(RUN, "")).partition("/")
    seen = replace(
        entry,
        kind=EntryKind.INSTANCE,
        resource_id=instance.id,
        zone=instance.zone or entry.zone,
        shape=instance.instance_type,
        market=instance.market.value,
        project=instance.project or entry.project,
        owner=instance.owner or entry.owner,
        name=instance.tags.get(NAME) or entry.name,
        run_id=entry.run_id or run_id or None,
        attempt=entry.attempt or (int(attempt) if attempt.isdigit() else None),
    )
    return _with_state(seen, instance, now, rules, instance.price_per_hour, list_usd)


def with_address(entry: Entry, instance: Instance, now: datetime) -> Entry:
    """The entry of an instance's public address, which is billed while the instance is; see `priced`."""
    seen = replace(entry, shape="public IPv4", zone=instance.zone or entry.zone)
    return _with_state(seen, instance, now, BillingRules(), None, None)


def priced(entry: Entry, usd: Decimal) -> Entry:
    """The entry with that price wherever none was known."""
    intervals = tuple(replace(each, usd=usd) if each.usd is None else each for each in entry.intervals)
    return replace(entry, intervals=intervals)


def with_its_machine(part: Entry, before: Entry, machine: Entry) -> Entry:
    """The entry of what comes and goes with a machine, which was known as ``before`` and is now known so."""
    goes_on = part.state.is_over and part.estimated and not machine.state.is_over
    went_along = part.state.is_over and part.ended_at == before.ended_at != machine.ended_at
    if goes_on or went_along:
        part = _reopened(part)
    if machine.state.is_over and machine.ended_at is not None:
        return ended(part, machine.ended_at, estimated=machine.estimated)
    return part


def with_volume(entry: Entry, volume: Volume, now: datetime) -> Entry:
    """The entry of a volume that is seen so at ``now``: another size or speed costs another price from then on."""
    seen = replace(
        entry,
        resource_id=volume.id,
        zone=volume.zone,
        shape=f"{volume.size_gib} GiB {volume.type}",
        project=volume.tags.get("runctl:project") or entry.project,
        owner=volume.tags.get("runctl:owner") or entry.owner,
        name=volume.name or entry.name,
    )
    if volume.state in _GONE:
        return ended(seen, now)
    return _by_the_month(seen, volume.created_at or now, now, volume.price_per_month)


def with_snapshot(entry: Entry, snapshot: Snapshot, now: datetime) -> Entry:
    """The entry of a snapshot that is seen so at ``now``.

    Its price is of all the data in it: what it shares with the snapshot before it is not billed, and not known.
    """
    data = snapshot.volume_size_gib if snapshot.data_gib is None else snapshot.data_gib
    seen = replace(
        entry,
        resource_id=snapshot.id,
        shape=f"{data} GiB",
        project=snapshot.tags.get("runctl:project") or entry.project,
        owner=snapshot.tags.get("runctl:owner") or entry.owner,
        name=snapshot.name or entry.name,
    )
    if snapshot.state in {SnapshotState.ERROR, SnapshotState.DELETED}:
        return ended(seen, now)
    return _by_the_month(seen, snapshot.created_at, now, snapshot.price_per_month)


def with_stored(
    entry: Entry, resource_id: str, size_gib: Decimal, changed: datetime, now: datetime, usd: Decimal | None
) -> Entry:
    """The entry of what is stored at an address and seen so at ``now``; ``usd`` is what all of it costs a month.

    Since it has ``changed`` last it is as large as it is now. How large it was before, only earlier looks tell: where
    it has not changed since the last one, something was deleted, or has another price, and counts from now on.
    """
    changed, now = whole_seconds(min(changed, now)), whole_seconds(now)
    seen = replace(
        entry, resource_id=resource_id, shape=f"{size_gib:.2f} GiB", state=EntryState.OPEN, seen_at=now
    )
    current = entry.current
    if current is None:
        # It was gone, and something is there again.
        start = max([changed, *(each.end for each in entry.intervals if each.end is not None)])
        step = Interval(start, None, usd, Per.MONTH)
        return replace(seen, ended_at=None, estimated=False, intervals=(*entry.intervals, step))
    if usd is None or current.usd == usd:
        return seen
    # What is deleted moves no time of what is left, nor does a new price: it was so by now.
    since = changed if entry.seen_at is None or changed > entry.seen_at else now
    if current.usd is None or since <= current.start:
        return replace(seen, intervals=(*entry.intervals[:-1], replace(current, usd=usd)))
    step = Interval(since, None, usd, Per.MONTH, continues=True)
    return replace(seen, intervals=(*entry.intervals[:-1], replace(current, end=since), step))


def with_spot_prices(entry: Entry, steps: Sequence[PriceStep], rules: BillingRules) -> Entry:
    """The entry of a spot machine with the prices that the market had; ``steps`` begin before its first second, or with
    it. Of one that has ended, nothing is left to ask then."""
    state = EntryState.CLOSED if entry.state is EntryState.ENDED else entry.state
    if not steps:
        return replace(entry, state=state)
    # What was cut before is cut anew: an answer of today knows more than one of yesterday.
    whole: list[Interval] = []
    for interval in entry.intervals:
        if interval.continues and whole:
            whole[-1] = replace(whole[-1], end=interval.end)
        else:
            whole.append(interval)
    cut = [part for each in whole for part in stepped(each, steps, rules.spot_price_holds_for)]
    return replace(entry, state=state, intervals=settled(cut, rules, spot=True, taken_back=entry.taken_back))


def ended(
    entry: Entry,
    at: datetime,
    *,
    reason: str = "",
    taken_back: bool = False,
    estimated: bool = False,
    rules: BillingRules | None = None,
) -> Entry:
    """The entry of a thing that does not exist any more. One that is closed stays as it is, but where its end was an
    estimate and this is none."""
    if entry.state.is_over:
        if estimated or not entry.estimated:
            return entry
        entry = _reopened(entry)
    at = whole_seconds(at)
    intervals = _until(entry.intervals, at)
    if rules is not None:
        spot = entry.market == Market.SPOT.value
        intervals = settled(intervals, rules, spot=spot, taken_back=taken_back)
    asked = entry.market == Market.SPOT.value and entry.kind is EntryKind.INSTANCE
    return replace(
        entry,
        state=EntryState.ENDED if asked else EntryState.CLOSED,
        intervals=intervals,
        ended_at=max([at, *(each.end for each in intervals if each.end is not None)]),
        end_reason=reason,
        taken_back=taken_back,
        estimated=entry.estimated or estimated,
    )


def vanished(entry: Entry, heard_of_at: datetime | None, rules: BillingRules | None = None) -> Entry:
    """The entry of a thing that the provider does not show any more: nobody can say when it ended.

    It counts until something was last heard of it: ``heard_of_at``, or when it was last seen.
    """
    known = [moment for moment in (heard_of_at, entry.seen_at, entry.began_at) if moment is not None]
    return ended(entry, max(known, default=entry.opened_at), estimated=True, rules=rules)


def _reopened(entry: Entry) -> Entry:
    """The entry of a thing of which more is known now than when it was taken to have ended."""
    last = entry.intervals[-1] if entry.intervals else None
    intervals = entry.intervals
    # What was stopped before it ended costs no more.
    if last is not None and last.end == entry.ended_at:
        intervals = (*entry.intervals[:-1], replace(last, end=None))
    # Of a time that nobody saw, a stop stays an estimate.
    stopped = any(not each.continues for each in entry.intervals[1:])
    return replace(
        entry,
        state=EntryState.OPEN,
        intervals=intervals,
        ended_at=None,
        end_reason="",
        taken_back=False,
        estimated=entry.estimated and stopped,
    )


def _with_state(
    entry: Entry,
    instance: Instance,
    now: datetime,
    rules: BillingRules,
    usd: Decimal | None,
    list_usd: Decimal | None,
) -> Entry:
    if entry.state.is_over:
        exists = entry.estimated and not instance.state.is_over
        told = instance.state.is_over and instance.ended_at is not None
        if not exists and not (told and whole_seconds(instance.ended_at or now) != entry.ended_at):
            return entry
        entry = _reopened(entry)
    before, now = entry.seen_at, whole_seconds(now)
    entry = replace(entry, state=EntryState.OPEN, seen_at=now)
    if instance.state in _BILLED or (rules.bills_stopped and instance.state is InstanceState.STOPPED):
        began = whole_seconds(instance.created_at)
        intervals = _running(entry.intervals, began, before, Interval(began, None, usd, Per.HOUR, list_usd))
        missed = len(intervals) > len(entry.intervals) and entry.current is not None
        return replace(entry, intervals=intervals, estimated=entry.estimated or missed)
    if instance.state is InstanceState.UNREACHABLE:
        return entry
    # It ended at the latest now, and nobody saw it later than it was last seen.
    at = instance.ended_at or (now if entry.current is not None else before) or now
    if not instance.state.is_over:
        return replace(entry, intervals=_until(entry.intervals, whole_seconds(at)))
    return ended(entry, at, reason=instance.state_reason or "", taken_back=instance.interrupted, rules=rules)


def _running(
    intervals: tuple[Interval, ...], began: datetime, seen: datetime | None, new: Interval
) -> tuple[Interval, ...]:
    current = intervals[-1] if intervals and intervals[-1].end is None else None
    if current is None:
        if intervals and intervals[-1].end is not None:
            new = replace(new, start=max(began, intervals[-1].end))
        return (*intervals, new)
    first = next(each for each in reversed(intervals) if not each.continues)
    if began > first.start:
        # It was stopped and started while nobody looked: it ran until it was last seen at the least.
        stopped = min(max(seen or current.start, current.start), began)
        return (*_until(intervals, stopped), new)
    if current.usd is None and new.usd is not None:
        return (*intervals[:-1], replace(current, usd=new.usd, list_usd=new.list_usd))
    if current.list_usd is None and new.list_usd is not None:
        return (*intervals[:-1], replace(current, list_usd=new.list_usd))
    return intervals


def _by_the_month(entry: Entry, began: datetime, now: datetime, usd: Decimal | None) -> Entry:
    if entry.state.is_over:
        if not entry.estimated:
            return entry
        entry = _reopened(entry)
    began, now = whole_seconds(began), whole_seconds(now)
    entry = replace(entry, state=EntryState.OPEN, seen_at=now)
    current = entry.current
    if current is None:
        return replace(entry, intervals=(*entry.intervals, Interval(began, None, usd, Per.MONTH)))
    if usd is None or current.usd == usd:
        return entry
    if current.usd is None or now <= current.start:
        return replace(entry, intervals=(*entry.intervals[:-1], replace(current, usd=usd)))
    step = Interval(now, None, usd, Per.MONTH, continues=True)
    return replace(entry, intervals=(*entry.intervals[:-1], replace(current, end=now), step))


def _until(intervals: tuple[Interval, ...], at: datetime) -> tuple[Interval, ...]:
    """The same, ended at that moment, where they go on; nothing lasts less than no time."""
    if not intervals or intervals[-1].end is not None:
        return intervals
    return (*intervals[:-1], replace(intervals[-1], end=max(at, intervals[-1].start)))
