"""What EC2 rents in every region: asked side by side, kept for a while, and what could not be read is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from moto.ec2.models.instance_types import INSTANCE_TYPES

from runctl.core.machine_models import Market
from runctl.providers.abilities.catalogue import OfferQuery, Offers
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.prices.book import PriceBook
from runctl.providers.aws.prices.catalogue import FACTS_KEPT, OFFERS_KEPT, AwsCatalogue
from runctl.providers.capacity import Needs
from runctl.sandbox.prices.price_list import get_products
from runctl.sandbox.prices.spot_prices import SpotQuery, spot_history
from runctl.testing.clock import ManualClock
from tests.aws_fixtures import Refuse

ONE_A10G = OfferQuery(Needs(gpu="a10g", gpu_count=1), regions=("eu-west-1", "us-east-1"))
SPOT = replace(ONE_A10G, market=Market.SPOT)
Ask = Callable[[OfferQuery], Offers]


@pytest.fixture
def asked(context: AwsContext, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """EC2 as moto has it, with the sandbox's prices; the operations that were called."""
    calls: list[str] = []

    def history(client: Any) -> Callable[..., Any]:
        def answer(**call: Any) -> Any:
            calls.append("DescribeSpotPriceHistory")
            query = SpotQuery(frozenset(call["InstanceTypes"]), start=call["StartTime"], end=call["EndTime"])
            return {"SpotPriceHistory": spot_history(client.meta.region_name, query, clock.now())}

        return answer

    def products(**call: Any) -> Any:
        calls.append("GetProducts")
        return get_products(call)

    def types(**_: Any) -> Any:
        calls.append("DescribeInstanceTypes")
        return {"InstanceTypes": [INSTANCE_TYPES[name] for name in ("m7i.large", "g5.xlarge", "g5.12xlarge")]}

    monkeypatch.setattr(context.session.pricing, "get_products", products)
    for region in ("eu-west-1", "us-east-1"):
        client = context.session.in_region(region).ec2
        monkeypatch.setattr(client, "describe_spot_price_history", history(client))
        monkeypatch.setattr(client, "describe_instance_types", types)
    return calls


@pytest.fixture
def ask(context: AwsContext, clock: ManualClock, tmp_path: Path, asked: list[str]) -> Ask:
    """Each time as another process would."""
    return lambda query: AwsCatalogue(
        replace(context, prices=PriceBook(context.session, clock, tmp_path))
    ).offers(query)


def test_on_demand_machines_have_each_regions_price_and_zones(ask: Ask) -> None:
    found = ask(ONE_A10G)

    prices = {
        offer.region: (offer.price.usd, offer.vcpus, offer.memory_gib, offer.gpu_count)
        for offer in found.offers
        if offer.instance_type == "g5.xlarge"
    }
    assert found.unread == ()
    assert prices == {
        "us-east-1": (Decimal("1.006"), 4, Decimal(16), 1),
        "eu-west-1": (Decimal("1.123"), 4, Decimal(16), 1),
    }
    assert all(offer.gpu == "A10G" and offer.price.current and offer.zones for offer in found.offers)


def test_spot_machines_have_each_zones_price_and_on_demand_for_comparison(ask: Ask) -> None:
    own = [offer for offer in ask(SPOT).offers if offer.instance_type == "g5.xlarge"]

    zones = [offer.zones for offer in own]
    assert len(zones) == len(set(zones)) > 4
    assert all(offer.on_demand and offer.price.usd < offer.on_demand.usd for offer in own)


def test_what_is_kept_is_not_asked_again_until_it_is_old(
    ask: Ask, asked: list[str], clock: ManualClock
) -> None:
    first = ask(SPOT)
    asked.clear()
    clock.advance(OFFERS_KEPT)
    assert ask(SPOT) == first
    assert asked == []

    clock.advance(timedelta(seconds=1))
    assert {offer.price.as_of for offer in ask(SPOT).offers} == {clock.now()}
    assert asked == ["DescribeSpotPriceHistory"] * 2, "types and on-demand prices are kept for longer"

    asked.clear()
    clock.advance(FACTS_KEPT)
    ask(SPOT)
    assert "DescribeInstanceTypes" in asked


@pytest.mark.parametrize("content", [b"", b'{"at": "2026-05-01T12:00:00Z", "content": [{"price": 1}]}'])
def test_broken_files_are_asked_anew(ask: Ask, tmp_path: Path, content: bytes) -> None:
    first = ask(SPOT)
    files = list(tmp_path.rglob("*.json"))
    for file in files:
        file.write_bytes(content)

    assert len(files) > 4
    assert ask(SPOT) == first


def test_a_region_that_is_denied_is_said_and_the_others_are_there(
    context: AwsContext, ask: Ask, refuse: Refuse
) -> None:
    denied = context.session.in_region("eu-west-1").ec2
    refuse(
        denied, "DescribeInstanceTypeOfferings", "UnauthorizedOperation", "You are not authorized", times=1
    )

    found = ask(ONE_A10G)

    assert {offer.region for offer in found.offers} == {"us-east-1"}
    (unread,) = found.unread
    assert (unread.provider, unread.region) == ("aws", "eu-west-1")
    assert "not authorized" in unread.reason
    assert {offer.region for offer in ask(ONE_A10G).offers} == {"us-east-1", "eu-west-1"}, "it is not kept"


def test_every_region_of_the_account_is_asked_where_none_is_named(
    context: AwsContext, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    regions = {"Regions": [{"RegionName": name} for name in ("us-east-1", "eu-west-1")]}
    monkeypatch.setattr(context.session.ec2, "describe_regions", lambda **_: regions)

    assert ask(replace(ONE_A10G, regions=None)) == ask(ONE_A10G)


def test_without_scores_the_prices_are_there_and_the_reason_too(ask: Ask) -> None:
    found = ask(SPOT)

    assert all(offer.score is None for offer in found.offers)
    assert "no placement scores" in found.notes[0]


def test_a_score_is_the_zones(context: AwsContext, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = context.session.ec2.describe_availability_zones()["AvailabilityZones"][1]
    questions: list[Any] = []

    def scores(**question: Any) -> Any:
        questions.append(question)
        row = {"Region": "us-east-1", "AvailabilityZoneId": scored["ZoneId"], "Score": 7}
        return {"SpotPlacementScores": [row]}

    monkeypatch.setattr(context.session.ec2, "get_spot_placement_scores", scores)
    found = [ask(SPOT), ask(SPOT)]

    for each in found:
        known = {offer.zones for offer in each.offers if offer.score == 7}
        assert known == {(scored["ZoneName"],)}
    assert len(questions) == 1
    assert questions[0]["RegionNames"] == ["eu-west-1", "us-east-1"]
