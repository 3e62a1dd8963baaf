from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from runctl.cleanup.pricing import MonthlyPrices
from runctl.core.errors import Unreachable, Unsupported
from runctl.core.machine_models import Market
from runctl.costs.rates import Per, Rate, Tier, TieredRate
from runctl.providers.abilities.inventory import Resource, ResourceKind
from runctl.providers.abilities.prices import FreePrices, StoragePrices
from tests.cleanup.resources import a_resource

NOW = datetime(2026, 5, 1, tzinfo=UTC)
K = ResourceKind


def rate(usd: str, per: Per) -> Rate:
    return Rate(Decimal(usd), per, NOW, "a table")


class Table(FreePrices):
    """What a provider says of its prices."""

    def __init__(self) -> None:
        super().__init__("a table")
        self.asked: list[Any] = []

    def instance(
        self,
        instance_type: str,
        region: str | None,
        market: Market,
        zone: str | None = None,
        at: datetime | None = None,
    ) -> Rate:
        self.asked.append((instance_type, region, market, zone, at))
        if instance_type == "unheard.of":
            raise Unreachable("nobody answers")
        return rate("0.5" if market is Market.SPOT else "1", Per.HOUR)

    def volume(
        self, volume_type: str, size_gib: int, iops: int | None, throughput: int | None, region: str | None
    ) -> Rate:
        assert (volume_type, iops, throughput, region) == ("gp3", 3000, 125, "us-east-1")
        return rate("0.08", Per.GIB_MONTH).times(size_gib, Per.MONTH)

    def snapshot(self, region: str | None) -> Rate:
        return rate("0.05", Per.GIB_MONTH)

    def image_storage(self, region: str | None) -> Rate:
        return rate("0.1", Per.GIB_MONTH)

    def storage(self, region: str | None) -> StoragePrices:
        tiers = TieredRate((Tier(Decimal(0), Decimal("0.023")),), Per.GIB_MONTH, NOW, "a table")
        return StoragePrices(tiers, rate("0.005", Per.REQUESTS), rate("0.0004", Per.REQUESTS))


GIB = 1 << 30


@pytest.mark.parametrize(
    ("resource", "usd"),
    [
        (a_resource(K.INSTANCE, "i-1", state="running", type="m5.large", market="on-demand"), "730"),
        (a_resource(K.INSTANCE, "i-1", state="running", type="m5.large", market="spot"), "365"),
        # Its disks are resources of their own.
        (a_resource(K.INSTANCE, "i-1", state="stopped", type="m5.large", market="on-demand"), "0"),
        (a_resource(K.INSTANCE, "i-1", state="running", type="unheard.of", market="on-demand"), None),
        (a_resource(type="gp3", iops=3000, throughput=125, size_bytes=100 * GIB), "8"),
        (a_resource(K.SNAPSHOT, "snap-1", size_bytes=GIB // 2), "0.025"),
        (a_resource(K.IMAGE, "r@sha256:1", size_bytes=3 * GIB), "0.3"),
        (a_resource(K.OBJECTS, "s3://b/run-1/", size_bytes=10 * GIB), "0.23"),
        (a_resource(K.UPLOAD, "s3://b/k?uploadId=1", size_bytes=None), None),
        (a_resource(K.ROLE, "runctl-instance"), "0"),
    ],
)
def test_what_a_month_of_a_resource_costs(resource: Resource, usd: str | None) -> None:
    found = MonthlyPrices(lambda _name: Table())(resource)

    assert found == (None if usd is None else Decimal(usd))


def test_a_machine_that_is_stopped_costs_where_its_provider_may_bill_it() -> None:
    monthly = MonthlyPrices(lambda _name: Table(), lambda name: name == "aws")
    stopped = a_resource(K.INSTANCE, "i-1", state="stopped", type="m5.large", market="on-demand")

    assert stopped.provider == "aws"
    assert monthly(stopped) == Decimal(730)
    assert monthly(replace(stopped, state="shutting-down")) == 0


def test_a_price_is_asked_for_once() -> None:
    table = Table()
    monthly = MonthlyPrices(lambda _name: table)
    for number in range(3):
        monthly(a_resource(K.INSTANCE, f"i-{number}", state="running", type="m5.large", market="spot"))

    assert len(table.asked) == 1


def test_a_provider_without_prices_makes_nothing_free() -> None:
    monthly = MonthlyPrices(lambda _name: Unsupported("it has none"))

    assert monthly(a_resource(type="gp3", size_bytes=GIB)) is None
