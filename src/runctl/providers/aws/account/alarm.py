"""A budget of AWS Budgets on what the whole account spends in a month: it tells somebody, and stops nothing."""

from __future__ import annotations

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
        if self._email is not None and self._email not in self._addresses():
            return self._part(SetupState.INCOMPLETE, f"{self._email} is not told yet")
        return self._part(SetupState.READY)

    def inspect_for_removal(self) -> SetupPart:
        """Whether there is one."""
        return self._part(SetupState.MISSING if self._find() is None else SetupState.READY)

    def create(self, progress: Progress) -> None:
        """It is there; one with other values is replaced."""
        progress.step(f"creating the budget alarm {NAME}")
        if self._find() is not None:
            self._delete()
        subscribers = [{"SubscriptionType": "EMAIL", "Address": self._email}]
        self._session.budgets.create_budget(
            AccountId=self._session.identity.account,
            Budget={
                "BudgetName": NAME,
                "BudgetLimit": {"Amount": str(self._amount), "Unit": "USD"},
                "TimeUnit": "MONTHLY",
                "BudgetType": "COST",
            },
            NotificationsWithSubscribers=[
                {
                    "Notification": {
                        "NotificationType": kind,
                        "ComparisonOperator": "GREATER_THAN",
                        "Threshold": share,
                        "ThresholdType": "PERCENTAGE",
                    },
                    "Subscribers": subscribers,
                }
                for kind, share in (("ACTUAL", SHARE), ("FORECASTED", 100))
            ],
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

    def _addresses(self) -> set[str]:
        of = {"AccountId": self._session.identity.account, "BudgetName": NAME}
        budgets = self._session.budgets
        notifications = budgets.describe_notifications_for_budget(**of)["Notifications"]
        return {
            subscriber["Address"]
            for notification in notifications
            for subscriber in _found(
                lambda notification=notification: budgets.describe_subscribers_for_notification(
                    **of, Notification=notification
                )["Subscribers"]
            )
            or ()
        }

    def _delete(self) -> None:
        _found(
            lambda: self._session.budgets.delete_budget(
                AccountId=self._session.identity.account, BudgetName=NAME
            )
        )

    def _part(self, state: SetupState, detail: str = "") -> SetupPart:
        amount = f" {usd(self._amount)}" if self._amount is not None else ""
        purpose = (
            f"tells {self._email or 'somebody'} when the account's month goes beyond{amount or ' it'}; free"
        )
        return SetupPart(self.kind, NAME, purpose, state, detail)


def _found(call: Any) -> Any:
    try:
        return call()
    except Exception as error:
        if error_code(error) in _ABSENT:
            return None
        raise
