"""Prices are asked for seldom, kept for a while, and never hold anything up."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from runctl.providers.abilities.volume_plans import DiskShape
from runctl.providers.aws.calls.session import AwsSession
from runctl.providers.aws.context import AwsContext
from runctl.providers.aws.prices.ability import AwsPrices
from runctl.providers.aws.prices.book import FAILED_KEPT, LIST_KEPT, SPOT_KEPT, PriceBook
from runctl.providers.aws.prices.items import Item
from runctl.providers.aws.prices.price_list import Group
from runctl.sandbox.prices.price_list import get_products
from runctl.testing.clock import ManualClock
from runctl.testing.progress import RecordedProgress
from tests.aws_fixtures import Refuse

Calls = list[dict[str, Any]]


@pytest.fixture
def asked(session: AwsSession, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The sandbox's price list, and what it was asked."""
    calls: Calls = []

    def answer(**call: Any) -> dict[str, Any]:
        calls.append(call)
        return get_products(call)

    monkeypatch.setattr(session.pricing, "get_products", answer)
    return calls


@pytest.fixture
def unreachable(session: AwsSession, refuse: Refuse) -> Iterator[None]:
    """An account that may not ask for prices."""
    refuse(session.pricing, "GetProducts", "AccessDeniedException")
    refuse(session.ec2, "DescribeSpotPriceHistory", "UnauthorizedOperation")
    return iter(())


def test_an_on_demand_price_is_the_price_lists(session: AwsSession, clock: ManualClock, asked: Calls) -> None:
    price = PriceBook(session, clock).on_demand("m7i.large")

    assert price is not None
    assert (price.usd, price.current, price.as_of) == (Decimal("0.1008"), True, clock.now())


def test_one_question_answers_for_every_region(
    session: AwsSession, clock: ManualClock, asked: Calls, tmp_path: Path
) -> None:
    book = PriceBook(session, clock, tmp_path)

    here, there = book.on_demand("m7i.large"), book.in_region("eu-central-1").on_demand("m7i.large")

    assert len(asked) == 1
    assert here is not None
    assert there is not None
    assert there.usd > here.usd


def test_what_is_kept_is_not_asked_again_by_the_next_process(
    session: AwsSession, clock: ManualClock, asked: Calls, tmp_path: Path
) -> None:
    PriceBook(session, clock, tmp_path).on_demand("m7i.large")
    PriceBook(session, clock, tmp_path).current_rates(Group.EBS)
    questions = len(asked)
    clock.advance(LIST_KEPT - timedelta(seconds=1))

    book = PriceBook(session, clock, tmp_path)
    price, rates = book.on_demand("m7i.large"), book.current_rates(Group.EBS)
    gp3 = rates.first(Item.GP3)

    assert len(asked) == questions
    assert price is not None
    assert gp3 is not None
    assert (price.usd, price.current, price.source) == (Decimal("0.1008"), True, "AWS price list, 2026-05-01")
    assert (gp3.usd, gp3.current, gp3.source) == (Decimal("0.08"), True, "AWS price list, 2026-05-01")


def test_what_is_old_is_asked_again(
    session: AwsSession, clock: ManualClock, asked: Calls, tmp_path: Path
) -> None:
    PriceBook(session, clock, tmp_path).on_demand("m7i.large")
    clock.advance(LIST_KEPT + timedelta(seconds=1))

    price = PriceBook(session, clock, tmp_path).on_demand("m7i.large")

    assert len(asked) == 2
    assert price is not None
    assert price.as_of == clock.now()


def test_what_is_old_and_cannot_be_asked_again_says_so_and_is_better_than_what_is_shipped(
    session: AwsSession, clock: ManualClock, asked: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.advance(timedelta(days=300))
    then = clock.now()
    PriceBook(session, clock, tmp_path).on_demand("m7i.large")
    PriceBook(session, clock, tmp_path).current_rates(Group.EBS)
    clock.advance(LIST_KEPT + timedelta(seconds=1))
    monkeypatch.setattr(session.pricing, "get_products", None)

    book = PriceBook(session, clock, tmp_path)
    price, volume = book.on_demand("m7i.large"), book.rates.volume(DiskShape("gp3", 100, 3000, 125))

    for found in (price, volume):
        assert found is not None
        assert (found.current, found.as_of) == (False, then)
        assert "could not be asked again" in found.source


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"at": "2026-05-01T12:00:00Z"}',
        b'{"at": "2026-05-01T12:00:00Z", "content": 1}',
        b'{"at": "2026-05-01T12:00:00Z", "content": {"us-east-1": "x", "ebs-gp3": [["0", "x"]]}}',
        b'{"at": "2026-05-01T12:00:00", "content": {"us-east-1": "9", "ebs-gp3": [["0", "9"]]}}',
        b'{"at": "2036-05-01T12:00:00Z", "content": {"us-east-1": "9", "ebs-gp3": [["0", "9"]]}}',
    ],
)
def test_a_broken_file_is_as_good_as_none(
    session: AwsSession, clock: ManualClock, asked: Calls, tmp_path: Path, content: bytes
) -> None:
    PriceBook(session, clock, tmp_path).on_demand("m7i.large")
    PriceBook(session, clock, tmp_path).current_rates(Group.EBS)
    files = list(tmp_path.rglob("*.json"))
    for file in files:
        file.write_bytes(content)

    book = PriceBook(session, clock, tmp_path)
    price, gp3 = book.on_demand("m7i.large"), book.current_rates(Group.EBS).first(Item.GP3)

    assert len(files) == 2
    assert price is not None
    assert gp3 is not None
    assert (price.usd, gp3.usd) == (Decimal("0.1008"), Decimal("0.08"))


def test_several_processes_at_once_do_no_harm(
    session: AwsSession, clock: ManualClock, asked: Calls, tmp_path: Path
) -> None:
    types = ["m7i.large", "g5.xlarge", "m7i.large", "g5.xlarge"] * 4
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: PriceBook(session, clock, tmp_path).on_demand(name), types))

    kept = PriceBook(session, clock, tmp_path)
    assert {kept.known_on_demand(name) for name in types} == {
        PriceBook(session, clock).on_demand(name) for name in types
    }
    assert len(list(tmp_path.rglob("*"))) == 3  # a folder and two files


def test_a_folder_that_cannot_be_written_changes_nothing(
    session: AwsSession, clock: ManualClock, asked: Calls, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")

    price = PriceBook(session, clock, tmp_path / "file").on_demand("m7i.large")

    assert price is not None
    assert price.current


def test_a_sandboxs_prices_are_not_taken_for_aws(
    session: AwsSession, clock: ManualClock, asked: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PriceBook(session, clock, tmp_path).on_demand("m7i.large")
    monkeypatch.delenv("AWS_ENDPOINT_URL")

    price = PriceBook(session, clock, tmp_path).known_on_demand("m7i.large")

    assert price is not None
    assert "shipped" in price.source


def test_without_the_right_to_ask_what_is_shipped_stands_in_with_its_date(
    session: AwsSession, clock: ManualClock, unreachable: None, progress: RecordedProgress, tmp_path: Path
) -> None:
    book = PriceBook(session, clock, tmp_path)

    on_demand, spot = book.on_demand("g4dn.xlarge", progress), book.spot("g4dn.xlarge", None, progress)
    volume = book.current_rates(Group.EBS, progress=progress).volume(DiskShape("gp3", 100, 3000, 125))

    for found, day in ((on_demand, "2025-08-12"), (spot, "2025-08-12"), (volume, "2026-09-24")):
        assert found is not None
        assert not found.current
        assert f"{found.as_of:%Y-%m-%d}" == day
        assert day in found.source
    assert len(progress.details) == 2, "a list that may not be read is not asked again for each price"


def test_a_list_that_could_not_be_read_is_asked_again_after_a_while(
    session: AwsSession, clock: ManualClock, refuse: Refuse, tmp_path: Path
) -> None:
    refused = refuse(session.pricing, "GetProducts", "AccessDeniedException")
    for _ in range(3):
        PriceBook(session, clock, tmp_path).on_demand("m7i.large")
    clock.advance(FAILED_KEPT + timedelta(seconds=1))
    PriceBook(session, clock, tmp_path).on_demand("m7i.large")

    assert len(refused) == 2


def test_a_regions_own_prices_are_the_lists(context: AwsContext, clock: ManualClock, asked: Calls) -> None:
    prices = AwsPrices(replace(context, prices=PriceBook(context.session, clock)))

    # 100 GiB at 0.088, 1,000 IOPS at 0.0055, 875 MiB/s at 0.044.
    volume = prices.volume("gp3", 100, 4000, 1000, "eu-west-1")
    snapshot, address = prices.snapshot("eu-central-1"), prices.public_ip("ap-northeast-1")
    storage, images = prices.storage("us-west-2"), prices.image_storage("us-west-2")
    out, nat = prices.data_out("us-east-2"), prices.nat("eu-north-1")

    assert volume is not None and snapshot is not None and address is not None
    assert storage is not None and images is not None and out is not None and nat is not None
    assert (volume.usd, volume.current) == (Decimal("52.8"), True)
    assert (snapshot.usd, address.usd, images.usd) == (Decimal("0.0595"), Decimal("0.005"), Decimal("0.1"))
    assert storage.gib_month.cost(Decimal(100)) == Decimal("2.3")
    assert (storage.writes.usd, storage.reads.usd) == (Decimal("0.005"), Decimal("0.0004"))
    assert out.cost(Decimal(200)) == Decimal(9)
    assert nat.hour.usd == nat.gib.usd == Decimal("0.047025")


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
