"""Prices are asked for seldom, kept for a while, and never hold anything up."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.pricing import ON_DEMAND_KEPT, SPOT_KEPT, PriceBook
from runctl.testing.clock import ManualClock
from runctl.testing.progress import RecordedProgress
from tests.aws_fixtures import Refuse

OFFER = json.dumps(
    {
        "terms": {
            "OnDemand": {"t": {"priceDimensions": {"d": {"unit": "Hrs", "pricePerUnit": {"USD": "0.0999"}}}}}
        }
    }
)


@pytest.fixture
def asked(session: AwsSession, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A price list that answers, and what it was asked."""
    calls: list[dict[str, Any]] = []

    def get_products(**call: Any) -> dict[str, Any]:
        calls.append(call)
        return {"PriceList": [OFFER]}

    monkeypatch.setattr(session.pricing, "get_products", get_products)
    return calls


def test_an_on_demand_price_is_the_price_lists(
    session: AwsSession, clock: ManualClock, asked: list[dict[str, Any]]
) -> None:
    price = PriceBook(session, clock).on_demand("m7i.large")

    assert price is not None
    assert (price.usd, price.current) == (Decimal("0.0999"), True)
    wanted = {f["Field"]: f["Value"] for f in asked[0]["Filters"]}
    assert wanted["regionCode"] == "us-east-1"
    assert wanted["operatingSystem"] == "Linux"


def test_an_answer_is_kept_for_the_next_process(
    session: AwsSession,
    clock: ManualClock,
    asked: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    PriceBook(session, clock, tmp_path).on_demand("m7i.large")
    clock.advance(ON_DEMAND_KEPT - timedelta(seconds=1))

    price = PriceBook(session, clock, tmp_path).known_on_demand("m7i.large")

    assert price is not None
    assert (price.usd, price.current) == (Decimal("0.0999"), True)
    assert "2026-05-01" in price.source


def test_an_answer_grows_old(
    session: AwsSession,
    clock: ManualClock,
    asked: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    PriceBook(session, clock, tmp_path).on_demand("m7i.large")
    clock.advance(ON_DEMAND_KEPT + timedelta(seconds=1))

    price = PriceBook(session, clock, tmp_path).known_on_demand("m7i.large")

    assert price is not None
    assert not price.current


def test_a_sandboxs_prices_are_not_kept_for_aws(
    session: AwsSession, clock: ManualClock, asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    PriceBook(session, clock, tmp_path).on_demand("m7i.large")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"m7i.large": 1}',
        '{"m7i.large": {"usd": "x", "source": "", "at": "2026-05-01T12:00:00Z"}}',
    ],
)
def test_a_damaged_file_is_as_good_as_none(
    session: AwsSession,
    clock: ManualClock,
    asked: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str,
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    (tmp_path / "aws-on-demand-us-east-1.json").write_text(content)

    price = PriceBook(session, clock, tmp_path).on_demand("m7i.large")

    assert price is not None
    assert price.usd == Decimal("0.0999")


def test_without_the_right_to_ask_the_snapshot_stands_in(
    session: AwsSession, clock: ManualClock, refuse: Refuse, progress: RecordedProgress
) -> None:
    refuse(session.pricing, "GetProducts", "AccessDeniedException")
    refuse(session.ec2, "DescribeSpotPriceHistory", "UnauthorizedOperation")
    book = PriceBook(session, clock)

    on_demand, spot = book.on_demand("g4dn.xlarge", progress), book.spot("g4dn.xlarge", None, progress)

    assert on_demand is not None
    assert spot is not None
    assert not on_demand.current
    assert not spot.current
    assert len(progress.details) == 2


def test_spot_prices_are_asked_for_again_when_they_are_old(session: AwsSession, clock: ManualClock) -> None:
    calls: list[Any] = []

    def count(**call: Any) -> None:
        calls.append(call)

    session.ec2.meta.events.register("before-call.ec2.DescribeSpotPriceHistory", count)
    book = PriceBook(session, clock)

    for _ in range(3):
        book.spot_quotes(["t3.micro"])
    clock.advance(SPOT_KEPT + timedelta(seconds=1))
    book.spot_quotes(["t3.micro"])

    assert len(calls) == 2
