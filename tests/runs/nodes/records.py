"""Records of runs on several machines, for tests."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from runctl.agent.end_reason import EndReason
from runctl.agent.spec import EndRecord
from runctl.core.errors import Unreachable
from runctl.core.ids import InstanceId
from runctl.core.run_models import RunPhase
from runctl.runs.records.node_records import KnownNode, KnownNodes
from runctl.runs.records.run_record import RunRecord
from tests.runs.sample_runs import a_record


def on_machines(run_id: str, *machines: str, logs: tuple[bytes, ...] = (), **changes: Any) -> RunRecord:
    """Of a run that continues on these, by rank; with ``logs`` it has ended, and each has written its own."""
    ends = [
        EndRecord(EndReason.COMPLETED, 0.0, exit_code=0, log_bytes=len(log), log_sha256=checksum(log))
        for log in logs
    ]
    nodes = tuple(
        KnownNode(
            rank,
            InstanceId(machine),
            f"10.0.0.{rank + 4}",
            f"digits-{rank}",
            RunPhase.ENDED if ends else RunPhase.RUNNING,
            end=ends[rank] if ends else None,
        )
        for rank, machine in enumerate(machines)
    )
    record = a_record(run_id, machines[0], "2026-06-01 12:00", "2026-06-01 13:00" if ends else None)
    record = replace(record, nodes=KnownNodes("none", "t" * 32, len(nodes), nodes), **changes)
    return replace(record, end_reason=EndReason.COMPLETED) if ends else record


class Nobody:
    """A provider that says nothing of any machine."""

    name = "aws"

    def instance(self, _: InstanceId) -> Any:
        raise Unreachable("the provider does not answer")


def checksum(log: bytes) -> str:
    """As an end record has it."""
    return hashlib.sha256(log).hexdigest()
