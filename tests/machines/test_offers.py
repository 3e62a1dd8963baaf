"""The table of offers: which come first, and what is said of what could not be asked."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runctl.core.errors import CredentialsError, RunctlError, Unsupported
from runctl.core.machine_models import Market
from runctl.core.progress import SILENT
from runctl.machines.offers import SortKey, find_offers, known_gpus, sort_offers
from runctl.machines.session import Session
from runctl.providers.abilities.catalogue import Catalogue, MachineOffer, OfferQuery, Offers, UnreadRegion
from tests.rates import hourly


def an_offer(usd: str, **changes: Any) -> MachineOffer:
    fields: dict[str, Any] = {
        "provider": "aws",
        "region": "us-east-1",
        "zones": ("us-east-1a",),
        "instance_type": "g5.xlarge",
        "market": Market.SPOT,
        "vcpus": 4,
        "memory_gib": Decimal(16),
        "gpu": "A10G",
        "gpu_count": 1,
        "gpu_memory_gib": Decimal(22),
        "price": hourly(usd),
        "on_demand": hourly("1.006"),
    }
    return MachineOffer(**{**fields, **changes})


ONE, FOUR = an_offer("0.45"), an_offer("1.20", instance_type="g5.12xlarge", gpu_count=4)
NONE = an_offer("0.05", instance_type="m7i.large", gpu=None, gpu_count=0, gpu_memory_gib=None)


@pytest.mark.parametrize(
    ("key", "expected"),
    [(SortKey.PRICE, [NONE, ONE, FOUR]), (SortKey.PRICE_PER_GPU, [FOUR, ONE, NONE])],
)
def test_the_cheapest_comes_first_as_a_whole_or_by_the_gpu(
    key: SortKey, expected: list[MachineOffer]
) -> None:
    assert list(sort_offers([ONE, FOUR, NONE], key)) == expected


def test_of_equal_prices_the_likelier_comes_first() -> None:
    low, high = an_offer("0.45", score=1, zones=("us-east-1a",)), an_offer("0.45", score=9)

    assert sort_offers([low, ONE, high], SortKey.PRICE)[0] == high


class Listed(Catalogue):
    """A catalogue that answers, or fails, as it is told."""

    def __init__(self, answer: Offers | RunctlError) -> None:
        self.answer = answer

    def offers(self, query: OfferQuery, progress: Any = SILENT) -> Offers:
        if isinstance(self.answer, RunctlError):
            raise self.answer
        return self.answer


def session_of(monkeypatch: pytest.MonkeyPatch, catalogues: Mapping[str, Catalogue | Unsupported]) -> Session:
    monkeypatch.setattr("runctl.machines.offers.registry.names", lambda: tuple(catalogues))
    monkeypatch.setattr("runctl.machines.offers.registry.is_this_computer", lambda _: False)
    providers = {name: SimpleNamespace(catalogue=found) for name, found in catalogues.items()}
    return cast("Session", SimpleNamespace(provider=providers.__getitem__, progress=SILENT))


DENIED = UnreadRegion("one", "eu-west-1", "you may not")


def test_every_provider_is_in_one_table_and_what_could_not_be_read_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = session_of(
        monkeypatch,
        {
            "one": Listed(Offers((FOUR,), (DENIED,), ("no scores",))),
            "two": Listed(Offers((ONE,))),
            "three": Listed(CredentialsError("who are you?", hint="log in")),
            "four": Unsupported("nothing to rent"),
        },
    )

    found = find_offers(session, OfferQuery())

    assert found.offers == (ONE, FOUR)
    assert found.unread == (DENIED, UnreadRegion("three", None, "who are you?", "log in", "credentials", 4))
    assert found.notes == ("no scores",)


def test_where_nobody_could_be_asked_the_reason_is_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(monkeypatch, {"one": Listed(CredentialsError("who are you?"))})

    with pytest.raises(CredentialsError, match="who are you"):
        find_offers(session, OfferQuery())


def test_a_provider_that_is_named_and_rents_nothing_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(monkeypatch, {"one": Listed(Offers((ONE,))), "two": Unsupported("nothing to rent")})

    with pytest.raises(Unsupported, match="nothing to rent"):
        find_offers(session, OfferQuery(), providers=["one", "two"])


def test_a_provider_that_never_rents_such_a_thing_says_so_only_where_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    never = Listed(Unsupported("no spot machines", hint="leave --spot out"))
    session = session_of(monkeypatch, {"one": Listed(Offers((ONE,))), "two": never})

    assert find_offers(session, OfferQuery()).unread == ()
    assert find_offers(session, OfferQuery(), providers=["one", "two"]).unread == (
        UnreadRegion("two", None, "no spot machines", "leave --spot out", "unsupported"),
    )
    with pytest.raises(Unsupported, match="no spot machines"):
        find_offers(session, OfferQuery(), providers=["two"])


def test_who_never_rents_such_a_thing_hides_nobodys_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(
        monkeypatch,
        {"one": Listed(CredentialsError("who are you?")), "two": Listed(Unsupported("no such thing"))},
    )

    with pytest.raises(CredentialsError, match="who are you"):
        find_offers(session, OfferQuery())


def test_the_gpus_that_are_offered_at_all_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(monkeypatch, {"one": Listed(Offers((ONE, an_offer("3", gpu="A100"), FOUR)))})

    assert known_gpus(session, OfferQuery()) == ("A100", "A10G")
