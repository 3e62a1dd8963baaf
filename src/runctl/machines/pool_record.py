"""What this computer has seen of spot capacity: where machines were had, refused and taken back, and for how long.

A provider's word on capacity is about everybody; this is about one's own account and the hours in which one works. It
is kept in the local state file, and only ranks pools: losing it loses no more than that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from runctl._dataclasses import dataclass
from runctl.core.clock import parse_rfc3339
from runctl.core.database import Database, StateError
from runctl.core.machine_models import Market
from runctl.providers.capacity import Offer, Pool, RefusalReason

if TYPE_CHECKING:
    from runctl.machines.renting import RefusedPool, Rental
    from runctl.providers.instance_plans import CreatePlan
    from runctl.providers.interface import Provider

REMEMBERED = timedelta(days=90)
REFUSED_LATELY = timedelta(minutes=30)
"""A pool that had no capacity so shortly ago comes after those that have not refused."""
TAKEN_BACK_LATELY = timedelta(hours=2)
"""A pool that took a machine back so shortly ago is asked when no other has one."""
USUAL_LIFE = timedelta(hours=2)
"""How long a spot machine is taken to live where nothing was seen: hours are the cautious side."""


class PoolEventKind(StrEnum):
    """What a pool did."""

    RENTED = "rented"
    REFUSED = "refused"
    INTERRUPTED = "interrupted"
    GIVEN_BACK = "given-back"


@dataclass(frozen=True)
class PoolEvent:
    """One thing that a pool did."""

    kind: PoolEventKind
    pool: Pool
    market: Market
    at: datetime
    instance_id: str | None = None
    """``None`` for a refusal."""
    reason: str = ""
    """Of a refusal: `RefusalReason`."""


@dataclass(frozen=True)
class PoolSummary:
    """What was seen of one pool in one market."""

    launches: int = 0
    refusals: int = 0
    """For want of capacity."""
    interruptions: int = 0
    last_refused_at: datetime | None = None
    last_interrupted_at: datetime | None = None
    mean_lifetime: timedelta | None = None
    """Machine time for each interruption; ``None`` where none was seen."""


@dataclass(frozen=True)
class Lifetime:
    """How long a spot machine is expected to live."""

    mean: timedelta
    interruptions: int = 0
    """That were seen here. `USUAL_LIFE` counts as one more."""


class PoolRecord:
    """The record of one provider's account and region, in the local state file."""

    def __init__(self, database: Database, provider: Provider) -> None:
        self._database = database
        self._provider = provider

    @cached_property
    def _where(self) -> tuple[str, str, str]:
        scope = self._provider.scope()
        return self._provider.name, scope.account or "", scope.region or ""

    def heard(self, rental: Rental) -> None:
        """For `Rentals`: a machine was rented or given back."""
        kinds = {"rented": PoolEventKind.RENTED, "given-back": PoolEventKind.GIVEN_BACK}
        kind = kinds.get(rental.event.value)
        if kind is not None and rental.zone is not None:
            pool = Pool(rental.instance_type, rental.zone)
            self._put(PoolEvent(kind, pool, rental.market, rental.time, rental.id))

    def refused(self, refused: RefusedPool) -> None:
        """For `Rentals`: a pool had no machine."""
        refusal = refused.refusal
        event = PoolEvent(
            PoolEventKind.REFUSED, refusal.pool, refusal.market, refused.time, reason=refusal.reason.value
        )
        self._put(event)

    def events(self, now: datetime) -> tuple[PoolEvent, ...]:
        """What is remembered, the oldest first; nothing where the file cannot be read."""
        query = "SELECT * FROM pool_events WHERE provider = ? AND account = ? AND region = ? AND at >= ? ORDER BY at"
        try:
            with self._database.reading() as connection:
                rows = connection.execute(query, (*self._where, (now - REMEMBERED).isoformat())).fetchall()
        except StateError:
            return ()
        return tuple(
            PoolEvent(
                PoolEventKind(row["kind"]),
                Pool(row["instance_type"], row["zone"]),
                Market(row["market"]),
                parse_rfc3339(row["at"]),
                row["instance_id"],
                row["reason"],
            )
            for row in rows
        )

    def lifetime(self, instance_type: str, zone: str | None, now: datetime) -> Lifetime:
        """See `expected_lifetime`."""
        return expected_lifetime(self.events(now), instance_type, zone)

    def _put(self, event: PoolEvent) -> None:
        # The same event may be told twice, by a command that finishes what an earlier one began.
        statement = (
            "INSERT OR IGNORE INTO pool_events"
            " (provider, account, region, kind, instance_type, zone, market, at, instance_id, reason)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
        values = (event.kind.value, event.pool.instance_type, event.pool.zone, event.market.value)
        with suppress(StateError), self._database.transaction() as connection:
            connection.execute(
                statement, (*self._where, *values, event.at.isoformat(), event.instance_id, event.reason)
            )


def note_interrupted(database: Database, instance_id: str, at: datetime) -> None:
    """A machine that was rented here was taken back; one that was not is not remembered."""
    statement = (
        "INSERT OR IGNORE INTO pool_events"
        " (provider, account, region, kind, instance_type, zone, market, at, instance_id, reason)"
        " SELECT provider, account, region, ?, instance_type, zone, market, ?, instance_id, ''"
        " FROM pool_events WHERE instance_id = ? AND kind = ?"
    )
    with suppress(StateError), database.transaction() as connection:
        connection.execute(
            statement,
            (PoolEventKind.INTERRUPTED.value, at.isoformat(), instance_id, PoolEventKind.RENTED.value),
        )


def summaries(events: Sequence[PoolEvent], market: Market) -> dict[Pool, PoolSummary]:
    """What the events say of each pool of a market. Pure."""
    own = [event for event in events if event.market is market]
    return {pool: _summary([event for event in own if event.pool == pool]) for pool in {e.pool for e in own}}


def expected_lifetime(events: Sequence[PoolEvent], instance_type: str, zone: str | None) -> Lifetime:
    """Of a spot machine of this type in the zone, or in any; what was not seen often is near `USUAL_LIFE`. Pure."""
    own = [
        event
        for event in events
        if event.market is Market.SPOT
        and event.pool.instance_type == instance_type
        and zone in {None, event.pool.zone}
    ]
    taken = sum(event.kind is PoolEventKind.INTERRUPTED for event in own)
    return Lifetime((USUAL_LIFE + _lived(own)) / (1 + taken), taken)


def _summary(events: Sequence[PoolEvent]) -> PoolSummary:
    began = {event.instance_id for event in events if event.kind is PoolEventKind.RENTED}
    refused = [
        event.at
        for event in events
        if event.kind is PoolEventKind.REFUSED and event.reason == RefusalReason.NO_CAPACITY.value
    ]
    taken = [event.at for event in events if event.kind is PoolEventKind.INTERRUPTED]
    return PoolSummary(
        launches=len(began),
        refusals=len(refused),
        interruptions=len(taken),
        last_refused_at=max(refused, default=None),
        last_interrupted_at=max(taken, default=None),
        mean_lifetime=_lived(events) / len(taken) if taken else None,
    )


def _lived(events: Sequence[PoolEvent]) -> timedelta:
    """The time of all machines whose beginning and end were seen."""
    began = {event.instance_id: event.at for event in events if event.kind is PoolEventKind.RENTED}
    ended: dict[str | None, datetime] = {}
    for event in events:
        if event.instance_id in began and event.kind is not PoolEventKind.RENTED:
            ended.setdefault(event.instance_id, event.at)
    return sum((end - began[instance_id] for instance_id, end in ended.items()), timedelta())


def ranked(offers: Sequence[Offer], seen: Mapping[Pool, PoolSummary], now: datetime) -> tuple[Offer, ...]:
    """The offers, the best first by what was seen of their pools, then by price. Pure.

    What took a machine back lately is asked last, unless that is all there is.
    """

    def lately(at: datetime | None, within: timedelta) -> bool:
        return at is not None and now - at < within

    def key(offer: Offer) -> tuple[bool, bool, Decimal, Pool]:
        summary = seen.get(offer.pool, PoolSummary())
        price = Decimal("Infinity") if offer.price is None else offer.price.usd
        return offer.last, lately(summary.last_refused_at, REFUSED_LATELY), price, offer.pool

    judged = [
        replace(offer, last=True)
        if offer.pool in seen and lately(seen[offer.pool].last_interrupted_at, TAKEN_BACK_LATELY)
        else offer
        for offer in offers
    ]
    if all(offer.last for offer in judged):
        judged = list(offers)
    return tuple(sorted(judged, key=key))


def with_record(plan: CreatePlan, events: Sequence[PoolEvent], now: datetime) -> CreatePlan:
    """The plan, with its offers ranked by what was seen. Pure."""
    if len(plan.offers) < 2:
        return plan
    offers = ranked(plan.offers, summaries(events, plan.market), now)
    return replace(plan, offers=offers, instance_type=offers[0].pool.instance_type)
