"""What Lyceum rents, with its stock; asked again after a while."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from runctl.core.errors import Unsupported
from runctl.core.machine_models import Market
from runctl.providers.abilities.catalogue import OfferQuery
from runctl.providers.capacity import Needs
from runctl.providers.lyceum.api import Variant
from runctl.providers.lyceum.context import LyceumContext
from runctl.providers.lyceum.offers import STOCK_KEPT, LyceumOffers
from runctl.providers.lyceum.settings import Account
from runctl.testing.clock import ManualClock
from tests.providers.lyceum.test_lyceum import SOLD

H100 = OfferQuery(Needs(gpu="H100"), Market.SPOT)


class Listed:
    """Lyceum's availability, and how often it was asked."""

    account = Account("key", "a test", "https://lyceum.example", None)

    def __init__(self) -> None:
        self.asked = 0

    def variants(self) -> tuple[Variant, ...]:
        self.asked += 1
        return SOLD


@pytest.fixture
def api() -> Listed:
    return Listed()


@pytest.fixture
def offers(api: Listed, clock: ManualClock, tmp_path: Path) -> LyceumOffers:
    return LyceumOffers(cast("LyceumContext", SimpleNamespace(api=api, clock=clock)), tmp_path)


def test_each_number_of_gpus_is_a_machine_in_stock_or_not(offers: LyceumOffers) -> None:
    found = {offer.instance_type: offer for offer in offers.offers(H100).offers}

    assert list(found) == ["h100.1x", "h100.2x", "h100.4x", "h100.8x"]
    four = found["h100.4x"]
    assert (four.price.usd, four.usd_per_gpu, four.gpu_count) == (Decimal("4.40"), Decimal("1.10"), 4)
    assert four.on_demand is not None
    assert four.on_demand.usd == Decimal("11.16")
    assert [offer.in_stock for offer in found.values()] == [True, True, False, False]


def test_what_is_measured_of_nobody_is_left_open(offers: LyceumOffers) -> None:
    (unknown, *_) = offers.offers(OfferQuery(Needs(gpu="ZZ9"))).offers

    assert (unknown.vcpus, unknown.memory_gib, unknown.gpu_memory_gib) == (None, None, None)


def test_stock_is_asked_again_when_it_is_old(offers: LyceumOffers, api: Listed, clock: ManualClock) -> None:
    first = offers.offers(H100)
    clock.advance(STOCK_KEPT)
    assert offers.offers(H100) == first
    assert api.asked == 1

    clock.advance(timedelta(seconds=1))
    assert offers.offers(H100).offers[0].price.as_of == clock.now()
    assert api.asked == 2


def test_a_damaged_answer_is_asked_for_again(offers: LyceumOffers, api: Listed, tmp_path: Path) -> None:
    first = offers.offers(H100)
    (file,) = tmp_path.rglob("*.json")
    file.write_text('{"at": "2026-05-01T12:00:00Z", "content": [1]}')

    assert offers.offers(H100) == first
    assert api.asked == 2


def test_who_names_regions_of_others_is_told_that_there_are_none_here(offers: LyceumOffers) -> None:
    with pytest.raises(Unsupported, match="no regions"):
        offers.offers(replace(H100, regions=("us-east-1",)))
