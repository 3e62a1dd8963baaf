"""The sandbox's prices: spot price history and the price list API, from the shipped snapshot."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.providers.aws.prices.items import Item
from runctl.providers.aws.prices.shipped import shipped_rates, snapshot
from runctl.sandbox.prices import price_list
from runctl.sandbox.prices.price_list import PriceListService, Refused, get_products
from runctl.sandbox.prices.price_rates import SERVICES
from runctl.sandbox.prices.spot_prices import SpotQuery, spot_history, spot_price_on
from tests.sandbox.account import Account

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
REGION = "us-east-1"
CURRENT = SpotQuery(frozenset({"m5.large"}), start=NOW, end=NOW)
CLIENT_FILTERS = {
    "instanceType": "m5.large",
    "regionCode": REGION,
    "operatingSystem": "Linux",
    "preInstalledSw": "NA",
    "tenancy": "Shared",
    "capacitystatus": "Used",
}


def ask(filters: dict[str, str], **more: Any) -> list[dict[str, Any]]:
    argv = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in filters.items()]
    answer = get_products({"ServiceCode": "AmazonEC2", "Filters": argv, **more})
    return [json.loads(text) for text in answer["PriceList"]]


def price(document: dict[str, Any]) -> tuple[str, Decimal]:
    (offer,) = document["terms"]["OnDemand"].values()
    (rate,) = offer["priceDimensions"].values()
    return rate["unit"], Decimal(rate["pricePerUnit"]["USD"])


def test_the_present_has_one_price_for_each_zone() -> None:
    rows = spot_history(REGION, CURRENT, NOW)

    zones = [row["AvailabilityZone"] for row in rows]
    assert len(zones) == len(set(zones)) > 2
    assert all(row["Timestamp"] <= NOW for row in rows)


def test_prices_differ_by_zone_around_the_regions_median() -> None:
    rows = spot_history(REGION, CURRENT, NOW)

    median = snapshot()["m5.large", REGION].spot_median
    assert median is not None
    amounts = [Decimal(row["SpotPrice"]) for row in rows]
    assert len(set(amounts)) > 1
    assert all(abs(amount / median - 1) < Decimal("0.12") for amount in amounts)


def test_the_same_question_has_the_same_answer() -> None:
    assert spot_history(REGION, CURRENT, NOW) == spot_history(REGION, CURRENT, NOW)


@given(st.sampled_from(sorted(snapshot())), st.integers(0, 400))
def test_no_spot_price_is_above_on_demand(row: tuple[str, str], day: int) -> None:
    kind, region = row
    amount = spot_price_on(kind, region, f"{region}a", NOW + timedelta(days=day))

    known = snapshot()[row]
    assert (amount is None) == (known.spot_median is None)
    assert amount is None or (amount > 0 and (known.on_demand is None or amount <= known.on_demand))


def test_a_past_time_has_its_changes_and_the_price_that_it_began_with() -> None:
    start = NOW - timedelta(days=3)
    query = SpotQuery(frozenset({"m5.large"}), frozenset({"us-east-1a"}), start=start, end=NOW)

    rows = spot_history(REGION, query, NOW)

    times = [row["Timestamp"] for row in rows]
    assert times == sorted(times, reverse=True)
    assert times[-1] <= start < times[-2]
    assert len(rows) == 3 * 4 + 1
    assert len({row["SpotPrice"] for row in rows[:4]}) > 1


def test_history_does_not_go_back_further_than_ninety_days() -> None:
    query = SpotQuery(frozenset({"m5.large"}), frozenset({"us-east-1a"}), start=NOW - timedelta(days=400))

    assert len(spot_history(REGION, query, NOW)) == 90 * 4 + 1


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (SpotQuery(frozenset({"m5.large"}), products=frozenset({"Windows"}), start=NOW), False),
        (
            SpotQuery(frozenset({"m5.large"}), products=frozenset({"Linux/UNIX (Amazon VPC)"}), start=NOW),
            True,
        ),
        (SpotQuery(frozenset({"no.such"}), start=NOW), False),
        (SpotQuery(frozenset({"m5.large"}), frozenset({"eu-west-1a"}), start=NOW), False),
    ],
)
def test_history_is_only_of_what_was_asked_for(query: SpotQuery, found: bool) -> None:
    assert bool(spot_history(REGION, query, NOW)) is found


def test_a_machine_has_one_on_demand_price_a_region() -> None:
    (document,) = ask(CLIENT_FILTERS)

    assert document["product"]["attributes"]["location"] == "US East (N. Virginia)"
    assert price(document) == ("Hrs", snapshot()["m5.large", REGION].on_demand)


def test_the_price_list_says_eu_where_others_say_europe() -> None:
    wanted = {**CLIENT_FILTERS, "location": "EU (Ireland)"}
    del wanted["regionCode"]

    (document,) = ask(wanted)

    assert document["product"]["attributes"]["regionCode"] == "eu-west-1"


@pytest.mark.parametrize("name", ["gp3", "gp2", "io1", "io2", "st1", "sc1"])
def test_a_volumes_storage_has_a_price_by_the_month(name: str) -> None:
    (document,) = ask({"volumeApiName": name, "regionCode": REGION, "productFamily": "Storage"})

    storage = shipped_rates(REGION).first(Item(f"ebs-{name}"))
    assert storage is not None
    assert price(document) == ("GB-Mo", storage.usd)


@pytest.mark.parametrize(
    "change", [{"operatingSystem": "Windows"}, {"tenancy": "Dedicated"}, {"nothing": "x"}]
)
def test_what_nothing_matches_is_empty(change: dict[str, str]) -> None:
    assert ask({**CLIENT_FILTERS, **change}) == []


def test_pages_hold_every_product_once() -> None:
    seen: list[str] = []
    for service in SERVICES:
        token: str | None = None
        while token != "":
            parameters: dict[str, Any] = {"ServiceCode": service, "MaxResults": 100}
            answer = get_products({**parameters, **({"NextToken": token} if token else {})})
            seen += [json.loads(text)["product"]["sku"] for text in answer["PriceList"]]
            token = answer.get("NextToken", "")

    assert len(seen) == len(set(seen)) == len(price_list.products())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ({"ServiceCode": "AmazonNothing"}, "NotFoundException"),
        ({"ServiceCode": "AmazonEC2", "MaxResults": 101}, "InvalidParameterException"),
        ({"ServiceCode": "AmazonEC2", "NextToken": "no token"}, "InvalidNextTokenException"),
        ({"ServiceCode": "AmazonEC2", "NextToken": "LTE="}, "InvalidNextTokenException"),
    ],
)
def test_what_the_price_list_refuses_has_its_code(text: dict[str, Any], code: str) -> None:
    with pytest.raises(Refused) as refused:
        get_products(text)

    assert refused.value.code == code


def test_other_services_requests_are_passed_on_untouched() -> None:
    seen: list[bytes] = []

    def behind(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        seen.append(environ["wsgi.input"].read())
        return [b"behind"]

    environ = {
        "HTTP_X_AMZ_TARGET": "AmazonSSM.SendCommand",
        "CONTENT_LENGTH": "2",
        "wsgi.input": io.BytesIO(b"{}"),
    }

    assert list(PriceListService(behind)(environ, lambda *_: None)) == [b"behind"]
    assert seen == [b"{}"]


@pytest.mark.namespaces
def test_boto3_pages_through_the_spot_price_history(account: Account) -> None:
    paginator = account.ec2.get_paginator("describe_spot_price_history")
    pages = list(
        paginator.paginate(
            InstanceTypes=["m5.large", "g5.xlarge"],
            Filters=[{"Name": "availability-zone", "Values": ["us-east-1a", "us-east-1b"]}],
            ProductDescriptions=["Linux/UNIX"],
            PaginationConfig={"PageSize": 50},
        )
    )

    rows = [row for page in pages for row in page["SpotPriceHistory"]]
    assert len(pages) > 2
    keys = {(row["InstanceType"], row["AvailabilityZone"], row["Timestamp"]) for row in rows}
    assert len(keys) == len(rows)
    assert {row["AvailabilityZone"] for row in rows} == {"us-east-1a", "us-east-1b"}


@pytest.mark.namespaces
def test_boto3_reads_the_price_list(account: Account) -> None:
    answer = account.client("pricing").get_products(
        ServiceCode="AmazonEC2",
        Filters=[{"Type": "TERM_MATCH", "Field": k, "Value": v} for k, v in CLIENT_FILTERS.items()],
    )

    (text,) = answer["PriceList"]
    assert price(json.loads(text))[1] == snapshot()["m5.large", REGION].on_demand
