"""``runctl offers`` where nothing is offered."""

from __future__ import annotations

from typing import Any

import pytest

from runctl.providers.abilities.catalogue import OfferQuery, Offers, UnreadRegion
from tests.cli.conftest import Invoke, error_of
from tests.machines.test_offers import ONE

NO_ACCOUNT = UnreadRegion("two", None, "there is no key", "log in", "credentials")
DENIED = UnreadRegion("one", "eu-west-1", "you may not", "", "permission")


@pytest.mark.parametrize(
    ("gpu", "hint"),
    [
        ("A1OG", 'did you mean "A10G"?'),
        ("TPU", "there are A10G"),
        ("a10g:8", "ask for less, or other regions"),
    ],
)
def test_a_gpu_that_nobody_offers_is_said_with_those_that_there_are(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, gpu: str, hint: str
) -> None:
    def found(_session: Any, query: OfferQuery, **_: Any) -> Offers:
        return Offers(() if query.needs.gpu else (ONE,), (NO_ACCOUNT,))

    monkeypatch.setattr("runctl.machines.offers.find_offers", found)

    error = error_of(invoke("offers", "--gpu", gpu, "--quiet", "--output", "json"))

    assert (error["code"], error["hint"]) == ("no-capacity", hint)


def test_where_no_gpu_is_offered_at_all_none_is_named(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runctl.machines.offers.find_offers", lambda *_, **__: Offers(()))

    error = error_of(invoke("offers", "--spot", "--gpu", "RTX 4090", "--quiet", "--output", "json"))

    assert error["hint"] == "ask for less, or other regions"


def test_where_a_region_could_not_be_read_nothing_is_called_not_offered(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runctl.machines.offers.find_offers", lambda *_, **__: Offers((), (DENIED,)))

    shown = invoke("offers", "--gpu", "TPU")

    assert (shown.exit_code, "you may not" in shown.stderr) == (0, True)
