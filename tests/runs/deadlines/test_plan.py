"""What a deadline makes of a launch."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from runctl.agent.deadline import Policy
from runctl.agent.deadline_spec import DeadlineSpec
from runctl.core.errors import UsageError
from runctl.core.machine_models import Market
from runctl.providers.capacity import FallbackMode, SpotFallback
from runctl.providers.instance_plans import CreatePlan, InstanceRequest
from runctl.runs.deadlines.plan import (
    DeadlineRequest,
    check_deadline,
    first_spec,
    parse_deadline,
    plan_deadline,
    settled,
    unattended,
    unattended_request,
    with_market,
)
from tests.cli.fake_provider import a_plan
from tests.rates import hourly
from tests.runs.sample_runs import T0

REQUEST = DeadlineRequest(T0 + timedelta(hours=52), T0, estimate=timedelta(hours=48))
SPEC = first_spec(REQUEST, ())
MACHINE = InstanceRequest("g5.xlarge", market=Market.SPOT)


def priced(market: Market, usd: str) -> CreatePlan:
    plan = a_plan(replace(MACHINE, market=market), tags={}, client_token="t")
    return replace(
        plan,
        market=market,
        price=hourly(usd, "spot price history"),
        on_demand_price=hourly("1.00", "price list"),
    )


def test_a_deadline_is_a_time_span_or_a_time() -> None:
    assert parse_deadline("52h", T0) == T0 + timedelta(hours=52)
    assert parse_deadline("2026-12-01T08:00Z", T0) == datetime(2026, 12, 1, 8, tzinfo=UTC)
    assert parse_deadline("2026-12-01T08:00", T0) == datetime(2026, 12, 1, 8).astimezone(UTC)
    for wrong in ("2026-12-01", "tomorrow", "2026-13-01T08:00"):
        with pytest.raises(ValueError, match="write"):
            parse_deadline(wrong, T0)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (SPEC, None),
        (replace(SPEC, ends_at=SPEC.asked_at + 48 * 3600 + 360), None),
        (replace(SPEC, ends_at=SPEC.asked_at + 48 * 3600 + 359), "it takes 2d0h"),
        (replace(SPEC, ends_at=SPEC.asked_at + 300, estimate_seconds=None), "6m more"),
        (replace(SPEC, ends_at=SPEC.asked_at), "has passed"),
        (replace(SPEC, ends_at=SPEC.asked_at + 3600, policy="spot"), None),
        # Earlier runs have shown that machines here start faster.
        (replace(SPEC, ends_at=SPEC.asked_at + 48 * 3600 + 150, restart_seconds=90.0), None),
    ],
)
def test_what_cannot_be_kept_is_refused(spec: DeadlineSpec, problem: str | None) -> None:
    if problem is None:
        check_deadline(spec, T0)
        return
    with pytest.raises(UsageError, match=problem.replace("it takes", "the run takes")) as raised:
        check_deadline(spec, T0)
    assert "--deadline" in raised.value.hint


@pytest.mark.parametrize(
    ("policy", "market", "waits"),
    [
        # Four hours less the margin; policy deadline keeps back what restarts are expected to need.
        (Policy.DEADLINE, Market.SPOT, 4 * 3600 - 360 - 2 * 300 * 24),
        (Policy.SPOT_THEN_ON_DEMAND, Market.SPOT, 4 * 3600 - 360),
        (Policy.ON_DEMAND, Market.ON_DEMAND, None),
        (Policy.SPOT, Market.SPOT, None),
    ],
)
def test_the_policy_chooses_the_first_market(policy: Policy, market: Market, waits: float | None) -> None:
    spec = replace(SPEC, policy=policy.value)
    fallback = SpotFallback()
    if waits is not None:
        fallback = SpotFallback(FallbackMode.ON_DEMAND, timedelta(seconds=max(waits, 0)))
    assert with_market(MACHINE, spec, T0) == replace(MACHINE, market=market, fallback=fallback)


def test_what_is_not_known_yet_begins_on_spot_and_waits_for_nothing() -> None:
    spec = replace(SPEC, estimate_seconds=None)
    assert with_market(MACHINE, spec, T0).fallback == SpotFallback(FallbackMode.ON_DEMAND, timedelta())
    plan = plan_deadline(spec, priced(Market.SPOT, "0.30"), T0)
    assert (plan.on_demand_at, plan.expected_usd, plan.on_demand_usd) == (None, None, None)
    assert plan.why == "how long it takes is to be learned from its progress"


def test_prices_and_lifetimes_are_the_machines() -> None:
    spec = settled(SPEC, priced(Market.SPOT, "0.40"), timedelta(hours=9))
    assert (spec.spot_share, spec.between_interruptions) == (0.4, 9 * 3600)
    # On demand nothing is known of spot.
    assert settled(SPEC, priced(Market.ON_DEMAND, "1.00"), timedelta(hours=9)).spot_share == 0.3


def test_the_plan_says_what_each_way_costs() -> None:
    plan = plan_deadline(replace(SPEC, between_interruptions=48 * 3600.0), priced(Market.SPOT, "0.30"), T0)
    # 48 hours, and five minutes for each of two starts.
    assert plan.expected_usd == Decimal("14.4500")
    several = plan_deadline(
        replace(SPEC, between_interruptions=48 * 3600.0), priced(Market.SPOT, "0.30"), T0, 3
    )
    assert several.expected_usd == 3 * plan.expected_usd
    assert plan.on_demand_usd == Decimal("48.0833")
    # And one attempt that was lost while it started.
    assert plan.most_usd == Decimal("48.0833") + Decimal("0.1083")
    assert plan.on_demand_at == T0 + timedelta(hours=4) - timedelta(seconds=360)
    on_demand = plan_deadline(replace(SPEC, policy="on-demand"), priced(Market.ON_DEMAND, "1.00"), T0)
    assert on_demand.expected_usd == on_demand.on_demand_usd == on_demand.most_usd


def test_with_nobody_watching_a_second_group_begins_at_the_last_moment() -> None:
    spec = unattended(SPEC)
    first, begins = unattended_request(replace(MACHINE, fallback=SpotFallback(FallbackMode.ASK)), spec, T0)
    assert first == replace(MACHINE, market=Market.SPOT)
    # The scheduler's two minutes and a lease that nobody gave up are kept back besides.
    margin = timedelta(seconds=300 + 60 + 120 + 185)
    assert begins == T0 + timedelta(hours=4) - margin
    plan = plan_deadline(spec, priced(Market.SPOT, "0.30"), T0)
    assert (plan.is_unattended, plan.on_demand_at) == (True, begins)
    with pytest.raises(UsageError, match="11m more"):
        check_deadline(replace(spec, ends_at=spec.asked_at + 48 * 3600 + 600), T0)


@pytest.mark.parametrize(
    ("spec", "market"),
    [
        (replace(SPEC, policy="on-demand"), Market.ON_DEMAND),
        (replace(SPEC, policy="spot"), Market.SPOT),
        # There is no time for spot.
        (replace(SPEC, ends_at=SPEC.asked_at + 48 * 3600 + 700), Market.ON_DEMAND),
    ],
)
def test_one_group_will_do_where_the_market_stays(spec: DeadlineSpec, market: Market) -> None:
    assert unattended_request(MACHINE, unattended(spec), T0) == (replace(MACHINE, market=market), None)


def test_when_on_demand_begins_must_be_known_before() -> None:
    with pytest.raises(UsageError, match="needs --estimate"):
        unattended(replace(SPEC, estimate_seconds=None))
