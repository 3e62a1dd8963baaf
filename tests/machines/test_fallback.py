"""Spot turns into on-demand only where somebody has said so, and never while waiting was asked for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from runctl.core.database import Database
from runctl.core.errors import CapacityError, QuotaExceeded, Unsupported, UsageError
from runctl.core.machine_models import Instance, Market
from runctl.core.tags import INTENT
from runctl.machines.fallback import NextStep, check_fallback, next_step, pause, price_difference
from runctl.machines.intents import IntentState, IntentStore
from runctl.machines.renting import Rentals
from runctl.providers.capacity import FallbackMode, Needs, SpotFallback
from runctl.providers.instance_plans import CreatePlan, InstanceRequest
from runctl.testing.clock import ManualClock
from runctl.testing.progress import RecordedProgress
from tests.cli.fake_provider import FakeProvider, Script, a_plan, an_instance
from tests.rates import hourly

NONE, ASK, ON_DEMAND = FallbackMode.NONE, FallbackMode.ASK, FallbackMode.ON_DEMAND
NO_CAPACITY, QUOTA = CapacityError("no capacity"), QuotaExceeded("0 vCPUs")
WAIT = timedelta(minutes=20)


@pytest.mark.parametrize(
    ("fallback", "market", "error", "waited", "step"),
    [
        (SpotFallback(NONE), Market.SPOT, NO_CAPACITY, timedelta(), NextStep.FAIL),
        (SpotFallback(ASK), Market.SPOT, NO_CAPACITY, timedelta(), NextStep.ASK),
        (SpotFallback(ON_DEMAND), Market.SPOT, NO_CAPACITY, timedelta(), NextStep.ON_DEMAND),
        (SpotFallback(ON_DEMAND), Market.ON_DEMAND, NO_CAPACITY, timedelta(), NextStep.FAIL),
        (SpotFallback(ON_DEMAND, WAIT), Market.SPOT, NO_CAPACITY, timedelta(minutes=19), NextStep.RETRY),
        (SpotFallback(ON_DEMAND, WAIT), Market.SPOT, NO_CAPACITY, WAIT, NextStep.ON_DEMAND),
        (SpotFallback(ASK, WAIT), Market.SPOT, NO_CAPACITY, timedelta(), NextStep.RETRY),
        (SpotFallback(ON_DEMAND, WAIT), Market.SPOT, QUOTA, timedelta(), NextStep.ON_DEMAND),
        (SpotFallback(ASK, WAIT), Market.SPOT, QUOTA, timedelta(), NextStep.ASK),
    ],
)
def test_what_follows_when_no_spot_machine_can_be_had(
    fallback: SpotFallback, market: Market, error: CapacityError, waited: timedelta, step: NextStep
) -> None:
    assert next_step(fallback, market, error, waited) is step


def test_pauses_grow_and_the_last_one_ends_with_the_time() -> None:
    pauses = [pause(tries, WAIT) for tries in range(6)]

    assert pauses == sorted(pauses)
    assert pauses[-1] == timedelta(minutes=2)
    assert pause(5, timedelta(seconds=3)) == timedelta(seconds=3)


def test_the_difference_in_price_is_said() -> None:
    plan = a_plan(InstanceRequest(market=Market.SPOT))

    assert price_difference(plan) == "on demand for $0.5260 an hour, $0.3682 more than spot"
    assert "not known" in price_difference(a_plan(InstanceRequest(), on_demand_price=None))


@pytest.mark.parametrize(
    ("mode", "limit", "refused"),
    [(ON_DEMAND, "0.50", True), (ON_DEMAND, "0.60", False), (ASK, "0.50", False)],
)
def test_a_fallback_above_the_limit_on_the_price_is_refused_at_once(
    mode: FallbackMode, limit: str, refused: bool
) -> None:
    plan = a_plan(InstanceRequest(market=Market.SPOT), fallback=SpotFallback(mode), max_price=Decimal(limit))

    if refused:
        with pytest.raises(UsageError, match=r"above --max-price 0\.50"):
            check_fallback(plan)
    else:
        check_fallback(plan)


class EmptyMarket:
    """A provider whose spot market gives nothing, ``refusals`` times."""

    def __init__(self, folder: Path, refusals: int) -> None:
        self.clock = ManualClock()
        self.progress = RecordedProgress()
        self.refusals = refusals
        self.planned: list[InstanceRequest] = []
        self.asked: list[CreatePlan] = []
        self.store = IntentStore(Database(folder / "state.db"), folder / "locks")
        script = Script({"plan_create": self.plan, "create": self.create, "instances": ()})
        self.rentals = Rentals(FakeProvider(script), self.store, clock=self.clock, progress=self.progress)

    def plan(self, request: InstanceRequest) -> CreatePlan:
        self.planned.append(request)
        on_demand = {"price": hourly("0.526", "price list")}
        changes = {} if request.market is Market.SPOT else on_demand
        return a_plan(request, client_token=request.token, **changes)

    def create(self, plan: CreatePlan) -> Instance:
        if plan.market is Market.SPOT and self.refusals:
            self.refusals -= 1
            raise CapacityError("no capacity in two pools")
        return an_instance(market=plan.market, tags={INTENT: plan.client_token})

    def rent(
        self, fallback: SpotFallback, answer: Callable[[CreatePlan], bool] = lambda _: False
    ) -> Instance:
        def ask(plan: CreatePlan, error: CapacityError) -> bool:
            assert "no capacity" in error.message
            self.asked.append(plan)
            return answer(plan)

        request = InstanceRequest(market=Market.SPOT, fallback=fallback)
        with self.rentals.renting(request) as machine:
            return machine.rent(wait=None, ask_fallback=ask)


def test_without_a_fallback_the_refusal_is_the_end(tmp_path: Path) -> None:
    market = EmptyMarket(tmp_path, refusals=1)

    with pytest.raises(CapacityError, match="two pools"):
        market.rent(SpotFallback())

    assert [request.market for request in market.planned] == [Market.SPOT]


def test_spot_is_asked_for_again_until_there_is_some(tmp_path: Path) -> None:
    market = EmptyMarket(tmp_path, refusals=3)

    instance = market.rent(SpotFallback(ON_DEMAND, WAIT))

    assert instance.market is Market.SPOT
    tokens = [request.token for request in market.planned]
    assert len(set(tokens)) == len(tokens) == 4
    assert {market.store.get(token).state for token in tokens[:-1]} == {IntentState.NOTHING}  # type: ignore[union-attr, arg-type]


def test_after_the_time_it_is_rented_on_demand(tmp_path: Path) -> None:
    market = EmptyMarket(tmp_path, refusals=10**6)
    start = market.clock.monotonic()

    instance = market.rent(SpotFallback(ON_DEMAND, WAIT))

    assert instance.market is Market.ON_DEMAND
    assert market.clock.monotonic() - start == WAIT.total_seconds()
    assert market.asked == []


@pytest.mark.parametrize("yes", [True, False])
def test_who_is_asked_sees_the_on_demand_plan_first(tmp_path: Path, yes: bool) -> None:
    market = EmptyMarket(tmp_path, refusals=1)

    if yes:
        assert market.rent(SpotFallback(ASK), lambda _: True).market is Market.ON_DEMAND
    else:
        with pytest.raises(CapacityError, match="two pools"):
            market.rent(SpotFallback(ASK))

    (shown,) = market.asked
    assert (shown.market, shown.price and shown.price.usd) == (Market.ON_DEMAND, Decimal("0.526"))
    assert market.store.unfinished() == []


@pytest.mark.parametrize(
    "request_",
    [
        InstanceRequest("a", other_types=("b",)),
        InstanceRequest(needs=Needs(cpus=8)),
        InstanceRequest(max_price=Decimal(1)),
    ],
)
def test_a_provider_that_cannot_choose_says_so(tmp_path: Path, request_: InstanceRequest) -> None:
    market = EmptyMarket(tmp_path, refusals=0)
    market.rentals.provider.renting.choosing = Unsupported("one type at a time")  # type: ignore[union-attr]

    with pytest.raises(Unsupported, match="one type at a time"), market.rentals.renting(request_):
        pass

    assert market.planned == []
