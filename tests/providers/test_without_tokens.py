"""Providers without client tokens: an answer that is lost makes no second machine, and nothing is forgotten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runctl.core.errors import (
    CapacityError,
    CredentialsError,
    OutcomeUnknown,
    QuotaExceeded,
    RunctlError,
    Unreachable,
    UsageError,
)
from runctl.core.journal import Change, Journal, Standing
from runctl.core.machine_models import Market
from runctl.core.progress import SILENT
from runctl.providers.capacity import Offer, Pool, Refusal
from runctl.providers.interface import CreatePlan
from runctl.providers.without_tokens import Creations
from runctl.testing.clock import ManualClock

FIRST, SECOND = Offer(Pool("a.1x", "any"), None), Offer(Pool("b.1x", "any"), None)
PLAN = cast(CreatePlan, SimpleNamespace(client_token="t", market=Market.ON_DEMAND, offers=(FIRST, SECOND)))


@dataclass
class Cloud:
    """What the list says, look by look; the last answer holds from then on."""

    looks: list[str | RunctlError | None] = field(default_factory=lambda: [None])
    told: list[Refusal] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    clock: ManualClock = field(default_factory=ManualClock)

    def find(self, token: str) -> str | None:
        assert token == "t"
        answer = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(answer, RunctlError):
            raise answer
        return answer

    def make(self, create: Callable[[Offer], str]) -> str:
        journal = Journal()
        journal.listen(self.changes.append)
        creations: Creations[Any] = Creations(
            "local", "Cloud", "VM", timedelta(minutes=2), self.find, str, self.clock, journal
        )
        return str(creations.first_that_can_be_had(PLAN, create, self.told.append, SILENT))

    @property
    def standing(self) -> Standing:
        return self.changes[-1].standing


def raising(error: RunctlError) -> Callable[[Offer], str]:
    def create(_offer: Offer) -> str:
        raise error

    return create


def test_an_answer_that_is_lost_is_looked_for_also_while_the_list_fails() -> None:
    cloud = Cloud([None, Unreachable("500"), Unreachable("500"), None, "vm-1"])
    asked: list[Offer] = []

    def create(offer: Offer) -> str:
        asked.append(offer)
        raise OutcomeUnknown("lost")

    assert cloud.make(create) == "vm-1"
    assert asked == [FIRST]
    assert (cloud.standing, cloud.changes[-1].subject) == (Standing.DONE, ("vm-1",))


def test_what_never_appears_may_still_be_there_and_nothing_else_is_asked() -> None:
    cloud = Cloud([None])
    with pytest.raises(OutcomeUnknown, match="lost; no VM of that name has appeared") as caught:
        cloud.make(raising(OutcomeUnknown("lost")))
    assert caught.value.may_still_happen
    assert cloud.standing is Standing.UNDER_WAY
    assert cloud.told == []


def test_what_has_no_capacity_is_told_and_the_next_is_asked() -> None:
    cloud = Cloud()

    def create(offer: Offer) -> str:
        if offer is FIRST:
            raise CapacityError("none")
        return "vm-2"

    assert cloud.make(create) == "vm-2"
    assert [refusal.pool for refusal in cloud.told] == [FIRST.pool]
    with pytest.raises(CapacityError, match=r"a\.1x, b\.1x"):
        cloud.make(raising(CapacityError("none")))


def test_a_machine_that_was_made_in_spite_of_the_words_for_no_capacity_is_taken() -> None:
    cloud = Cloud(["vm-3"])
    assert cloud.make(raising(CapacityError("none"))) == "vm-3"
    assert cloud.told == []


@pytest.mark.parametrize(
    "error",
    [
        QuotaExceeded("no credit", code="no-credit"),
        UsageError("no"),
        CredentialsError("no"),
        Unreachable("no"),
    ],
)
def test_a_refusal_of_another_kind_ends_it_and_nothing_was_made(error: RunctlError) -> None:
    cloud = Cloud()
    with pytest.raises(type(error)):
        cloud.make(raising(error))
    assert cloud.standing is Standing.REFUSED
    assert cloud.told == []
