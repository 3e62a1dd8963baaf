"""Providers without client tokens: an answer that is lost makes no second machine, and nothing is forgotten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runctl.core.database import StateError
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
from runctl.providers import without_tokens
from runctl.providers.capacity import Offer, Pool, Refusal
from runctl.providers.instance_plans import CreatePlan
from runctl.providers.without_tokens import Calls, Creations
from runctl.testing.clock import ManualClock
from tests.providers.scripted_rest import interrupted

FOUND_WITHIN = timedelta(minutes=2)
FIRST, SECOND = Offer(Pool("a.1x", "any"), None), Offer(Pool("b.1x", "any"), None)
PLAN = cast(CreatePlan, SimpleNamespace(client_token="t", market=Market.ON_DEMAND, offers=(FIRST, SECOND)))


@dataclass
class Cloud:
    """What the list says, look by look; the last answer holds from then on."""

    folder: Path
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
            "local", "Cloud", "VM", FOUND_WITHIN, self.find, str, Calls(self.folder), self.clock, journal
        )
        return str(creations.first_that_can_be_had(PLAN, create, self.told.append, SILENT))

    @property
    def standing(self) -> Standing:
        return self.changes[-1].standing


def raising(error: BaseException) -> Callable[[Offer], str]:
    def create(_offer: Offer) -> str:
        raise error

    return create


def test_an_answer_that_is_lost_is_looked_for_also_while_the_list_fails(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, [None, Unreachable("500"), Unreachable("500"), None, "vm-1"])
    asked: list[Offer] = []

    def create(offer: Offer) -> str:
        asked.append(offer)
        raise OutcomeUnknown("lost")

    assert cloud.make(create) == "vm-1"
    assert asked == [FIRST]
    assert (cloud.standing, cloud.changes[-1].subject) == (Standing.DONE, ("vm-1",))


def test_what_never_appears_may_still_be_there_and_nothing_else_is_asked(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, [None])
    with pytest.raises(OutcomeUnknown, match="lost; no VM of that name has appeared") as caught:
        cloud.make(raising(OutcomeUnknown("lost")))
    assert caught.value.may_still_happen
    assert cloud.standing is Standing.UNDER_WAY
    assert cloud.told == []


def test_what_has_no_capacity_is_told_and_the_next_is_asked(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)

    def create(offer: Offer) -> str:
        if offer is FIRST:
            raise CapacityError("none")
        return "vm-2"

    assert cloud.make(create) == "vm-2"
    assert [refusal.pool for refusal in cloud.told] == [FIRST.pool]
    with pytest.raises(CapacityError, match=r"a\.1x, b\.1x"):
        cloud.make(raising(CapacityError("none")))


def test_a_machine_that_was_made_in_spite_of_the_words_for_no_capacity_is_taken(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, ["vm-3"])
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
def test_a_refusal_of_another_kind_ends_it_and_nothing_was_made(error: RunctlError, tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    with pytest.raises(type(error)):
        cloud.make(raising(error))
    assert cloud.standing is Standing.REFUSED
    assert cloud.told == []


def sent(calls: list[Offer]) -> Callable[[Offer], str]:
    def create(offer: Offer) -> str:
        calls.append(offer)
        return "vm-2"

    return create


def cut_short(cloud: Cloud, *, while_looking: bool) -> None:
    """A command whose call is not answered ends by Ctrl-C."""
    with interrupted(cloud.clock):
        cloud.make(raising(OutcomeUnknown("lost") if while_looking else KeyboardInterrupt()))


@pytest.mark.parametrize("while_looking", [True, False])
def test_the_same_command_looks_for_what_an_earlier_call_may_make_yet_and_sends_no_second_one(
    tmp_path: Path, while_looking: bool
) -> None:
    cloud = Cloud(tmp_path, [None])
    cut_short(cloud, while_looking=while_looking)
    again = Cloud(tmp_path, [None, Unreachable("500"), None, None, "vm-1"], clock=cloud.clock)
    calls: list[Offer] = []
    assert again.make(sent(calls)) == "vm-1"
    assert calls == []
    assert (again.standing, again.changes[-1].subject) == (Standing.DONE, ("vm-1",))


def test_what_has_not_appeared_in_its_time_is_made_and_that_time_is_not_waited_for_twice(
    tmp_path: Path,
) -> None:
    cloud = Cloud(tmp_path, [None])
    cut_short(cloud, while_looking=False)
    began = cloud.clock.now()
    cloud.clock.advance(FOUND_WITHIN / 2)
    calls: list[Offer] = []
    assert cloud.make(sent(calls)) == "vm-2"
    assert calls == [FIRST]
    assert cloud.clock.now() == began + FOUND_WITHIN
    # It was answered: nothing is looked for any more.
    assert cloud.make(sent(calls)) == "vm-2"
    assert cloud.clock.now() == began + FOUND_WITHIN


def test_nothing_is_sent_where_nobody_says_that_the_earlier_call_has_made_nothing(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, [None])
    cut_short(cloud, while_looking=False)
    cloud.looks = [None, Unreachable("500")]
    calls: list[Offer] = []
    with pytest.raises(Unreachable, match="500"):
        cloud.make(sent(calls))
    assert calls == []
    assert cloud.standing is Standing.UNDER_WAY


@pytest.mark.parametrize("error", [CapacityError("none"), UsageError("no"), Unreachable("not sent")])
def test_a_call_that_was_answered_is_not_looked_for(tmp_path: Path, error: RunctlError) -> None:
    cloud = Cloud(tmp_path)
    with pytest.raises(type(error)):
        cloud.make(raising(error))
    began = cloud.clock.now()
    assert cloud.make(sent([])) == "vm-2"
    assert cloud.clock.now() == began


def test_calls_of_long_ago_are_forgotten_and_one_that_cannot_be_written_down_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    calls = Calls(tmp_path / "creations")
    calls.note("old", clock.now(), FOUND_WITHIN)
    clock.advance(FOUND_WITHIN)
    calls.note("newer", clock.now(), FOUND_WITHIN)
    assert calls.sent_at("old") is not None
    clock.advance(timedelta(seconds=1))
    calls.note("newest", clock.now(), FOUND_WITHIN)
    assert [file.name for file in sorted((tmp_path / "creations").iterdir())] == ["newer", "newest"]

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(without_tokens, "write_atomically", full)
    made: list[Offer] = []
    cloud = Cloud(tmp_path)
    with pytest.raises(StateError, match="No space left on device"):
        cloud.make(sent(made))
    assert made == []
    assert cloud.standing is Standing.REFUSED
