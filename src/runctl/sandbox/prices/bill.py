"""Cost Explorer: what moto leaves out, GetCostAndUsage from what was metered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any

from moto.ce.responses import CostExplorerResponse

from runctl.sandbox.prices.meter import Meter, now

_LAST_DIGIT = Decimal("0.0000000001")


def install(meter: Meter) -> None:
    """GetCostAndUsage is answered from what was metered."""

    def answer(self: Any) -> tuple[int, dict[str, str], str]:
        content = {"Content-Type": "application/x-amz-json-1.1"}
        return 200, content, json.dumps(cost_and_usage(meter, json.loads(self.body)))

    CostExplorerResponse.get_cost_and_usage = answer  # type: ignore[method-assign, assignment]


def cost_and_usage(meter: Meter, request: Mapping[str, Any]) -> dict[str, Any]:
    """The API's answer, by the day, by usage type, for a filter of one tag."""
    since, until = (_date(request["TimePeriod"][key]) for key in ("Start", "End"))
    asked = request.get("Filter", {}).get("Tags")

    def wanted(tags: Mapping[str, str]) -> bool:
        return asked is None or tags.get(asked["Key"]) in asked["Values"]

    days = meter.days(since, until, wanted)
    results = []
    moment = since
    while moment < until:
        following = moment + timedelta(days=1)
        groups = days.get(f"{moment:%Y-%m-%d}", {})
        results.append(
            {
                "TimePeriod": {"Start": f"{moment:%Y-%m-%d}", "End": f"{following:%Y-%m-%d}"},
                "Total": {},
                "Groups": [
                    {"Keys": [usage], "Metrics": {"UnblendedCost": {"Amount": _text(usd), "Unit": "USD"}}}
                    for usage, usd in sorted(groups.items())
                ],
                "Estimated": following > now() - timedelta(days=1),
            }
        )
        moment = following
    return {
        "GroupDefinitions": request.get("GroupBy", []),
        "ResultsByTime": results,
        "DimensionValueAttributes": [],
    }


def _date(text: str) -> datetime:
    return datetime.fromisoformat(text[:10]).replace(tzinfo=UTC)


def _text(usd: Fraction) -> str:
    amount = Decimal(usd.numerator) / Decimal(usd.denominator)
    return format(amount.quantize(_LAST_DIGIT, rounding=ROUND_HALF_EVEN), "f")
