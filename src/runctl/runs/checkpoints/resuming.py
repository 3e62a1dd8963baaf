"""A further attempt of a run on the machine that it was on, from the newest checkpoint that is there."""

from __future__ import annotations

from collections.abc import Mapping

from runctl._dataclasses import dataclass
from runctl.core.clock import SystemClock
from runctl.core.errors import Conflict, NotFound, Unsupported
from runctl.core.run_models import Checkpoint, CheckpointState
from runctl.machines.machine import Machine
from runctl.machines.session import Session
from runctl.providers.registry import command
from runctl.runs.asking import machine_of, refresh
from runctl.runs.checkpoints.locations import folder_of_run
from runctl.runs.records.run_record import RunRecord
from runctl.runs.records.store import run_store
from runctl.runs.records.updates import before_it_began, from_status


@dataclass(frozen=True)
class ResumePlan:
    """What `resume` is about to start."""

    record: RunRecord
    """Of the attempt before."""
    machine: Machine
    checkpoint: Checkpoint

    @property
    def attempt(self) -> int:
        """The number of the one that follows."""
        return self.record.attempt + 1


def plan_resume(session: Session, reference: str) -> ResumePlan:
    """Everything that can be wrong is found here. Raises `NotFound`, `Conflict` (codes ``run-goes-on``,
    ``no-checkpoint``), `Unsupported` for one on several machines, and what reaching the machine raises."""
    (record,) = refresh(session, [run_store(session).get(reference)])
    if not record.has_ended:
        raise Conflict(
            f"{record.id} has not ended: it is {record.state.value}",
            hint=f"runctl runs stop {record.id}",
            code="run-goes-on",
        )
    if record.nodes is not None:
        raise Unsupported(
            f"{record.id} is on several machines, which start over together",
            hint=f"after an interruption: runctl runs recover {record.id}; else a new run: --resume-from {record.id}",
        )
    try:
        machine = machine_of(session, record)
    except NotFound as error:
        train = command(record.provider, "train", "INSTANCE", record.script, "--resume-from", str(record.id))
        raise NotFound(error.message, hint=f"on another machine: {train}", code=error.code) from error
    folder = folder_of_run(session, machine, record)
    found = folder.checkpoints(session.progress) if folder is not None else ()
    whole = [each for each in found if each.state is not CheckpointState.BROKEN]
    if not whole:
        raise Conflict(
            f"{record.id} has no complete checkpoint on {record.instance_id}",
            hint=f"runctl checkpoint push FOLDER {record.id} puts one there",
            code="no-checkpoint",
        )
    return ResumePlan(record, machine, whole[0])


def resume(session: Session, plan: ResumePlan, env: Mapping[str, str]) -> RunRecord:
    """The next attempt has been taken up by the machine, as the last one was. Raises `MachineError`."""
    session.progress.step(f"starting attempt {plan.attempt} of {plan.record.id} on {plan.record.instance_id}")
    status = plan.machine.agent.restart(plan.record.id, env)
    record = from_status(before_it_began(plan.record, status.attempt), status, SystemClock().now())
    run_store(session).put(record)
    return record
