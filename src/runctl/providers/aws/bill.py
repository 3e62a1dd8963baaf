"""What AWS has billed, by Cost Explorer (``ce:GetCostAndUsage``)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from runctl.core.progress import SILENT, Progress
from runctl.core.tags import OWNED, OWNED_VALUE
from runctl.providers.abilities.bill import Bill, BilledAmount
from runctl.providers.aws.calls.errors import raising_our_errors
from runctl.providers.aws.context import AwsContext

_KINDS = (
    (r"BoxUsage|SpotUsage|DedicatedUsage", "instance"),
    (r"EBS:Volume", "volume"),
    (r"EBS:Snapshot", "snapshot"),
    (r"PublicIPv4", "address"),
    (r"DataTransfer|-Bytes$", "traffic"),
    (r"TimedStorage", "storage"),
    (r"Requests", "requests"),
)
"""By a part of the usage type; see "Understanding your AWS billing and usage reports" of the S3 and EC2 user guides."""


@raising_our_errors
class AwsBill(Bill):
    """Unblended costs, by day and usage type."""

    asks_for_usd = Decimal("0.01")
    hint = f"activate the cost allocation tag {OWNED} in the Billing console; it counts from then on, a day later"

    def __init__(self, context: AwsContext) -> None:
        self._context = context

    def amounts(
        self, since: datetime, until: datetime, progress: Progress = SILENT
    ) -> tuple[BilledAmount, ...]:
        """Every page of GetCostAndUsage."""
        progress.step("asking Cost Explorer")
        request: dict[str, Any] = {
            "TimePeriod": {"Start": f"{since:%Y-%m-%d}", "End": f"{until:%Y-%m-%d}"},
            "Granularity": "DAILY",
            "Metrics": ["UnblendedCost"],
            "Filter": {"Tags": {"Key": OWNED, "Values": [OWNED_VALUE]}},
            "GroupBy": [{"Type": "DIMENSION", "Key": "USAGE_TYPE"}],
        }
        found: list[BilledAmount] = []
        while True:
            answer = self._context.session.cost_explorer.get_cost_and_usage(**request)
            for day in answer["ResultsByTime"]:
                found += amounts_of(day)
            if not answer.get("NextPageToken"):
                return tuple(found)
            request["NextPageToken"] = answer["NextPageToken"]


def amounts_of(day: Mapping[str, Any]) -> Iterator[BilledAmount]:
    """What one of ``ResultsByTime`` says. Pure."""
    for group in day.get("Groups", ()):
        (usage,) = group["Keys"]
        usd = Decimal(group["Metrics"]["UnblendedCost"]["Amount"])
        if usd:
            yield BilledAmount(
                day["TimePeriod"]["Start"], kind_of(usage), usage, usd, bool(day.get("Estimated"))
            )


def kind_of(usage: str) -> str:
    """What a usage type is about. Pure."""
    return next((kind for pattern, kind in _KINDS if re.search(pattern, usage)), "other")
