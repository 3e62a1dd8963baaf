"""Requests and data that leave a region come to what the price list says."""

from __future__ import annotations

from decimal import Decimal

import pytest

from runctl.costs.rates import Per, Rate, Tier, TieredRate
from runctl.costs.traffic import GIB, data_out_of, requests_for
from runctl.render.traffic import data_out_text, requests_text
from tests.costs.entries import at

DAY = at("2026-09-24")
READS = Rate(Decimal("0.0004"), Per.REQUESTS, DAY, "price list")
WRITES = Rate(Decimal("0.005"), Per.REQUESTS, DAY, "price list")
OUT = TieredRate(
    (Tier(Decimal(0), Decimal(0)), Tier(Decimal(100), Decimal("0.09"))), Per.GIB, DAY, "price list"
)


@pytest.mark.parametrize(
    ("objects", "size", "reads", "listings", "usd"),
    [
        (0, 0, 0, 0, "0"),
        (1, 1, 1, 1, "0.0000054"),
        (3000, 3000 << 14, 3002, 3, "0.0012158"),
        (4, 4 << 27, 36, 1, "0.0000194"),
        (1_000_000, 1 << 40, 1_065_536, 1000, "0.4312144"),
    ],
)
def test_every_piece_is_a_request_and_every_thousand_objects_a_listing(
    objects: int, size: int, reads: int, listings: int, usd: str
) -> None:
    found = requests_for(objects, size, 16 << 20, READS, WRITES)
    assert (found.reads, found.listings, found.usd) == (reads, listings, Decimal(usd))


def test_what_leaves_is_at_most_the_first_paid_price() -> None:
    found = data_out_of(OUT, 2 * GIB)
    assert (found.usd, found.free_gib) == (Decimal("0.18"), 100)
    assert data_out_text(found) == (
        "at most $0.1800 for the data that leave the region ($0.0900 a GiB after the month's first 100 GiB; price list)"
    )
    assert data_out_text(data_out_of(OUT)) == (
        "$0.0900 a GiB after the month's first 100 GiB for the data that leave the region (price list)"
    )


def test_what_is_too_little_to_tell_is_a_bound_itself() -> None:
    assert data_out_text(data_out_of(OUT, 1000)).startswith("<$0.0001 for the data that leave the region (")


def test_a_provider_that_asks_nothing_for_traffic_says_so() -> None:
    free = TieredRate((Tier(Decimal(0), Decimal(0)),), Per.GIB, DAY, "price list")
    assert data_out_of(free, 5 * GIB).usd == 0
    assert data_out_text(data_out_of(free)) == "data that leave cost nothing"


def test_requests_are_told_with_their_number() -> None:
    found = requests_for(11_200, 0, 16 << 20, READS, WRITES)
    assert requests_text(found) == "at most $0.0045 for 11,200 requests to read it (price list)"
