"""``status`` and ``list``: an attempt as it is now; what cannot be seen is said to be lost only when it is gone."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runctl.agent.attempt.log import Log, digest
from runctl.agent.checkpoint_spec import CheckpointStatus
from runctl.agent.end_reason import EndReason
from runctl.agent.machine import durable, processes
from runctl.agent.records import AttemptFolder, Live, attempts, find
from runctl.agent.spec import AttemptStatus, EndRecord, RunSpec, RunState

ORPHANED = "its supervisor is gone; the script goes on, its exit code will not be known"
START_SECONDS = 60.0
"""An attempt without a supervisor after this time was never started."""


def status(request: Mapping[str, Any]) -> AttemptStatus | list[AttemptStatus]:
    """One attempt (the newest of the run if none is named), or all on this machine when no run is named."""
    if request.get("run_id") is None:
        return [_measured(status) for status in _observed(request)]
    return _measured(observe(find(request)))


def list_attempts(request: Mapping[str, Any]) -> list[AttemptStatus]:
    """All attempts, or those that run when ``running`` is true, with what they use just now."""
    found = _observed(request)
    live = [status for status in found if status.pid is not None and status.state is not RunState.ENDED]
    if not live:
        return found
    busy = _gpu_percent()
    interval = float(request.get("sample_seconds", 0.2))
    began = time.monotonic()
    before = _cpu_seconds(live)
    time.sleep(interval)
    after, elapsed = _cpu_seconds(live), time.monotonic() - began
    measured = {}
    for status in live:
        key = (status.run_id, status.attempt)
        percent = round(100 * max(0.0, after[key] - before[key]) / elapsed, 1)
        measured[key] = dataclasses.replace(_measured(status, busy), cpu_percent=percent)
    return [measured.get((status.run_id, status.attempt), status) for status in found]


def _observed(request: Mapping[str, Any]) -> list[AttemptStatus]:
    found = [observe(attempt) for attempt in attempts(request.get("run_id"))]
    return (
        [status for status in found if status.state is not RunState.ENDED]
        if request.get("running")
        else found
    )


def _cpu_seconds(live: list[AttemptStatus]) -> dict[Any, float]:
    now = processes.table()
    return {
        (status.run_id, status.attempt): sum(p.cpu_seconds for p in _tree(status.pid or 0, now))
        for status in live
    }


def _tree(pid: int, now: dict[int, processes.Process]) -> list[processes.Process]:
    return [*([now[pid]] if pid in now else []), *processes.descendants(pid, now)]


def _gpu_percent() -> float | None:
    from runctl.agent.machine.gpus import gpus, mean_percent

    return mean_percent(gpus())


def _measured(status: AttemptStatus, gpu_percent: float | None = None) -> AttemptStatus:
    """With memory, and CPU as the mean since the start."""
    if status.pid is None or status.state is RunState.ENDED:
        return status
    members = _tree(status.pid, processes.table())
    elapsed = time.time() - status.started_at if status.started_at else 0.0
    spent = sum(p.cpu_seconds for p in members)
    return dataclasses.replace(
        status,
        rss_bytes=sum(p.rss_bytes for p in members),
        cpu_percent=round(100 * spent / elapsed, 1) if elapsed > 0 else None,
        cpu_seconds=round(spent, 2),
        gpu_percent=gpu_percent if gpu_percent is not None else _gpu_percent(),
    )


def observe(folder: AttemptFolder) -> AttemptStatus:
    """The attempt as it is now. One whose supervisor has gone for good is given its end record here."""
    spec = folder.spec() or RunSpec(folder.run_id, "")
    end, live, phase = conclude_if_gone(folder)
    return AttemptStatus(
        run_id=folder.run_id,
        attempt=folder.attempt,
        state=RunState.ENDED if end is not None else live.state,
        script=spec.script,
        args=spec.args,
        project=spec.project,
        phase="" if end is not None else phase,
        created_at=live.created_at or None,
        started_at=live.started_at,
        pid=live.script.pid if live.script is not None and processes.alive(live.script) else None,
        container_id=live.container_id,
        image=live.image,
        image_digest=live.image_digest,
        log_bytes=end.log_bytes if end is not None else folder.log_bytes(),
        mounts=spec.mounts,
        checkpoint_dir=live.checkpoint_dir,
        output_dir=live.output_dir,
        saved=live.saved,
        rebalance_at=live.rebalance_at,
        machine_ends_at=live.machine_ends_at,
        checkpoint=_newest_checkpoint(folder, spec, live, end),
        resumed=live.resumed,
        progress=folder.progress(),
        machine_end=spec.machine_end,
        rank=spec.node.rank if spec.node is not None else None,
        nodes=spec.node.count if spec.node is not None else 1,
        orphaned=end is None and live.supervisor is not None and not processes.alive(live.supervisor),
        end=end,
        now=time.time(),
    )


def _newest_checkpoint(
    folder: AttemptFolder, spec: RunSpec, live: Live, end: EndRecord | None
) -> CheckpointStatus | None:
    """What the store has, else what is on the disk; of a run that has ended what was found at its end."""
    known = folder.checkpoint()
    if live.checkpoint_dir is None or live.started_at is None:
        return known
    if end is not None:
        from runctl.agent.checkpoints.choosing import status_of

        found = status_of(Path(live.checkpoint_dir)) if known is None and spec.store is None else None
        # What is newer is a later attempt's.
        return found if found is not None and found.saved_at <= end.ended_at else known
    if known is None and spec.store is None:
        from runctl.agent.checkpoints.choosing import status_of

        known = status_of(Path(live.checkpoint_dir))
    schedule = spec.checkpoint_schedule
    if schedule is None:
        return known
    from runctl.agent.checkpoints.schedule import late_seconds

    newest = max(live.started_at, known.saved_at if known is not None else 0.0)
    late = late_seconds(time.time(), newest, live.checkpoint_every or schedule.every_seconds or 0.0)
    if not late:
        return known
    return dataclasses.replace(known or CheckpointStatus("", 0.0), late_seconds=round(late, 1))


def conclude_if_gone(folder: AttemptFolder) -> tuple[EndRecord | None, Live, str]:
    """The end if there is one, the state, and the phase in words."""
    end, live = folder.end(), folder.live()
    if end is not None or processes.alive(live.supervisor):
        return end, live, live.phase
    # It may have written its end, or its first state, between our two looks.
    end, live = folder.end(), folder.live()
    if end is not None or processes.alive(live.supervisor):
        return end, live, live.phase
    if live.supervisor is None and time.time() - live.created_at < START_SECONDS:
        return None, live, live.phase
    with durable.locked(folder.lock):
        end = folder.end()
        if end is not None:
            return end, live, ""
        if processes.alive(live.script) or processes.alive(live.follower):
            return None, live, ORPHANED
        return _conclude(folder, live)


def _conclude(folder: AttemptFolder, live: Live) -> tuple[EndRecord | None, Live, str]:
    if live.container_id is not None:
        from runctl.agent.containers.orphaned_container import forget, inspect_orphan

        container = inspect_orphan(live)
        if container.running or container.unknown:
            return None, live, container.message
        if container.reason is not None:
            end = write_end_for(folder, container.reason, container.message, exit_code=container.exit_code)
            forget(live)
            return end, live, ""
    end = write_end_for(folder, EndReason.LOST, _why_lost(live))
    if live.compose_project is not None:
        from runctl.agent.containers.orphaned_container import forget

        forget(live)
    return end, live, ""


def _why_lost(live: Live) -> str:
    if live.supervisor is None:
        return "the run was never started: the agent ended while it was starting it"
    if live.supervisor.boot != processes.boot_id():
        return "the machine restarted while the run was going on; how the script ended is not known"
    return (
        f"the run's supervisor (process {live.supervisor.pid}) was killed; how the script ended is not known"
    )


def write_end_for(
    folder: AttemptFolder, reason: EndReason, message: str, exit_code: int | None = None
) -> EndRecord:
    """Write the end in a dead supervisor's place. The caller holds the attempt's lock."""
    log = Log(folder.log)
    with contextlib.suppress(OSError):
        log.line(f"{reason.value}: {message}")
    log.close()
    length, checksum = digest(folder.log)
    end = EndRecord(
        reason=reason,
        ended_at=time.time(),
        exit_code=exit_code,
        message=message,
        log_bytes=length,
        log_sha256=checksum,
    )
    live = folder.live()
    if live.saved is not None and live.checkpoint_dir is not None:
        from runctl.agent.supervising.log_copy import complete_copy

        kept = dataclasses.replace(end, log_kept=True)
        complete = complete_copy(folder.log, Path(live.checkpoint_dir).parent, folder.attempt, kept)
        end = kept if complete else dataclasses.replace(end, log_kept=False)
    folder.write_end(end)
    return end
