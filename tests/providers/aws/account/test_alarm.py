"""The spending alarm is changed where it stands: whatever goes wrong, there is one, and who is told stays told."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from runctl.providers.abilities.account import SetupPart, SetupRequest, SetupState
from runctl.providers.aws.account.alarm import NAME
from runctl.providers.aws.aws_provider import AwsProvider
from runctl.providers.aws.calls.session import AwsSession
from runctl.sandbox.api.needs import budgets_needs
from runctl.sandbox.prices import budgets

ME, OTHER = "me@example.com", "team@example.com"


@pytest.fixture(autouse=True)
def alarm(provider: AwsProvider) -> None:
    """One of $200, of which somebody else is told, too."""
    budgets.install()
    for address in (ME, OTHER):
        set_up(provider, 200, address)


def set_up(provider: AwsProvider, amount: int, address: str) -> SetupPart:
    request = SetupRequest(profile=False, bucket=False, alarm=Decimal(amount), email=address)
    (part,) = provider.account.create(provider.account.plan(request)).parts
    return part


def found(session: AwsSession) -> tuple[int, dict[str, list[str]]]:
    """The amount, and whom it tells when."""
    of = {"AccountId": session.identity.account, "BudgetName": NAME}
    told = {}
    for notification in session.budgets.describe_notifications_for_budget(**of)["Notifications"]:
        answer = session.budgets.describe_subscribers_for_notification(**of, Notification=notification)
        told[notification["NotificationType"]] = [each["Address"] for each in answer["Subscribers"]]
    return int(session.budgets.describe_budget(**of)["Budget"]["BudgetLimit"]["Amount"]), told


@pytest.fixture
def calls(session: AwsSession) -> Iterator[list[str]]:
    """The calls that are made."""
    made: list[str] = []

    def hear(model: Any, **_: Any) -> None:
        made.append(model.name)

    session.budgets.meta.events.register("before-call.*.*", hear, unique_id="hear")
    yield made
    session.budgets.meta.events.unregister("before-call.*.*", unique_id="hear")


def test_another_amount_takes_nobody_off_and_nothing_away(
    provider: AwsProvider, session: AwsSession, calls: list[str]
) -> None:
    part = set_up(provider, 300, ME)

    assert part.state is SetupState.READY
    assert part.purpose == f"tells {ME}, {OTHER} when the account's month goes beyond $300.00; free"
    assert found(session) == (300, {"ACTUAL": [ME, OTHER], "FORECASTED": [ME, OTHER]})
    assert "UpdateBudget" in calls
    assert not {"CreateBudget", "DeleteBudget"} & set(calls)


def test_what_was_set_in_the_console_stays(provider: AwsProvider, session: AwsSession) -> None:
    of = {"AccountId": session.identity.account}
    budget = session.budgets.describe_budget(**of, BudgetName=NAME)["Budget"]
    taxes = {**budget["CostTypes"], "IncludeTax": False}
    new = {key: budget[key] for key in ("BudgetName", "BudgetLimit", "TimeUnit", "BudgetType")}
    session.budgets.update_budget(**of, NewBudget={**new, "CostTypes": taxes})

    set_up(provider, 300, ME)

    assert session.budgets.describe_budget(**of, BudgetName=NAME)["Budget"]["CostTypes"] == taxes


@pytest.mark.parametrize("call", ["CreateSubscriber", "UpdateBudget"])
def test_a_change_that_is_refused_or_cut_short_leaves_the_alarm_and_is_finished_by_the_next(
    provider: AwsProvider, session: AwsSession, call: str
) -> None:
    events, ways = session.budgets.meta.events, f"before-call.budgets.{call}"

    def cut(**_: Any) -> None:
        raise KeyboardInterrupt

    events.register(ways, cut, unique_id="cut")
    try:
        with pytest.raises(KeyboardInterrupt):
            set_up(provider, 300, "new@example.com")
    finally:
        events.unregister(ways, unique_id="cut")
    amount, told = found(session)
    assert amount == 200
    assert all({ME, OTHER} <= set(addresses) for addresses in told.values())

    assert set_up(provider, 300, "new@example.com").state is SetupState.READY
    assert found(session) == (
        300,
        {kind: [ME, OTHER, "new@example.com"] for kind in ("ACTUAL", "FORECASTED")},
    )


def test_a_condition_that_somebody_has_deleted_is_put_back(
    provider: AwsProvider, session: AwsSession
) -> None:
    of = {"AccountId": session.identity.account, "BudgetName": NAME}
    first, _ = session.budgets.describe_notifications_for_budget(**of)["Notifications"]
    session.budgets.delete_notification(**of, Notification=first)
    request = SetupRequest(profile=False, bucket=False, alarm=Decimal(200), email=ME)
    (part,) = provider.account.plan(request).parts
    assert (part.state, part.detail) == (SetupState.INCOMPLETE, f"{ME} is not told yet")

    assert set_up(provider, 200, ME).state is SetupState.READY
    assert found(session)[1] == {"FORECASTED": [ME, OTHER], "ACTUAL": [ME]}


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("UpdateBudget", b'{"AccountId": "1", "NewBudget": {"BudgetName": "runctl-x"}}'),
        ("CreateBudget", b'{"AccountId": "1", "Budget": {"BudgetName": "runctl-x"}}'),
        ("CreateSubscriber", b'{"AccountId": "1", "BudgetName": "runctl-x", "Subscriber": {}}'),
    ],
)
def test_the_sandbox_asks_for_the_right_to_change_this_budget(call: str, body: bytes) -> None:
    (need,) = budgets_needs(call, body)
    assert (need.action, str(need.resource).rpartition(":")[2]) == ("budgets:ModifyBudget", "budget/runctl-x")
