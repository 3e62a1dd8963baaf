"""Runs as this computer remembers them, for tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from runctl.core.ids import InstanceId, RunId, VolumeId
from runctl.core.machine_models import Mount
from runctl.core.run_models import RunPhase
from runctl.runs.records.run_record import RunRecord
from tests.costs.entries import at

T0 = datetime(2026, 5, 1, 12, tzinfo=UTC)


def a_run(identifier: str = "run-aaaa", **changes: object) -> RunRecord:
    record = RunRecord(
        id=RunId(identifier),
        provider="aws",
        region="us-east-1",
        instance_id=InstanceId("i-0abc"),
        project="digits-1a2b",
        script="training/train.py",
        args=("--name", "two words", "", "--", "ü"),
        state=RunPhase.RUNNING,
        attempt=1,
        created_at=T0,
        mounts=(Mount("/mnt/data", "/data", True, VolumeId("vol-1"), "--ebs-mount"),),
        price_per_hour=Decimal("0.123456"),
    )
    return replace(record, **changes)  # type: ignore[arg-type]


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
