"""Whose store an address is in."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Never

import pytest

from runctl.core.errors import Unsupported
from runctl.costs.rates import Per, Tier, TieredRate
from runctl.costs.traffic import GIB
from runctl.providers.abilities.prices import Prices
from runctl.runs.checkpoints import locations
from runctl.runs.checkpoints.locations import data_out, stored_at
from tests.runs.memory_storage import MemoryStorage
from tests.runs.sample_runs import T0, a_run

RUN = "run-98fqp847vr"


class Own(MemoryStorage):
    """A provider's bucket of the account, beside a store that has buckets of all names."""

    def holds(self, bucket: str) -> bool:
        return bucket == "own"


class Elsewhere(MemoryStorage):
    """The first provider's by its protocol alone."""

    is_elsewhere = True


class Unpriced(Prices):
    """It says of nothing what it costs."""

    def instance(self, *_: object, **__: object) -> Never:
        raise AssertionError("nobody has to know")


class Charging(Unpriced):
    """For data that leave, in every region that it has."""

    def __init__(self, usd: Decimal) -> None:
        self.rate = TieredRate((Tier(Decimal(0), usd),), Per.GIB, T0, "a list")
        self.asked: list[str | None] = []

    def data_out(self, region: str | None) -> TieredRate:
        self.asked.append(region)
        return self.rate


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Any:
    storages = {"first": MemoryStorage(), "second": Own(), "third": Unsupported("has none")}
    monkeypatch.setattr(
        locations, "plugins", lambda: [SimpleNamespace(name=name) for name in ("first", "second", "third")]
    )
    record = SimpleNamespace(provider="second")
    known = SimpleNamespace(find=lambda run_id: record if run_id == RUN else None)
    monkeypatch.setattr(locations, "run_store", lambda _session: known)
    prices = {"first": Charging(Decimal("0.09")), "second": Unpriced(), "third": Unsupported("has none")}
    return SimpleNamespace(
        storages=storages,
        prices=prices,
        provider=lambda name: SimpleNamespace(object_storage=storages[name], prices=prices[name]),
    )


@pytest.mark.parametrize(
    ("address", "provider", "owner"),
    [
        (f"s3://own/digits/{RUN}", None, "second"),
        (f"s3://own/digits/{RUN}", "second", "second"),
        # Somebody's bucket, into which a machine of the second was given keys.
        (f"s3://theirs/digits/{RUN}", None, "first"),
        (f"s3://theirs/digits/{RUN}", "second", "first"),
        ("s3://own/digits/run-unknown", None, "first"),
        (f"s3://theirs/digits/{RUN}", "third", "first"),
    ],
)
def test_the_provider_of_the_run_comes_first_where_the_bucket_is_its_own(
    session: Any, address: str, provider: str | None, owner: str
) -> None:
    assert stored_at(session, address, provider).at.storage is session.storages[owner]


@pytest.mark.parametrize(
    ("address", "ran_at", "usd", "region"),
    [
        (f"s3://own/digits/{RUN}", "second", None, []),
        (f"s3://theirs/digits/{RUN}", "first", Decimal("0.09"), ["here"]),
        # The machine's region is not one of the store's provider.
        (f"s3://theirs/digits/{RUN}", "second", Decimal("0.09"), [None]),
    ],
)
def test_data_that_leave_a_store_cost_what_its_own_provider_takes(
    session: Any, address: str, ran_at: str, usd: Decimal | None, region: list[str | None]
) -> None:
    out = data_out(session, stored_at(session, address), GIB, a_run(provider=ran_at, region="here"))
    assert (out.usd if out is not None else None) == usd
    assert session.prices["first"].asked == region


def test_a_store_of_somebody_else_has_no_price_of_the_provider_whose_protocol_it_speaks(session: Any) -> None:
    session.storages["first"] = Elsewhere()
    assert data_out(session, stored_at(session, f"s3://theirs/digits/{RUN}", "first"), GIB) is None
