"""Runs and attempts as text for people."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from runctl.agent.spec import AttemptStatus
from runctl.core.models import Run
from runctl.core.money import usd
from runctl.render.sizes import size
from runctl.render.tables import details, table
from runctl.render.things import duration


def runs_table(runs: Sequence[Run], *, bold: bool = False) -> str:
    """One line a run."""
    if not runs:
        return ""
    rows = [
        [
            run.id,
            run.state.value,
            run.end_reason,
            None if run.exit_code is None else str(run.exit_code),
            run.instance_id,
            run.script,
            f"{run.started_at:%Y-%m-%d %H:%M}" if run.started_at else None,
            None if run.elapsed_seconds is None else duration(timedelta(seconds=run.elapsed_seconds)),
            None if run.cost is None else usd(run.cost),
        ]
        for run in runs
    ]
    headers = ["ID", "STATE", "END", "CODE", "INSTANCE", "SCRIPT", "STARTED (UTC)", "TIME", "COST"]
    return table(headers, rows, right=("CODE", "TIME", "COST"), bold=bold)


def run_details(run: Run, *, message: str, checkpoint_dir: str | None, output_dir: str | None) -> str:
    """Everything about one run."""
    fields: dict[str, str | None] = {
        "id": run.id,
        "state": run.state.value,
        "end": " ".join(filter(None, [run.end_reason, f"({message})" if message else None])) or None,
        "exit code": None if run.exit_code is None else str(run.exit_code),
        "instance": f"{run.instance_id} ({run.provider})",
        "script": run.script,
        "arguments": shlex.join(run.args) or None,
        "attempt": str(run.attempt),
        "image": run.image,
        "started": f"{run.started_at:%Y-%m-%d %H:%M:%S} UTC" if run.started_at else None,
        "ended": f"{run.ended_at:%Y-%m-%d %H:%M:%S} UTC" if run.ended_at else None,
        "checkpoints": checkpoint_dir,
        "output": output_dir,
        "cost": None if run.cost is None else f"{usd(run.cost)} for the instance so far",
    }
    mounts = [
        [mount.source, mount.target, "ro" if mount.read_only else "rw", mount.volume_id, mount.origin]
        for mount in run.mounts
    ]
    text = details(fields)
    return text + ("\n\n" + table(["SOURCE", "TARGET", "MODE", "VOLUME", "FROM"], mounts) if mounts else "")


def attempts_table(attempts: Sequence[AttemptStatus]) -> str:
    """One line an attempt on one machine."""
    if not attempts:
        return ""
    rows = [
        [
            status.run_id,
            status.state.value.lower().replace("_", "-"),
            None if status.pid is None else str(status.pid),
            None if status.cpu_percent is None else f"{status.cpu_percent:.0f}%",
            None if status.rss_bytes is None else size(status.rss_bytes),
            None if status.gpu_percent is None else f"{status.gpu_percent:.0f}%",
            _age(status),
            shlex.join([status.script, *status.args]),
        ]
        for status in attempts
    ]
    headers = ["RUN", "STATE", "PID", "CPU", "MEMORY", "GPU", "TIME", "SCRIPT"]
    return table(headers, rows, right=("PID", "CPU", "MEMORY", "GPU", "TIME"))


def attempt_document(status: AttemptStatus) -> Mapping[str, Any]:
    """An attempt in the JSON contract's words."""
    return {
        "run_id": status.run_id,
        "attempt": status.attempt,
        "state": status.state.value.lower().replace("_", "-"),
        "phase": status.phase,
        "script": status.script,
        "args": status.args,
        "pid": status.pid,
        "container_id": status.container_id,
        "cpu_percent": status.cpu_percent,
        "rss_bytes": status.rss_bytes,
        "gpu_percent": status.gpu_percent,
        "started_at": datetime.fromtimestamp(status.started_at, UTC) if status.started_at else None,
        "end_reason": status.end.reason.value if status.end else None,
        "exit_code": status.end.exit_code if status.end else None,
    }


def _age(status: AttemptStatus) -> str | None:
    if status.started_at is None:
        return None
    until = status.end.ended_at if status.end else status.now or status.started_at
    return duration(timedelta(seconds=until - status.started_at))
