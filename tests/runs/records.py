"""A run as this computer remembers it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from runctl.core.ids import InstanceId, RunId, VolumeId
from runctl.core.models import Mount, RunPhase
from runctl.runs.records import RunRecord

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
