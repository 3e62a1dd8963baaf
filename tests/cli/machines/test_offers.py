"""``runctl offers`` where nothing is offered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runctl.providers.abilities.catalogue import MachineOffer, OfferQuery, Offers, UnreadRegion
from tests.cli.conftest import Invoke, error_of, last_error
from tests.machines.test_offers import NONE, ONE

NO_ACCOUNT = UnreadRegion("two", None, "there is no key", "log in", "credentials")
DENIED = UnreadRegion("one", "eu-west-1", "you may not", "", "permission", 4)


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


def test_where_nothing_is_offered_and_a_region_could_not_be_read_its_reason_is_the_error(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Offers((), (NO_ACCOUNT, DENIED, replace(DENIED, region="mars", reason="there is no such region")))
    monkeypatch.setattr("runctl.machines.offers.find_offers", lambda *_, **__: found)

    shown = invoke("offers", "--gpu", "TPU", "--output", "json")

    assert (shown.exit_code, last_error(shown)["code"]) == (4, "permission")
    assert last_error(shown)["message"] == "one eu-west-1 could not be read: you may not"
    assert "warning: one mars could not be read: there is no such region" in shown.stderr


def test_who_never_rents_such_a_thing_hides_no_capacity(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = UnreadRegion("two", None, "no spot machines", "leave --spot out", "unsupported")
    monkeypatch.setattr("runctl.machines.offers.find_offers", lambda *_, **__: Offers((), (never,)))

    shown = invoke("offers", "--spot")

    assert (shown.exit_code, "warning: two is left out: no spot machines" in shown.stderr) == (6, True)


def test_what_could_not_be_read_is_a_warning_where_anything_is_offered(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runctl.machines.offers.find_offers", lambda *_, **__: Offers((ONE,), (DENIED,)))

    shown = invoke("offers")

    assert (shown.exit_code, "warning: one eu-west-1 could not be read" in shown.stderr) == (0, True)


@pytest.mark.parametrize(
    ("sort", "offer", "said"),
    [
        ("price", ONE, ("1 more, at no lower prices: --limit 2",)),
        ("price-per-gpu", ONE, ("1 more, at no lower prices per GPU: --limit 2",)),
        ("price-per-gpu", NONE, ("none of these has a GPU", "1 more")),
    ],
)
def test_what_is_not_shown_is_told_by_what_the_offers_are_sorted_by(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, sort: str, offer: MachineOffer, said: tuple[str, ...]
) -> None:
    monkeypatch.setattr("runctl.machines.offers.find_offers", lambda *_, **__: Offers((offer, offer)))

    shown = invoke("offers", "--sort", sort, "--limit", "1")

    assert all(each in shown.stderr for each in said)
    assert ("none of these" in shown.stderr) == (len(said) == 2)
