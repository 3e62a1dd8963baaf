"""The lease: never two holders, whatever answers are lost and whatever the clocks say."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from threading import Event

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runctl.agent.lease import (
    SECONDS,
    TOLERANCE,
    Claim,
    Found,
    Lease,
    Refused,
    age_of,
    clock,
    decode,
    encode,
    refusal,
)
from runctl.agent.lease_keeper import LeaseKeeper

RUN = "run-1"


class Away(Exception):
    """The store has not answered."""

    def __init__(self) -> None:
        super().__init__("the store is away")


@dataclass
class Store:
    """One object behind a network: whole seconds in its headers, answers and requests that get lost or come late."""

    now: float = 0.0
    data: bytes | None = None
    etag: str = ""
    modified: float = 0.0
    faults: list[str] = field(default_factory=list)
    late: list[tuple[bytes, str]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)
    rival: Callable[[], object] = lambda: None
    """Does something between somebody's read and write."""

    def read(self) -> Found:
        if self._fault() not in ("", "rival"):
            raise Away
        if self.data is None:
            return Found()
        return Found(decode(self.data), self.etag, float(int(self.now) - int(self.modified)))

    def write(self, data: bytes, etag: str) -> str | None:
        fault = self._fault()
        if fault == "request":
            raise Away
        if fault == "rival":
            waiting, self.faults = self.faults, []
            self.rival()
            self.faults = waiting
        if fault == "late":
            self.late.append((data, etag))
            raise Away
        written = self.apply(data, etag)
        if fault == "answer":
            raise Away
        # A client that sends once more what was done already is refused because of itself.
        return self.apply(data, etag) if fault == "twice" else written

    def apply(self, data: bytes, etag: str) -> str | None:
        if etag != self.etag:
            return None
        self.data, self.etag, self.modified = data, f"etag-{next(self.numbers)}", self.now
        return self.etag

    def close(self) -> None:
        """Nothing is open."""

    def _fault(self) -> str:
        return self.faults.pop(0) if self.faults else ""


@dataclass
class Claimant:
    """A program on a machine, by its own clock."""

    claim: Claim
    attempts: list[int] = field(default_factory=list)


def claimant(store: Store, name: str, ahead: float = 0.0, pace: float = 1.0) -> Claimant:
    words = (f"{name}-{number}" for number in count())
    return Claimant(Claim(store, RUN, name, now=lambda: ahead + store.now * pace, unique=lambda: next(words)))


FAULTS = st.just([""]) | st.lists(
    st.sampled_from(["", "rival", "request", "answer", "late", "twice"]), min_size=1, max_size=3
)
WHO = st.integers(0, 2)
LIMIT = st.sampled_from([SECONDS, SECONDS + TOLERANCE, SECONDS / 2])
TIME = st.floats(0, 3) | st.builds(lambda limit, more: limit + more, LIMIT, st.floats(-4, 4))


class Leases(RuleBasedStateMachine):
    """Three programs want one run."""

    @initialize(
        ahead=st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3),
        pace=st.lists(st.floats(0.99, 1.01), min_size=3, max_size=3),
    )
    def begin(self, ahead: list[float], pace: list[float]) -> None:
        self.store = Store(now=1000.7)
        self.all = [claimant(self.store, f"c{n}", ahead[n], pace[n]) for n in range(3)]
        self.given: list[int] = []

    @rule(seconds=TIME)
    def time_passes(self, seconds: float) -> None:
        self.store.now += seconds

    @rule(who=WHO, faults=FAULTS)
    def take(self, who: int, faults: list[str]) -> None:
        if self._with(faults, self.all[who].claim.take) is None:
            assert self.all[who].claim.holds

    @rule(who=WHO, faults=FAULTS)
    def renew(self, who: int, faults: list[str]) -> None:
        self._with(faults, self.all[who].claim.renew)

    @rule(who=WHO, faults=FAULTS)
    def begin_attempt(self, who: int, faults: list[str]) -> None:
        number = self._with(faults, self.all[who].claim.begin_attempt)
        if isinstance(number, int):
            assert all(number > given for given in self.given)
            self.given.append(number)

    @rule(who=WHO, faults=FAULTS)
    def give_up(self, who: int, faults: list[str]) -> None:
        self._with(faults, self.all[who].claim.give_up)

    @rule(who=WHO, faults=FAULTS)
    def ask_holder(self, who: int, faults: list[str]) -> None:
        self._with(faults, self.all[who].claim.ask_holder)

    @rule(who=WHO)
    def begin_anew(self, who: int) -> None:
        """The program was killed; another one on the same machine."""
        name = f"c{who}-{self.store.now}-{next(self.store.numbers)}"
        self.all[who] = claimant(self.store, name)

    @precondition(lambda self: self.store.late)
    @rule()
    def a_late_request_arrives(self) -> None:
        self.store.apply(*self.store.late.pop(0))

    @invariant()
    def one_holder_at_most(self) -> None:
        holders = [each for each in getattr(self, "all", ()) if each.claim.holds]
        assert len(holders) <= 1

    def _with(self, faults: list[str], call: Callable[[], object]) -> object:
        self.store.faults = list(faults)
        owner = call.__self__  # type: ignore[attr-defined]
        others = [each.claim for each in self.all if each.claim is not owner]
        self.store.rival = lambda: [claim.take() for claim in others]
        try:
            return call()
        except Away:
            return "away"
        finally:
            self.store.faults = []


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=200, stateful_step_count=25, deadline=None)


def test_the_loser_hears_who_has_it_and_for_how_long() -> None:
    store = Store(now=100.0)
    first, second = claimant(store, "i-1"), claimant(store, "i-2")
    assert first.claim.take() is None
    store.now += 10
    assert second.claim.take() == Refused("i-1", SECONDS + TOLERANCE - 10)


def test_a_holder_that_died_is_followed_when_its_time_is_over() -> None:
    store = Store(now=100.0)
    first, second = claimant(store, "i-1"), claimant(store, "i-2")
    first.claim.take()
    assert first.claim.begin_attempt() == 1
    store.now += SECONDS
    assert not first.claim.holds
    assert second.claim.take() is not None, "the first one's machine may have another clock"
    store.now += TOLERANCE + 1
    assert second.claim.take() is None
    assert second.claim.begin_attempt() == 2
    assert first.claim.renew() is False


def test_the_lease_of_a_machine_that_has_certainly_ended_is_taken_at_once_unless_the_run_has_ended() -> None:
    store = Store(now=100.0)
    first, second, third = (claimant(store, f"i-{number}") for number in (1, 2, 3))
    first.claim.take()
    assert first.claim.begin_attempt() == 1
    assert second.claim.take(lambda holder: holder == "i-3") is not None, "nobody says so of the holder"
    assert second.claim.take(lambda holder: holder == "i-1") is None
    assert second.claim.begin_attempt() == 2
    assert first.claim.renew() is False
    second.claim.give_up("COMPLETED")
    refused = third.claim.take(lambda _: True)
    assert refused is not None
    assert refused.ended == "COMPLETED"


def test_a_lease_that_was_given_up_is_taken_at_once() -> None:
    store = Store(now=100.0)
    first, second = claimant(store, "i-1"), claimant(store, "i-2")
    first.claim.take()
    first.claim.give_up()
    assert second.claim.take() is None
    assert not first.claim.holds


def test_a_run_that_has_ended_is_taken_by_nobody_any_more() -> None:
    store = Store(now=100.0)
    first, second = claimant(store, "i-1"), claimant(store, "i-2")
    first.claim.take()
    first.claim.give_up("COMPLETED")
    store.now += 10 * SECONDS
    refused = second.claim.take()
    assert refused is not None
    assert refused.ended == "COMPLETED"


def test_the_holder_hears_who_asks_for_the_run_and_keeps_it_until_it_hands_it_over() -> None:
    store = Store(now=100.0)
    first, second, third = (claimant(store, f"i-{number}") for number in (1, 2, 3))
    first.claim.take()
    second.claim.ask_holder()
    third.claim.ask_holder()
    assert first.claim.renew()
    assert first.claim.wanted_by == "i-2"
    assert first.claim.holds
    first.claim.give_up()
    assert second.claim.take() is None
    assert second.claim.wanted_by == ""


@pytest.mark.parametrize("fault", ["answer", "twice"])
def test_a_write_whose_answer_was_lost_is_recognised(fault: str) -> None:
    store = Store(now=100.0)
    first = claimant(store, "i-1")
    store.faults = ["", fault]
    try:
        assert first.claim.take() is None
    except Away:
        store.now += 30
        assert first.claim.take() is None
    assert first.claim.holds
    store.faults = [fault]
    try:
        assert first.claim.renew()
    except Away:
        assert first.claim.renew()
    assert first.claim.until == pytest.approx(store.now + SECONDS)


def test_a_renewal_counts_from_before_it_was_sent() -> None:
    class Slow(Store):
        def write(self, data: bytes, etag: str) -> str | None:
            self.now += 40
            return super().write(data, etag)

    store = Slow(now=100.0)
    first = claimant(store, "i-1")
    first.claim.take()
    assert first.claim.until == 100 + SECONDS


def test_a_lease_is_as_old_as_the_store_says() -> None:
    headers = {"date": "Sun, 29 Mar 2026 01:00:30 GMT", "last-modified": "Sun, 29 Mar 2026 00:59:00 GMT"}
    assert age_of(headers) == 90
    assert age_of({**headers, "last-modified": "Sun, 29 Mar 2026 01:01:00 GMT"}) == 0
    assert age_of({}) == age_of({**headers, "date": "now"}) == 0


def test_a_lease_without_an_age_is_not_taken() -> None:
    held = Lease(RUN, 1, "i-1", "token")
    assert refusal(Found(held, "e", 0.0)) is not None
    assert refusal(Found(held, "e", SECONDS + TOLERANCE + 1)) is None
    assert refusal(Found(replace(held, holder="", token=""), "e", 0.0)) is None


def test_what_a_program_before_has_written_counts_only_when_it_is_renewed() -> None:
    store = Store()
    before = Claim(store, RUN, "a", token="t", now=lambda: store.now)
    assert before.take() is None
    store.now += SECONDS - 1
    after = Claim(store, RUN, "a", token="t", now=lambda: store.now)
    store.faults = ["", "request"]
    with pytest.raises(Away):
        after.take()
    assert not after.holds
    assert after.take() is None
    assert after.until == store.now + SECONDS


def test_an_attempt_that_somebody_knows_of_by_other_ways_keeps_its_number() -> None:
    store = Store()
    one = claimant(store, "a").claim
    assert one.take() is None
    assert one.begin_attempt() == 1
    assert one.begin_attempt(4) == 4
    assert one.begin_attempt(2) == 5


@pytest.mark.linux
def test_the_clock_goes_on_while_the_computer_sleeps() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= clock() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_whoever_follows_the_lease_hears_why_it_is_not_renewed_and_that_it_is_again() -> None:
    store, heard, news = Store(), list[str](), Event()
    claim = claimant(store, "a").claim
    assert claim.take() is None

    def note() -> None:
        heard.append(keeper.trouble)
        store.faults = ["request"] if len(heard) == 1 else []
        if len(heard) == 3:
            news.set()

    keeper = LeaseKeeper(claim, 0.09, note)
    with keeper:
        assert news.wait(20)
    assert heard[:3] == ["", "the store is away", ""]


def test_what_is_no_lease_is_refused_as_such() -> None:
    assert decode(encode(Lease(RUN, 3))) == Lease(RUN, 3)
    for data in (b"", b"[]", b'{"format":2,"run_id":"x"}', b'{"format":1}'):
        with pytest.raises(ValueError):
            decode(data)
