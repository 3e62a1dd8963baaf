"""What ended runs still keep, on this computer and on machines, and what of it may go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum

from runctl._dataclasses import dataclass
from runctl.core.errors import RunctlError
from runctl.core.ids import InstanceId, RunId
from runctl.core.machine_models import InstanceState
from runctl.machines.machine import reach
from runctl.machines.session import Session
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store
from runctl.runs.run_logs.archive import KeptRun, log_archive
from runctl.runs.stored.stored_data import store_of
from runctl.transport.agent import AgentClient


class Kept(StrEnum):
    """What is kept of a run."""

    LOG = "log"
    """A copy of its log, on this computer."""
    WORK = "work"
    """Its log, environment and copy of the project, on the machine."""
    RESULTS = "results"
    """Checkpoints and output that are on the machine's own disk."""
    RECORD = "record"
    """What ``runs show`` knows."""


@dataclass(frozen=True)
class MachineRun:
    """What a machine keeps of one run."""

    run_id: str
    ended: bool
    work_bytes: int
    result_bytes: int


@dataclass(frozen=True)
class Prunable:
    """One thing that may go."""

    run_id: str
    kept: Kept
    where: str
    """The instance's id, or ``here``."""
    size_bytes: int
    ended_at: datetime | None


HERE = "here"
_SHOWN = 3


def prunable(
    records: Sequence[RunRecord],
    archive: Sequence[KeptRun],
    machines: Mapping[InstanceId, Sequence[MachineRun]],
    *,
    before: datetime,
    results: bool = False,
    record: bool = False,
) -> tuple[Prunable, ...]:
    """What ended ``before`` a moment, by run. Pure.

    Never what goes on, and never what this computer knows no run of: somebody else's. Checkpoints and output only with
    ``results``, and then only those of a machine's own disk; the record only with ``record``.
    """
    found: list[Prunable] = []
    logs = {kept.run_id: kept for kept in archive}
    for run in records:
        if not run.has_ended or run.ended_at is None or run.ended_at >= before:
            continue
        log = logs.pop(run.id, None)
        if log is not None:
            found.append(Prunable(run.id, Kept.LOG, HERE, log.size_bytes, run.ended_at))
        for machine, there in ((each, kept) for each in run.machines for kept in machines.get(each, ())):
            if there.run_id != run.id or not there.ended:
                continue
            where = str(machine)
            if there.work_bytes:
                found.append(Prunable(run.id, Kept.WORK, where, there.work_bytes, run.ended_at))
            if results and there.result_bytes:
                found.append(Prunable(run.id, Kept.RESULTS, where, there.result_bytes, run.ended_at))
        if record:
            found.append(Prunable(run.id, Kept.RECORD, HERE, 0, run.ended_at))
    known = {run.id for run in records}
    for kept in logs.values():
        # Its record is gone: the log is all that is known of it.
        changed = datetime.fromtimestamp(kept.changed_at, UTC)
        if kept.run_id not in known and changed < before:
            found.append(Prunable(kept.run_id, Kept.LOG, HERE, kept.size_bytes, None))
    return tuple(found)


def left_in_stores(records: Sequence[RunRecord], found: Sequence[Prunable]) -> str:
    """What is said of runs that are about to be forgotten, and publish into a store; empty without one. Pure."""
    forgotten = {item.run_id for item in found if item.kept is Kept.RECORD}
    stores = [store for run in records if run.id in forgotten and (store := store_of(run)) is not None]
    if not stores:
        return ""
    shown = ", ".join(stores[:_SHOWN]) + (f" and {len(stores) - _SHOWN} more" if len(stores) > _SHOWN else "")
    return f"what is at {shown} stays, and is billed as long as it is there"


class Pruning:
    """Finds what ended runs keep, and removes it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._agents: dict[InstanceId, AgentClient] = {}
        """On the machines that were asked."""

    def find(
        self,
        *,
        before: datetime,
        instance: InstanceId | None = None,
        results: bool = False,
        records: bool = False,
    ) -> tuple[Prunable, ...]:
        """What may go, by `prunable`; with ``instance`` only what that machine keeps.

        Machines that run are asked what they keep; one that cannot be asked is told of.
        """
        known = run_store(self._session).list(instance=instance)
        machines = {
            (run.provider, run.region, machine)
            for run in known
            if run.has_ended
            for machine in run.machines
            if instance in {None, machine}
        }
        found = prunable(
            known,
            () if instance is not None else log_archive().runs(),
            self._ask(machines),
            before=before,
            results=results,
            record=records,
        )
        told = left_in_stores(known, found)
        if told:
            self._session.progress.note(told)
        return found

    def _ask(self, machines: set[tuple[str, str | None, InstanceId]]) -> dict[InstanceId, list[MachineRun]]:
        kept: dict[InstanceId, list[MachineRun]] = {}
        for provider, region, identifier in sorted(machines, key=str):
            there = self._session.in_region(region)
            try:
                instance = there.provider(provider).instance(identifier)
                if instance.state is not InstanceState.RUNNING:
                    continue
                there.progress.step(f"asking {identifier} what it keeps")
                agent = reach(there, instance).agent
                kept[identifier] = [MachineRun(**entry) for entry in agent.kept_runs()]
                self._agents[identifier] = agent
            except RunctlError as error:
                if error.code not in {"instance-not-found", "not-found"}:
                    there.progress.warn(f"{identifier} cannot be asked what it keeps: {error.message}")
        return kept

    def remove(self, found: Sequence[Prunable]) -> None:
        """All of it is gone. Raises what the machines raise."""
        on_machines: dict[InstanceId, dict[str, bool]] = defaultdict(dict)
        for item in found:
            if item.kept in {Kept.WORK, Kept.RESULTS}:
                runs = on_machines[InstanceId(item.where)]
                runs[item.run_id] = runs.get(item.run_id, False) or item.kept is Kept.RESULTS
        for identifier, runs in on_machines.items():
            self._session.progress.step(f"removing from {identifier}")
            for results in (False, True):
                names = [run_id for run_id, includes_results in runs.items() if includes_results is results]
                if names:
                    self._agents[identifier].prune(names, results=results)
        archive, store = log_archive(), run_store(self._session)
        for item in found:
            if item.kept is Kept.LOG:
                archive.remove(item.run_id)
            elif item.kept is Kept.RECORD:
                store.forget(RunId(item.run_id))
