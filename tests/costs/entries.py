"""Entries of a ledger, for tests."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from runctl.costs.billing import Interval
from runctl.costs.entries import Entry, EntryKind, EntryState
from runctl.costs.rates import Per


def at(text: str) -> datetime:
    """In UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def an_entry(resource_id: str | None = "i-1", *intervals: Interval, **changes: Any) -> Entry:
    """Of a machine that ended with its last interval, or goes on."""
    end = intervals[-1].end if intervals else None
    values: dict[str, Any] = {
        "kind": EntryKind.INSTANCE,
        "provider": "aws",
        "account": "123456789012",
        "region": "us-east-1",
        "resource_id": resource_id,
        "token": f"token-of-{resource_id}",
        "opened_at": intervals[0].start if intervals else at("2026-05-01"),
        "state": EntryState.OPEN if end is None else EntryState.CLOSED,
        "intervals": intervals,
        "ended_at": end,
        "minimum_seconds": 60,
    }
    return Entry(**{**values, **changes})


def interval(start: str, end: str | None, usd: str | None, per: Per = Per.HOUR, **changes: Any) -> Interval:
    """From and to in UTC."""
    price = None if usd is None else Decimal(usd)
    return Interval(at(start), at(end) if end else None, price, per, **changes)
