"""Carry a plan out: sync the code, record the intent, start the attempt on the machine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from runctl.agent.spec import NOTICE_BY_SHUTDOWN, NOTICE_BY_SIGTERM, RunSpec
from runctl.core.clock import Clock
from runctl.core.errors import MachineError, Unreachable
from runctl.core.machine_models import Market
from runctl.core.progress import SILENT, Progress
from runctl.core.run_models import SpotFallback
from runctl.machines.machine import Machine
from runctl.runs.records.run_record import RunRecord, as_known
from runctl.runs.records.store import RunStore
from runctl.runs.records.updates import from_status, never_started, planned
from runctl.runs.stored.lent_store import bring_first_keys
from runctl.runs.train.plan import RunPlan


def launch(
    plan: RunPlan,
    machine: Machine,
    store: RunStore,
    *,
    sync: Callable[[], str] | None,
    keep: Callable[[RunSpec], AbstractContextManager[None]] = lambda _: nullcontext(),
    clock: Clock,
    region: str | None = None,
    fallback: SpotFallback | None = None,
    progress: Progress = SILENT,
) -> RunRecord:
    """The attempt has been taken up by the agent, and is recorded here.

    ``sync`` brings the code over and returns the digest of its tree (``None``: it is not to be synced). The intent is
    recorded before the machine is told, so that a crash in between leaves something that ``runs list`` can settle.
    ``keep`` keeps meanwhile what a further attempt needs; with ``fallback`` the machine was to be a spot machine.
    Raises what bringing the store's keys raises (nothing is recorded), `MachineError` when the agent refuses (nothing
    runs, and the record says so) and `Unreachable` when its answer was lost (the run may have started; the record stays
    open until the machine has been asked).
    """
    spec = plan.spec if sync is None else replace(plan.spec, tree=sync())
    # Before anything says that the run may have started.
    bring_first_keys(machine, spec)
    record = planned(
        spec,
        plan.instance,
        clock.now(),
        region,
        account=machine.provider.scope().rented_in,
        name=plan.name,
        git=plan.git,
        fallback=fallback,
    )
    known = store.find(plan.run_id)
    past = (*known.past, as_known(known)) if known is not None and known.attempt < spec.attempt else ()
    record = replace(record, results=plan.results, past=past)
    with keep(spec):
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
    """What `launch` does when nothing is to be synced or brought any more; raises as it does."""
    spec = replace(spec, notice_by=notice_by(record.market, machine.provider.announces_interruptions))
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
        store.put(never_started(record, clock.now(), error.message))
        raise
    started = from_status(record, status, clock.now())
    store.put(started)
    return started


def notice_by(market: str | None, announced: bool) -> str | None:
    """`RunSpec.notice_by` on a machine of that market; ``announced``: its provider says when it takes one back.
    Pure."""
    if announced:
        return None
    if market == Market.OWNED:
        return NOTICE_BY_SIGTERM
    return NOTICE_BY_SHUTDOWN if market == Market.SPOT else None
