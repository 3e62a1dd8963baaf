"""Records of runs, for tests."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from runctl.core.ids import InstanceId, RunId
from runctl.core.models import RunPhase
from runctl.runs.records import RunRecord
from tests.costs.entries import at


def a_record(run_id: str, instance: str, start: str, end: str | None, **changes: Any) -> RunRecord:
    """Of a run that worked on the instance; without an end it goes on."""
    record = RunRecord(
        id=RunId(run_id),
        provider="aws",
        region="us-east-1",
        instance_id=InstanceId(instance),
        project="digits",
        script="train.py",
        args=(),
        state=RunPhase.ENDED if end else RunPhase.RUNNING,
        attempt=1,
        created_at=at(start),
        ended_at=at(end) if end else None,
        price_per_hour=Decimal("0.5"),
    )
    return replace(record, **changes)
