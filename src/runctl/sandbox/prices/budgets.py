"""Budgets: what moto leaves out, changing one, and whom it tells."""

from __future__ import annotations

import json
from typing import Any

from moto.budgets.exceptions import DuplicateRecordException, NotFoundException
from moto.budgets.models import Budget, Notification
from moto.budgets.responses import BudgetsResponse


def install() -> None:
    """The calls are answered. After the API reference of Budgets."""
    BudgetsResponse.update_budget = _update  # type: ignore[attr-defined]
    BudgetsResponse.describe_subscribers_for_notification = _describe_subscribers  # type: ignore[attr-defined]
    BudgetsResponse.create_subscriber = _create_subscriber  # type: ignore[attr-defined]


def _update(self: Any) -> str:
    """All that can be set is replaced; whom it tells stays."""
    new = self._get_param("NewBudget")
    budget = _budget(self, new["BudgetName"])
    budgets = self.backend.budgets[self._get_param("AccountId")]
    changed = Budget(new, [])
    changed.notifications = budget.notifications
    budgets[new["BudgetName"]] = changed
    return "{}"


def _describe_subscribers(self: Any) -> str:
    return json.dumps({"Subscribers": _notification(self).subscribers})


def _create_subscriber(self: Any) -> str:
    notification, subscriber = _notification(self), self._get_param("Subscriber")
    subscribers: Any = notification.subscribers
    if subscriber in subscribers:
        raise DuplicateRecordException("subscriber", subscriber["Address"])
    subscribers.append(subscriber)
    return "{}"


def _budget(self: Any, name: str) -> Budget:
    budget: Budget | None = self.backend.budgets[self._get_param("AccountId")].get(name)
    if budget is None:
        raise NotFoundException(f"Unable to find budget: {name} - the budget doesn't exist.")
    return budget


def _notification(self: Any) -> Notification:
    wanted = self._get_param("Notification")
    for notification in _budget(self, self._get_param("BudgetName")).notifications:
        if all(notification.details.get(key) == value for key, value in wanted.items()):
            return notification
    raise NotFoundException("Unable to find the notification: it doesn't exist.")
