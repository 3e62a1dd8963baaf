"""What is stored is in the ledger as each look found it, from its last change on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from runctl.core.database import Database
from runctl.costs.entries import Entry, EntryKind, EntryState
from runctl.costs.ledger import Ledger
from runctl.costs.rates import Per, Rate, Tier, TieredRate
from runctl.machines.ledger_record import LedgerRecord
from runctl.machines.storage_record import note_stored
from runctl.providers.abilities.inventory import Listing, Resource, ResourceKind, Unread
from runctl.providers.abilities.prices import FreePrices, StoragePrices
from tests.cleanup.resources import a_resource
from tests.cli.fake_provider import FakeProvider, Script

# A month of 30 days.
JUNE = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
RUN_ID = "run-7kq2m9xd4t"
OBJECTS = a_resource(
    ResourceKind.OBJECTS,
    f"s3://b/{RUN_ID}/",
    name=RUN_ID,
    region=None,
    created_at=JUNE,
    age=None,
    size_bytes=100 << 30,
)
IMAGE = a_resource(
    ResourceKind.IMAGE, "runctl/digits@sha256:1", created_at=JUNE, age=None, size_bytes=10 << 30
)


class Prices(FreePrices):
    """0.03 USD for a GiB-month of objects, 0.10 of images."""

    def __init__(self) -> None:
        super().__init__("a test")

    def storage(self, region: str | None) -> StoragePrices:
        tiers = (Tier(Decimal(0), Decimal("0.03")), Tier(Decimal(50_000), Decimal("0.02")))
        free = Rate(Decimal(0), Per.REQUESTS, JUNE, "a test")
        return StoragePrices(TieredRate(tiers, Per.GIB_MONTH, JUNE, "a test"), free, free)

    def image_storage(self, region: str | None) -> Rate:
        return Rate(Decimal("0.10"), Per.GIB_MONTH, JUNE, "a test")


class Looks:
    """A ledger, and what was found at each look."""

    def __init__(self, database: Database) -> None:
        provider = FakeProvider(Script())
        provider.prices = Prices()
        self.record = LedgerRecord(database, provider)
        self.ledger = Ledger(database)

    def found(self, day: int, *resources: Resource, unread: tuple[Unread, ...] = ()) -> None:
        region = self.record.scope[2]
        note_stored(self.record, Listing(resources, unread, (region,)), JUNE + day * DAY)

    def entries(self) -> list[Entry]:
        return self.ledger.select("TRUE", ())

    def cost(self, day: int) -> Decimal:
        return sum((entry.cost(JUNE + day * DAY) for entry in self.entries()), Decimal(0))


@pytest.fixture
def looks(tmp_path: Path) -> Iterator[Looks]:
    database = Database(tmp_path / "state.db")
    yield Looks(database)
    database.close()


def test_objects_of_a_run_and_images_cost_by_the_month_from_their_last_change_on(looks: Looks) -> None:
    looks.found(10, OBJECTS, IMAGE)

    objects, image = looks.entries()
    assert (objects.kind, objects.run_id, objects.minimum_seconds) == (EntryKind.STORAGE, RUN_ID, 0)
    assert (image.run_id, image.state) == (None, EntryState.OPEN)
    assert (objects.cost(JUNE + 30 * DAY), image.cost(JUNE + 30 * DAY)) == (Decimal(3), Decimal(1))


def test_what_has_grown_costs_more_from_its_change_on_and_a_look_in_between_changes_nothing(
    looks: Looks,
) -> None:
    looks.found(1, OBJECTS)
    looks.found(5, OBJECTS)
    looks.found(20, replace(OBJECTS, created_at=JUNE + 10 * DAY, size_bytes=200 << 30))

    # Ten days of 3 USD a month, twenty of 6.
    assert looks.cost(30) == Decimal(5)
    assert len(looks.entries()) == 1


def test_what_was_deleted_has_cost_until_it_was_missed(looks: Looks) -> None:
    looks.found(0, replace(OBJECTS, size_bytes=500 << 30))
    # What is left was there before: its time is as it was.
    looks.found(30, replace(OBJECTS, size_bytes=10 << 30))
    assert looks.cost(30) == Decimal(15)

    until_then = looks.cost(60)
    looks.found(60, replace(OBJECTS, size_bytes=5 << 30))
    assert Decimal("15.29") < looks.cost(60) == until_then


def test_a_new_price_counts_from_when_it_was_known(looks: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    looks.found(0, IMAGE)
    dearer = Rate(Decimal("0.20"), Per.GIB_MONTH, JUNE, "a test")
    monkeypatch.setattr(Prices, "image_storage", lambda *_: dearer)
    looks.found(30, IMAGE)

    assert looks.cost(30) == Decimal(1)
    # July has 31 days.
    assert looks.cost(61) == Decimal(3)


def test_what_is_gone_ended_when_it_was_last_seen_and_may_come_back(looks: Looks) -> None:
    looks.found(10, OBJECTS)
    looks.found(15)
    (gone,) = looks.entries()
    assert (gone.state, gone.ended_at, gone.estimated) == (EntryState.CLOSED, JUNE + 10 * DAY, True)

    looks.found(25, replace(OBJECTS, created_at=JUNE + 20 * DAY))

    (back,) = looks.entries()
    assert (back.state, back.estimated) == (EntryState.OPEN, False)
    assert looks.cost(30) == Decimal(2)


def test_what_could_not_be_read_is_not_gone(looks: Looks) -> None:
    looks.found(10, OBJECTS)
    looks.found(15, unread=(Unread("aws", None, "buckets", "you may not", "permission"),))

    assert [entry.state for entry in looks.entries()] == [EntryState.OPEN]


def test_images_of_a_region_that_was_not_asked_are_not_gone(looks: Looks) -> None:
    looks.found(10, replace(IMAGE, region="eu-west-1"))
    looks.found(15)

    assert [entry.state for entry in looks.entries()] == [EntryState.OPEN]


def test_objects_that_are_gone_are_closed_after_a_change_of_region_too(
    looks: Looks,
) -> None:
    looks.found(10, OBJECTS)
    provider, account, _ = looks.record.scope
    looks.record.__dict__["scope"] = (provider, account, "eu-west-1")
    looks.found(15)

    assert [entry.state for entry in looks.entries()] == [EntryState.CLOSED]


def test_what_is_on_its_way_to_a_machine_has_no_row(looks: Looks) -> None:
    looks.found(1, replace(OBJECTS, state="staged", name=None))

    assert looks.entries() == []


def test_the_same_image_in_two_regions_costs_in_each(looks: Looks) -> None:
    other = replace(IMAGE, region="eu-west-1")
    for day in (0, 10):
        looks.found(day, IMAGE, other)
    assert [(each.region, each.resource_id) for each in looks.entries()] == [
        ("us-east-1", "runctl/digits@sha256:1 in us-east-1"),
        ("eu-west-1", "runctl/digits@sha256:1 in eu-west-1"),
    ]
    assert looks.cost(30) == 2


def test_an_image_that_was_written_down_without_its_region_keeps_its_row(looks: Looks) -> None:
    looks.found(0, IMAGE)
    (entry,) = looks.entries()
    looks.ledger.put(replace(entry, resource_id=IMAGE.id))
    looks.found(10, replace(IMAGE, region="eu-west-1"), IMAGE)
    assert {each.region: each.began_at for each in looks.entries()} == {"us-east-1": JUNE, "eu-west-1": JUNE}
    assert len(looks.entries()) == 2
