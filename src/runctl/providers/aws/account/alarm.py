"""A budget of AWS Budgets on what the whole account spends in a month: it tells somebody, and stops nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from runctl.core.money import usd
from runctl.core.progress import Progress
from runctl.providers.abilities.account import SetupPart, SetupState
from runctl.providers.aws.calls.errors import error_code
from runctl.providers.aws.context import AwsContext

NAME = "runctl-monthly-spending"
SHARE = 80
"""Per cent of the amount at which somebody is told first; the second time is when a forecast goes beyond it."""
_ABSENT = frozenset({"NotFoundException"})
_CONDITIONS: tuple[Mapping[str, Any], ...] = (
    {
        "NotificationType": "ACTUAL",
        "ComparisonOperator": "GREATER_THAN",
        "Threshold": SHARE,
        "ThresholdType": "PERCENTAGE",
    },
    {
        "NotificationType": "FORECASTED",
        "ComparisonOperator": "GREATER_THAN",
        "Threshold": 100,
        "ThresholdType": "PERCENTAGE",
    },
)
"""When somebody is told."""
_KEPT = (
    "BudgetName",
    "CostFilters",
    "CostTypes",
    "FilterExpression",
    "Metrics",
    "BillingViewArn",
    "TimeUnit",
    "TimePeriod",
    "BudgetType",
)
"""What UpdateBudget is given back as it was: it replaces all that can be set, and may have been set in the console."""


class Alarm:
    """The part of the set-up. It has a name of its own, as budgets have no tags that can be asked for in one call."""

    kind, name = "budget alarm", NAME

    def __init__(self, context: AwsContext, amount: Decimal | None, email: str | None) -> None:
        self._session, self._amount, self._email = context.session, amount, email

    def inspect(self) -> SetupPart:
        """Whether it is there, with this amount and this address."""
        found = self._find()
        if found is None:
            return self._part(SetupState.MISSING)
        known = Decimal(found["BudgetLimit"]["Amount"])
        if self._amount is not None and known != self._amount:
            return self._part(SetupState.INCOMPLETE, f"it is {usd(known)} now")
        told = [self._told(condition) or set() for condition in _CONDITIONS]
        if self._email is not None and not all(self._email in addresses for addresses in told):
            return self._part(SetupState.INCOMPLETE, f"{self._email} is not told yet")
        others = sorted(set().union(*told) - {self._email})
        return self._part(SetupState.READY, others=others)

    def inspect_for_removal(self) -> SetupPart:
        """Whether there is one."""
        return self._part(SetupState.MISSING if self._find() is None else SetupState.READY)

    def create(self, progress: Progress) -> None:
        """It is there. One that was there is changed, and not for a moment gone: who is told already stays told.

        The address comes first: it is what AWS may refuse, and then nothing has changed.
        """
        found = self._find()
        progress.step(f"{'creating' if found is None else 'changing'} the budget alarm {NAME}")
        if found is None:
            self._session.budgets.create_budget(
                AccountId=self._session.identity.account,
                Budget={
                    "BudgetName": NAME,
                    "BudgetLimit": self._limit,
                    "TimeUnit": "MONTHLY",
                    "BudgetType": "COST",
                },
                NotificationsWithSubscribers=[
                    {"Notification": condition, "Subscribers": [self._subscriber]}
                    for condition in _CONDITIONS
                ],
            )
            return
        for condition in _CONDITIONS:
            self._tell(condition)
        if Decimal(found["BudgetLimit"]["Amount"]) != self._amount:
            kept = {key: found[key] for key in _KEPT if key in found}
            self._session.budgets.update_budget(
                AccountId=self._session.identity.account,
                NewBudget={**kept, "BudgetLimit": self._limit},
            )

    def remove(self, progress: Progress) -> None:
        """It is gone."""
        progress.step(f"deleting the budget alarm {NAME}")
        self._delete()

    def _find(self) -> Any:
        return _found(
            lambda: self._session.budgets.describe_budget(
                AccountId=self._session.identity.account, BudgetName=NAME
            )["Budget"]
        )

    @property
    def _limit(self) -> dict[str, str]:
        return {"Amount": str(self._amount), "Unit": "USD"}

    @property
    def _subscriber(self) -> dict[str, str | None]:
        return {"SubscriptionType": "EMAIL", "Address": self._email}

    def _told(self, condition: Mapping[str, Any]) -> set[str] | None:
        """Whom AWS tells then; ``None`` where the alarm lacks this condition."""
        answer = _found(
            lambda: self._session.budgets.describe_subscribers_for_notification(
                AccountId=self._session.identity.account, BudgetName=NAME, Notification=condition
            )
        )
        return None if answer is None else {each["Address"] for each in answer["Subscribers"]}

    def _tell(self, condition: Mapping[str, Any]) -> None:
        """The address is told then, besides whoever is already."""
        told, budgets = self._told(condition), self._session.budgets
        of = {
            "AccountId": self._session.identity.account,
            "BudgetName": NAME,
            "Notification": condition,
        }
        if told is None:
            budgets.create_notification(**of, Subscribers=[self._subscriber])
        elif self._email not in told:
            budgets.create_subscriber(**of, Subscriber=self._subscriber)

    def _delete(self) -> None:
        _found(
            lambda: self._session.budgets.delete_budget(
                AccountId=self._session.identity.account, BudgetName=NAME
            )
        )

    def _part(self, state: SetupState, detail: str = "", others: Iterable[str] = ()) -> SetupPart:
        amount = f" {usd(self._amount)}" if self._amount is not None else ""
        told = ", ".join(filter(None, (self._email, *others))) or "somebody"
        purpose = f"tells {told} when the account's month goes beyond{amount or ' it'}; free"
        return SetupPart(self.kind, NAME, purpose, state, detail)


def _found(call: Any) -> Any:
    try:
        return call()
    except Exception as error:
        if error_code(error) in _ABSENT:
            return None
        raise
