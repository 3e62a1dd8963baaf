"""AWS Budgets: what moto leaves out, which is who is told."""

from __future__ import annotations

import json
from typing import Any

from moto.budgets.exceptions import NotFoundException
from moto.budgets.responses import BudgetsResponse


def install() -> None:
    """DescribeSubscribersForNotification is answered."""
    BudgetsResponse.describe_subscribers_for_notification = _describe_subscribers  # type: ignore[attr-defined]


def _describe_subscribers(self: Any) -> str:
    budget = self.backend.budgets[self._get_param("AccountId")].get(self._get_param("BudgetName"))
    wanted = self._get_param("Notification")
    for notification in budget.notifications if budget is not None else ():
        if all(notification.details.get(key) == value for key, value in wanted.items()):
            return json.dumps({"Subscribers": notification.subscribers})
    raise NotFoundException("Unable to get subscribers: the notification doesn't exist.")
