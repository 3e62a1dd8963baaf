"""Carry a plan out: sync the code, record the intent, start the attempt on the machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from runctl.agent.spec import EndReason, RunSpec
from runctl.core.clock import Clock
from runctl.core.errors import MachineError, RunctlError, Unreachable
from runctl.core.ids import RunId
from runctl.core.models import GitState, Instance, RunPhase
from runctl.core.progress import SILENT, Progress
from runctl.core.tags import NAME
from runctl.machines.machine import Machine
from runctl.runs.plan import RunPlan
from runctl.runs.refresh import as_mount, from_status
from runctl.runs.store import RunRecord, RunStore, ended


@dataclass(frozen=True)
class Synced:
    """The project tree that the run is to use on the machine."""

    digest: str


def record_of(
    spec: RunSpec,
    instance: Instance,
    now: datetime,
    region: str | None,
    *,
    name: str | None = None,
    git: GitState | None = None,
) -> RunRecord:
    """What is remembered of the run before anything has been started. Pure."""
    return RunRecord(
        id=RunId(spec.run_id),
        provider=instance.provider,
        region=region,
        instance_id=instance.id,
        project=spec.project,
        script=spec.script,
        args=spec.args,
        state=RunPhase.PENDING,
        attempt=spec.attempt,
        created_at=now,
        mounts=tuple(as_mount(mount) for mount in spec.mounts),
        image=spec.container.image if spec.container else None,
        instance_type=instance.instance_type,
        market=instance.market.value,
        price_per_hour=instance.price_per_hour,
        name=name,
        instance_name=instance.tags.get(NAME),
        interpreter=spec.interpreter,
        workdir=spec.container.workdir if spec.container else spec.workdir,
        timeout_seconds=spec.timeout_seconds,
        variables=tuple(sorted(spec.env)),
        git=git,
    )


def launch(
    plan: RunPlan,
    machine: Machine,
    store: RunStore,
    *,
    sync: Callable[[], Synced] | None,
    clock: Clock,
    region: str | None = None,
    progress: Progress = SILENT,
) -> RunRecord:
    """The attempt has been taken up by the agent, and is recorded here.

    ``sync`` brings the code over (``None``: it is not to be synced). The intent is recorded before the machine is
    told, so that a crash in between leaves something that ``runs list`` can settle. Raises `MachineError` when the
    agent refuses (nothing runs, and the record says so) and `Unreachable` when its answer was lost (the run may
    have started; the record stays open until the machine has been asked).
    """
    spec = plan.spec
    if sync is not None:
        spec = replace(spec, tree=sync().digest)
    record = record_of(spec, plan.instance, clock.now(), region, name=plan.name, git=plan.git)
    return start(record, spec, machine, store, clock=clock, progress=progress)


def start(
    record: RunRecord,
    spec: RunSpec,
    machine: Machine,
    store: RunStore,
    *,
    clock: Clock,
    progress: Progress = SILENT,
) -> RunRecord:
    """What `launch` does when nothing is to be synced any more; raises as it does."""
    store.put(record)
    progress.step(f"starting {record.id} on {record.instance_id}")
    try:
        status = machine.agent.start(spec)
    except Unreachable as error:
        raise Unreachable(
            f"{error.message}; {record.id} may have been started on {record.instance_id}",
            hint=f"runctl runs show {record.id} asks the machine",
            code=error.code,
        ) from error
    except MachineError as error:
        store.put(_not_started(record, error, clock))
        raise
    started = from_status(record, status, clock.now())
    store.put(started)
    return started


def _not_started(record: RunRecord, error: RunctlError, clock: Clock) -> RunRecord:
    return ended(record, reason=EndReason.NOT_STARTED.value, at=clock.now(), message=error.message)
