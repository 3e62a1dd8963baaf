"""What was seen of pools is remembered, and ranks them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from runctl.core.database import Database
from runctl.core.machine_models import InstanceState, Market
from runctl.core.tags import INTENT
from runctl.machines.pool_record import (
    USUAL_LIFE,
    Lifetime,
    PoolEvent,
    PoolEventKind,
    PoolRecord,
    PoolSummary,
    expected_lifetime,
    note_interrupted,
    ranked,
    summaries,
)
from runctl.machines.renting import RefusedPool, RentalEvent, rental_of
from runctl.machines.spot_market import pool_prices
from runctl.providers.abilities.prices import PricePoint
from runctl.providers.capacity import Offer, Pool, Refusal, RefusalReason
from tests.cli.fake_provider import FakeProvider, Script, an_instance
from tests.rates import hourly

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
A, B, C = (Pool("g5.xlarge", f"us-east-1{letter}") for letter in "abc")
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "state.db")


@pytest.fixture
def record(database: Database) -> PoolRecord:
    return PoolRecord(database, FakeProvider(Script()))


def refusal(pool: Pool, at: datetime, reason: RefusalReason = RefusalReason.NO_CAPACITY) -> RefusedPool:
    return RefusedPool("aws", Refusal(pool, Market.SPOT, reason, "Code", "message"), at)


def test_launches_refusals_and_lifetimes_are_remembered_each_once(
    record: PoolRecord, database: Database
) -> None:
    instance = an_instance("i-1", instance_type=A.instance_type, zone=A.zone, tags={INTENT: "t"})
    for _ in range(2):
        record.heard(rental_of(RentalEvent.RENTED, instance, NOW))
        record.heard(rental_of(RentalEvent.CHANGED, instance, NOW + MINUTE))
    for _ in range(2):
        note_interrupted(database, "i-1", NOW + HOUR)
    note_interrupted(database, "i-of-somebody-else", NOW + HOUR)
    over = an_instance("i-1", zone=A.zone, instance_type=A.instance_type, state=InstanceState.TERMINATED)
    record.heard(rental_of(RentalEvent.GIVEN_BACK, over, NOW + 2 * HOUR))
    record.refused(refusal(B, NOW))
    record.refused(refusal(B, NOW + MINUTE))
    record.refused(refusal(C, NOW, RefusalReason.QUOTA))

    seen = summaries(record.events(NOW + 3 * HOUR), Market.SPOT)

    assert seen[A] == PoolSummary(1, 0, 1, last_interrupted_at=NOW + HOUR, mean_lifetime=HOUR)
    assert seen[B] == PoolSummary(refusals=2, last_refused_at=NOW + MINUTE)
    assert seen[C] == PoolSummary()
    assert summaries(record.events(NOW + timedelta(days=365)), Market.SPOT) == {}


def test_the_mean_lifetime_counts_machines_that_were_not_taken_back() -> None:
    def event(kind: PoolEventKind, number: int, at: timedelta) -> PoolEvent:
        return PoolEvent(kind, A, Market.SPOT, NOW + at, f"i-{number}")

    events = [
        event(PoolEventKind.RENTED, 1, 0 * HOUR),
        event(PoolEventKind.GIVEN_BACK, 1, 5 * HOUR),
        event(PoolEventKind.RENTED, 2, 0 * HOUR),
        event(PoolEventKind.INTERRUPTED, 2, 1 * HOUR),
    ]

    assert summaries(events, Market.SPOT)[A].mean_lifetime == 6 * HOUR
    assert summaries(events[:2], Market.SPOT)[A].mean_lifetime is None
    assert summaries(events, Market.ON_DEMAND) == {}


def test_the_expected_lifetime_moves_from_the_usual_one_to_what_was_seen() -> None:
    def life(number: int, pool: Pool, lived: timedelta, end: PoolEventKind) -> list[PoolEvent]:
        instance = f"i-{number}"
        return [
            PoolEvent(PoolEventKind.RENTED, pool, Market.SPOT, NOW, instance),
            PoolEvent(end, pool, Market.SPOT, NOW + lived, instance),
        ]

    taken, given_back = PoolEventKind.INTERRUPTED, PoolEventKind.GIVEN_BACK
    events = [*life(1, A, 10 * HOUR, taken), *life(2, A, 12 * HOUR, given_back), *life(3, B, HOUR, taken)]

    assert expected_lifetime([], A.instance_type, A.zone) == Lifetime(USUAL_LIFE)
    assert expected_lifetime(events, A.instance_type, A.zone) == Lifetime((USUAL_LIFE + 22 * HOUR) / 2, 1)
    assert expected_lifetime(events, A.instance_type, None) == Lifetime((USUAL_LIFE + 23 * HOUR) / 3, 2)
    assert expected_lifetime(events, "p3.2xlarge", None) == Lifetime(USUAL_LIFE)
    assert expected_lifetime(life(4, A, 6 * HOUR, given_back), A.instance_type, A.zone).mean == 8 * HOUR


def offer(pool: Pool, price: str) -> Offer:
    return Offer(pool, hourly(price, "a test"))


@pytest.mark.parametrize(
    ("seen", "order", "last"),
    [
        ({}, [A, B, C], []),
        ({A: PoolSummary(last_refused_at=NOW - 29 * MINUTE)}, [B, C, A], []),
        ({A: PoolSummary(last_refused_at=NOW - 31 * MINUTE)}, [A, B, C], []),
        ({A: PoolSummary(last_interrupted_at=NOW - HOUR)}, [B, C, A], [A]),
        ({A: PoolSummary(last_interrupted_at=NOW - 3 * HOUR)}, [A, B, C], []),
        ({pool: PoolSummary(last_interrupted_at=NOW) for pool in (A, B, C)}, [A, B, C], []),
    ],
)
def test_offers_are_ranked_by_what_happened_lately_then_by_price(
    seen: dict[Pool, PoolSummary], order: list[Pool], last: list[Pool]
) -> None:
    offers = [offer(C, "0.3"), offer(A, "0.1"), offer(B, "0.2")]

    found = ranked(offers, seen, NOW)

    assert [each.pool for each in found] == order
    assert [each.pool for each in found if each.last] == last


def test_a_pools_mean_price_is_weighted_by_how_long_each_held() -> None:
    points = [
        PricePoint(A, Decimal("9.9"), NOW - 9 * HOUR),
        PricePoint(A, Decimal("0.1"), NOW - 5 * HOUR),
        PricePoint(A, Decimal("0.5"), NOW - 1 * HOUR),
        PricePoint(B, Decimal("0.2"), NOW - 30 * HOUR),
    ]

    cheap, other = pool_prices(points, {A.instance_type: None}, NOW - 4 * HOUR, NOW)

    assert (cheap.pool, cheap.usd, cheap.mean, cheap.changes) == (B, Decimal("0.2"), Decimal("0.2"), 0)
    assert (other.lowest, other.mean, other.highest, other.changes) == (
        Decimal("0.1"),
        Decimal("0.2"),
        Decimal("0.5"),
        1,
    )
