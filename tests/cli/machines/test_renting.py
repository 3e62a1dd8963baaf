"""Who is asked before a machine is rented."""

from __future__ import annotations

from decimal import Decimal

import pytest

from runctl.cli.context import Cli
from runctl.cli.machines.renting import Answer, decide, highest_price
from runctl.core.machine_models import Market
from runctl.providers.capacity import FallbackMode, SpotFallback
from runctl.providers.instance_plans import InstanceRequest
from tests.cli.conftest import Invoke
from tests.cli.fake_provider import Script, a_plan, an_instance

CHEAP, DEAR = Decimal("0.10"), Decimal("40.00")
ONE = Decimal(1)


@pytest.mark.parametrize(
    ("money", "price", "limit", "terminal", "always", "answer"),
    [
        (True, CHEAP, None, True, False, Answer.ASK),
        (True, CHEAP, ONE, True, False, Answer.ASK),
        (True, None, None, True, False, Answer.ASK),
        (True, DEAR, None, False, False, Answer.RENT),
        (True, CHEAP, ONE, False, False, Answer.RENT),
        (True, ONE, ONE, False, False, Answer.RENT),
        (True, DEAR, ONE, False, False, Answer.REFUSE),
        (True, None, ONE, False, False, Answer.REFUSE),
        (True, CHEAP, Decimal(0), False, False, Answer.REFUSE),
        (True, CHEAP, None, False, True, Answer.REFUSE),
        (False, DEAR, ONE, True, False, Answer.RENT),
        (False, DEAR, ONE, False, False, Answer.RENT),
        (False, CHEAP, None, True, True, Answer.ASK),
        (False, CHEAP, None, False, True, Answer.REFUSE),
    ],
)
def test_who_is_asked(
    money: bool, price: Decimal | None, limit: Decimal | None, terminal: bool, always: bool, answer: Answer
) -> None:
    found = decide(costs_money=money, price_per_hour=price, ask_above=limit, terminal=terminal, always=always)
    assert found is answer


@pytest.fixture
def aws(script: Script) -> Script:
    script.answers.update(plan_create=a_plan, create=an_instance(), wait_ready=an_instance())
    return script


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody can be asked."""
    monkeypatch.setattr(Cli, "has_terminal", True)


def made(aws: Script) -> bool:
    return "create" in [call.name for call in aws.calls]


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(("typed", "code", "rented"), [("y\n", 0, True), ("n\n", 1, False), ("", 1, False)])
def test_on_a_terminal_create_asks_with_the_price(
    invoke: Invoke, aws: Script, typed: str, code: int, rented: bool
) -> None:
    result = invoke("aws", "create", "g4dn.xlarge", stdin=typed)
    assert "Rent this g4dn.xlarge for $0.1578 an hour? [y/N]" in result.stderr
    assert (result.exit_code, made(aws)) == (code, rented)


@pytest.mark.usefixtures("terminal")
def test_yes_and_the_sandbox_are_not_asked(invoke: Invoke, aws: Script) -> None:
    assert "[y/N]" not in invoke("aws", "create", "--yes").stderr
    aws.answers["costs_money"] = False
    assert "[y/N]" not in invoke("aws", "create").stderr


def test_without_a_terminal_the_limit_decides(invoke: Invoke, aws: Script) -> None:
    assert invoke("aws", "create").exit_code == 0
    invoke("config", "set", "aws.ask_above", "0.15")
    aws.calls.clear()

    refused = invoke("aws", "create")

    assert refused.exit_code == 2
    assert "ask_above is $0.1500 an hour" in refused.stderr
    assert "hint: --yes rents it" in refused.stderr
    assert not made(aws)
    assert invoke("aws", "create", "--yes").exit_code == 0


@pytest.mark.parametrize(("text", "code"), [("2.5", 0), ("0", 0), ("-1", 3), ("nan", 3), ("much", 3)])
def test_the_limit_is_an_amount(invoke: Invoke, text: str, code: int) -> None:
    result = invoke("config", "set", "--", "aws.ask_above", text)
    assert result.exit_code == code, result.stderr


def test_the_price_that_follows_by_itself_counts_for_the_limit() -> None:
    spot = InstanceRequest(market=Market.SPOT)
    fallback = SpotFallback(FallbackMode.ON_DEMAND)

    assert highest_price(a_plan(spot)).usd == Decimal("0.1578")  # type: ignore[union-attr]
    assert highest_price(a_plan(spot, fallback=fallback)).usd == Decimal("0.526")  # type: ignore[union-attr]
    assert highest_price(a_plan(spot, fallback=fallback, on_demand_price=None)) is None
