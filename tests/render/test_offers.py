"""The table of offers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from runctl.core.machine_models import Market
from runctl.providers.abilities.catalogue import Offers, UnreadRegion
from runctl.render.offers import offers_document, offers_table, together, unread_text
from tests.machines.test_offers import FOUR, NONE, ONE
from tests.rates import DAY


def test_spot_machines_with_gpus_are_compared_with_on_demand() -> None:
    head, first, second = offers_table((ONE, replace(FOUR, score=7)), DAY + timedelta(minutes=5)).split("\n")

    assert " ".join(head.split()) == (
        "$/HOUR $/GPU TYPE GPU CPUS MEMORY MARKET PROVIDER REGION ZONE SCORE ON DEMAND SAVES AGE"
    )
    assert " ".join(first.split()) == (
        "$0.4500 $0.4500 g5.xlarge 1 A10G 22 GiB 4 16 GiB spot aws us-east-1 us-east-1a - $1.01 55 % 5m"
    )
    assert second.split()[:5] == ["$1.20", "$0.3000", "g5.12xlarge", "4", "A10G"]


def test_zones_at_one_price_are_one_line_and_an_old_price_says_so() -> None:
    old = replace(NONE.price, current=False)
    offer = replace(NONE, market=Market.ON_DEMAND, zones=("us-east-1a", "us-east-1b"), price=old)

    head, line = offers_table((offer,), DAY + timedelta(days=400)).split("\n")

    assert "GPU" not in head
    assert "SAVES" not in head
    assert "a, b" in line
    assert line.endswith("≤ 400d0h")


def test_what_could_not_be_read_is_a_sentence() -> None:
    assert unread_text(UnreadRegion("aws", "eu-west-1", "you may not", "ask")) == (
        "aws eu-west-1 could not be read: you may not (ask)"
    )
    assert unread_text(UnreadRegion("runpod", None, "no spot pods", "leave --spot out", "unsupported")) == (
        "runpod is left out: no spot pods (leave --spot out)"
    )


def test_programs_get_the_price_of_a_gpu() -> None:
    rows = offers_document(Offers((FOUR, NONE)))["offers"]

    assert [row["usd_per_gpu"] for row in rows] == ["0.30", None]


def test_regions_that_cannot_be_read_for_one_reason_are_named_in_one_line() -> None:
    unread = [UnreadRegion("aws", region, "denied") for region in ("eu-west-1", "us-east-1")]
    other = UnreadRegion("aws", "us-west-2", "away")
    alone = UnreadRegion("lyceum", None, "no key")

    assert [unread_text(each) for each in together([*unread, other, alone])] == [
        "aws in 2 regions (eu-west-1, us-east-1) could not be read: denied",
        "aws us-west-2 could not be read: away",
        "lyceum could not be read: no key",
    ]
